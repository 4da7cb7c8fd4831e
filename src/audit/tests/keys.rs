//! Checkpoints and keys: when they come, and that no crash loses or forges one.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::super::keys::{CERTIFICATES, KeyInForce, KeyPlace, Keyring};
use super::super::sign::{Context, PublicKey, Signed};
use super::super::{Audit, Disk, Tuning, pinned_key};
use super::{codes, content, options, records, start, start_on, system_codes, whole_flow};

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

/// Every signed line is of the key of its time, and only system records are signed.
fn assert_signed(directory: &Path) {
    let mut key = pinned_key(directory).unwrap();
    let mut lines = super::read::lines(directory).unwrap();
    while let Some(line) = lines.next_line().unwrap() {
        let record: Value = serde_json::from_slice(line.bytes).unwrap();
        let signed = Signed::parse(Context::Line, line.bytes);
        assert_eq!(signed.is_some(), record["class_uid"] == 6002, "{record}");
        assert!(signed.is_none_or(|signed| signed.is_by(&key, Context::Line)), "{record}");
        if record["status_code"] == "key" {
            let public = record["unmapped"]["system"]["public"].as_str().unwrap();
            key = PublicKey::parse(public).unwrap();
        }
    }
}

#[test]
fn a_checkpoint_comes_with_lines_with_time_and_at_the_ends() {
    let directory = tempfile::tempdir().unwrap();
    let tuning = Tuning { checkpoint_lines: 4, ..Tuning::default() };
    let audit = start_on(directory.path(), Disk, tuning);
    (0..8).for_each(|_| whole_flow(&audit));
    audit.close();
    assert_signed(directory.path());
    let all = records(directory.path());
    let mut since = 0;
    for record in &all {
        if record["status_code"] == "checkpoint" {
            let facts = &record["unmapped"]["system"];
            assert_eq!(facts["records"], since, "{record}");
            assert_eq!(facts["head"], record["unmapped"]["chain"]["prev"]);
            since = 0;
        } else {
            since += 1;
        }
        assert!(since <= 4);
    }
    assert_eq!(since, 0, "the last line is a checkpoint");

    // Without any flow, time alone brings them.
    let tuning = Tuning { checkpoint_every: Duration::from_millis(1), ..Tuning::default() };
    let audit = start_on(directory.path(), Disk, tuning);
    let before = audit.status().seq;
    while audit.status().seq < before + 5 {
        std::thread::yield_now();
    }
    audit.close();
    assert_signed(directory.path());
    assert_eq!(codes(directory.path()).len(), 16);
}

#[test]
fn a_segment_ends_with_a_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let tuning = Tuning { segment_bytes: 6_000, ..Tuning::default() };
    let audit = start_on(directory.path(), Disk, tuning);
    (0..10).for_each(|_| whole_flow(&audit));
    audit.close();
    let segments = super::super::segment::segments(directory.path()).unwrap();
    assert!(segments.len() > 3);
    for segment in segments {
        let text = String::from_utf8(content(&segment.path)).unwrap();
        let last = text.lines().last().unwrap();
        assert!(last.contains("\"checkpoint\""), "{last}");
    }
}

/// A log whose key is of another day.
fn log_with_an_old_key() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    start(directory.path()).close();
    let path = directory.path().join("keys/current");
    let mut key: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    key["made"] = 1.into();
    fs::write(&path, key.to_string()).unwrap();
    directory
}

fn until_changed(audit: &Audit, directory: &Path) {
    whole_flow(audit);
    while lines(&directory.join(CERTIFICATES)).len() < 2 || directory.join("keys/next").exists() {
        std::thread::yield_now();
    }
}

#[test]
fn another_day_has_another_key() {
    let directory = log_with_an_old_key();
    let old = fs::read_to_string(directory.path().join("keys/current")).unwrap();
    let audit = start(directory.path());
    until_changed(&audit, directory.path());
    whole_flow(&audit);
    audit.close();
    assert_signed(directory.path());
    assert_eq!(system_codes(directory.path()).iter().filter(|code| *code == "key").count(), 1);
    let new = fs::read_to_string(directory.path().join("keys/current")).unwrap();
    assert_ne!(old, new);
    // Each certificate is of the key before; the first is its own.
    let mut key = pinned_key(directory.path()).unwrap();
    for line in lines(&directory.path().join(CERTIFICATES)) {
        let signed = Signed::parse(Context::Key, line.as_bytes()).unwrap();
        assert!(signed.is_by(&key, Context::Key), "{line}");
        let line: Value = serde_json::from_str(&line).unwrap();
        key = PublicKey::parse(line["public"].as_str().unwrap()).unwrap();
    }
    start(directory.path()).close();
    assert_signed(directory.path());
}

#[test]
fn a_crash_in_the_change_of_a_key_leaves_the_right_one() {
    let place = |directory: &Path| KeyPlace {
        keys: directory.join("keys"),
        log: directory.to_owned(),
        root: None,
    };
    let directory = tempfile::tempdir().unwrap();
    let mut ring = Keyring::open(place(directory.path()), None).unwrap();
    let first = ring.key().id().as_str().to_owned();
    let in_force = |id: &str, since| Some(KeyInForce { id: id.to_owned(), since });
    let open = |key: Option<KeyInForce>| Keyring::open(place(directory.path()), key.as_ref());

    // It was written, but no record introduced it.
    drop(ring.prepare(0).unwrap());
    assert_eq!(open(in_force(&first, 1)).unwrap().key().id().as_str(), first);
    assert!(!directory.path().join("keys/next").exists());
    assert_eq!(lines(&directory.path().join(CERTIFICATES)).len(), 1);

    // The record is durable, and nothing else was done.
    let next = ring.prepare(0).unwrap();
    let second = next.key().id().as_str().to_owned();
    assert_eq!(open(in_force(&second, 9)).unwrap().key().id().as_str(), second);
    assert_eq!(lines(&directory.path().join(CERTIFICATES)).len(), 2);

    // The old one is wiped, the new one has not its name yet.
    ring = open(in_force(&second, 9)).unwrap();
    fs::rename(directory.path().join("keys/current"), directory.path().join("keys/next")).unwrap();
    assert_eq!(open(in_force(&second, 9)).unwrap().key().id().as_str(), second);
    assert_eq!(ring.epoch(), 2);

    // A log does not go on with a key that it does not know.
    let error = open(in_force("0123456789abcdef", 9)).unwrap_err();
    assert!(error.to_string().contains("restore the key"), "{error}");
}

#[test]
fn a_root_key_certifies_the_first_one() {
    let directory = tempfile::tempdir().unwrap();
    let seed = directory.path().join("seed");
    fs::write(&seed, [7; 32]).unwrap();
    let mut options = options(directory.path());
    options.root_key = Some(seed);
    Audit::start(options).unwrap().close();
    let root = super::super::sign::SigningKey::from_seed(&[7; 32]).unwrap();
    assert_eq!(pinned_key(directory.path()).unwrap(), root.public());
    let first = lines(&directory.path().join(CERTIFICATES)).remove(0);
    let signed = Signed::parse(Context::Key, first.as_bytes()).unwrap();
    assert!(signed.is_by(&root.public(), Context::Key));
}
