//! The kept inputs of the fuzzer, and the recorded hellos of real clients, under the fuzzer's
//! properties: an input that once broke something stays tested without the fuzzer.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure, as it should be"
)]

#[path = "../fuzz/properties/mod.rs"]
mod properties;

use std::fs;
use std::path::Path;

/// Every file of a directory, by name; there must be so many at least.
fn inputs(directory: &str, least: usize) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let files = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
    let mut inputs: Vec<_> =
        files.map(|path| (path.display().to_string(), fs::read(&path).unwrap())).collect();
    inputs.sort();
    assert!(inputs.len() >= least, "{} of {least} inputs in {directory:?}", inputs.len());
    inputs
}

/// Checks each input; names those that break a property, all of them.
fn all_hold(inputs: &[(String, Vec<u8>)], check: fn(&[u8])) {
    let broken =
        |(_, bytes): &&(String, Vec<u8>)| std::panic::catch_unwind(|| check(bytes)).is_err();
    let broken: Vec<_> = inputs.iter().filter(broken).map(|(name, _)| name).collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn kept_hellos() {
    all_hold(&inputs("fuzz/corpus/hello", 20), properties::hello::check);
    all_hold(&inputs("tests/hellos", 20), properties::hello::check);
}

#[test]
fn kept_configurations() {
    all_hold(&inputs("fuzz/corpus/config", 10), properties::config::check);
    let golden = inputs("tests/golden/config", 10);
    let golden: Vec<_> = golden.into_iter().filter(|(name, _)| name.ends_with(".toml")).collect();
    all_hold(&golden, properties::config::check);
}

#[test]
fn kept_segments() {
    all_hold(&inputs("fuzz/corpus/audit", 8), properties::audit::check);
}
