//! A segment of an audit log as a broken disk, or somebody, may leave it.

use std::fs;
use std::path::Path;

use sluicegate::audit::verify::{Anchors, Verdict, verify};
use sluicegate::audit::{PublicKey, read};

/// Reading gives back exactly the whole lines, in one segment or in two, and the check of the chain
/// says something about any of it.
pub(crate) fn check(bytes: &[u8]) {
    let directory = tempfile::tempdir().expect("a directory");
    let directory = directory.path();
    let mut expected: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let torn = expected.pop().unwrap_or_default();

    write(directory, 1, bytes);
    assert_eq!(lines(directory), (owned(&expected), torn.len() as u64));
    prove(directory);

    // The first half of the lines, and the rest behind it in a segment of its own.
    let half = expected.len() / 2;
    let at = expected.iter().take(half).map(|line| line.len() + 1).sum();
    let (before, behind) = bytes.split_at(at);
    write(directory, 1, before);
    write(directory, half + 1, behind);
    if half > 0 {
        assert_eq!(lines(directory), (owned(&expected), torn.len() as u64));
        prove(directory);
    }
}

/// Without the log's keys nothing is ever proven.
fn prove(directory: &Path) {
    let key = "sluicegate-audit-ed25519 11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo= x";
    let key = PublicKey::parse_file(key).expect("a public key");
    let report = verify(directory, &key, &Anchors::default());
    assert_ne!(report.result, Verdict::Intact, "{report:?}");
}

fn owned(lines: &[&[u8]]) -> Vec<Vec<u8>> {
    lines.iter().map(|line| line.to_vec()).collect()
}

fn write(directory: &Path, first: usize, bytes: &[u8]) {
    let path = directory.join(format!("flow-{first:020}.ndjson"));
    fs::write(path, bytes).expect("a writable directory");
}

/// All lines, and the bytes behind the last whole one.
fn lines(directory: &Path) -> (Vec<Vec<u8>>, u64) {
    let mut lines = read::lines(directory).expect("a readable directory");
    let mut all = Vec::new();
    while let Some(line) = lines.next_line().expect("a readable segment") {
        all.push(line.bytes.to_vec());
    }
    let torn = lines.torn_bytes();
    (all, torn)
}
