//! Logs with which nothing is wrong, and calls with which something is.

use std::fs;

use serde_json::Value;

use crate::support::{Log, audit, flow, open};

#[test]
fn a_copy_with_the_public_key_is_all_that_is_needed() {
    let log = Log::of_two_days();
    assert_eq!(log.segments().len(), 3);
    let copy = log.copy();
    drop(log);
    let word = copy.verify();
    assert_eq!(word.exit, 0, "{word:?}");
    let report = &word.report;
    assert_eq!(report["result"], "intact");
    assert_eq!(report["records"], copy.lines().len());
    assert_eq!(report["segments"], 3);
    assert_eq!(report["keys"], 2);
    assert_eq!(report["first_bad"], Value::Null);
    assert_eq!(report["tail_unanchored"], 0);
    assert_eq!(report["findings"], Value::Array(Vec::new()));
    assert!(report["checkpoints"].as_u64().unwrap() >= 4);

    let (directory, pubkey) = (copy.directory(), copy.pubkey());
    let args =
        ["verify", "--dir", directory.to_str().unwrap(), "--pubkey", pubkey.to_str().unwrap()];
    let (exit, text, _) = audit(&args);
    assert_eq!(exit, 0);
    assert!(text.contains("intact") && text.contains("signed with 2 keys"), "{text}");
}

#[test]
fn a_live_log_is_intact_with_a_tail() {
    let log = Log::new();
    let audit = log.start();
    (0..4).for_each(|number| flow(&audit, number));
    let device = sluicegate::audit::DeviceFacts {
        address: "10.10.3.7:51522".parse().unwrap(),
        mac: None,
        name: None,
        identity: "none",
    };
    let mut running = audit.reserve().unwrap().begin(device, "203.0.113.80:443".parse().unwrap());
    // Durable Opens come in order, so that everything before is durable too.
    open(&mut running);
    let word = log.verify();
    assert_eq!(word.exit, 0, "{word:?}");
    assert_eq!(word.report["tail_unanchored"], 7);
    assert_eq!(word.report["tail"]["records"], 7);
    let text = log.copy();
    assert_eq!(text.verify().exit, 0);
    drop((running, audit));
}

#[test]
fn an_idle_log_lacks_no_checkpoint() {
    let log = Log::new();
    for _ in 0..5 {
        log.start().close();
    }
    let word = log.verify();
    assert_eq!((word.exit, word.codes()), (0, vec![]), "{word:?}");
    assert_eq!(word.report["tail_unanchored"], 0);
}

#[test]
fn what_a_crash_left_is_told_and_no_tampering() {
    let log = Log::of_two_days();
    let last = log.segments().pop().unwrap();
    let whole = fs::read(&last).unwrap();
    for torn in [&b"{\"metadata\":{\"version"[..], &[0; 700], b"\0\0\0\n\0\0", b"x\0\n{}\0\n"] {
        fs::write(&last, [&whole, torn].concat()).unwrap();
        let word = log.verify();
        assert_eq!(word.exit, 0, "{word:?}");
        assert_eq!(word.report["torn_bytes"], torn.len());
        assert_eq!(word.report["findings"][0]["code"], "torn_tail");
    }
    fs::write(&last, &whole).unwrap();
    let aside = format!("{}.torn-17", last.display());
    fs::write(aside, "evidence").unwrap();
    let word = log.verify();
    assert_eq!(word.exit, 0);
    assert_eq!(word.report["findings"][0]["code"], "torn_evidence");
}

#[test]
fn a_start_after_a_crash_is_told() {
    let log = Log::new();
    let audit = log.start();
    flow(&audit, 1);
    audit.close();
    let segment = log.segments().pop().unwrap();
    let mut content = fs::read(&segment).unwrap();
    content.extend_from_slice(b"{\"half");
    fs::write(&segment, content).unwrap();
    log.start().close();
    let word = log.verify();
    assert_eq!(word.exit, 0, "{word:?}");
    let findings = word.report["findings"].as_array().unwrap();
    let codes: Vec<_> = findings.iter().map(|finding| &finding["code"]).collect();
    assert_eq!(codes, ["recovery", "torn_evidence"]);
    assert!(findings[0]["sentence"].as_str().unwrap().contains(" 6 bytes "), "{findings:?}");
}

#[test]
fn usage_has_its_own_exit_code() {
    let log = Log::of_two_days();
    let directory = log.directory();
    let directory = directory.to_str().unwrap();
    let wrong: [&[&str]; 6] = [
        &[],
        &["verify", "--dir", directory],
        &["verify", "--pubkey"],
        &["verify", "--what"],
        &["prove"],
        &["key"],
    ];
    for args in wrong {
        let (exit, out, err) = audit(args);
        assert_eq!((exit, out.as_str()), (64, ""), "{args:?}");
        assert!(err.contains("--help"), "{args:?}: {err}");
    }
    let (exit, out, _) = audit(&["verify", "--help"]);
    assert_eq!(exit, 0);
    assert!(out.contains("Example"));
}

#[test]
fn without_a_key_an_anchor_or_a_log_nothing_is_verified() {
    let log = Log::of_two_days();
    let nothing = Log::new();
    fs::create_dir(nothing.directory()).unwrap();
    fs::copy(log.pubkey(), nothing.pubkey()).unwrap();
    let word = nothing.verify();
    assert_eq!((word.exit, word.codes()), (3, vec!["not_signed"]), "{word:?}");
    assert_eq!(word.report["result"], "unverifiable");
    fs::remove_dir(nothing.directory()).unwrap();
    assert_eq!(nothing.verify().codes(), ["unreadable"]);

    assert_eq!(log.verify_against(&log.directory().join("absent")).exit, 3);
    fs::write(log.pubkey(), "ssh-ed25519 AAAA\n").unwrap();
    assert_eq!((log.verify().exit, log.verify().codes()), (3, vec!["refused"]));
    fs::remove_file(log.pubkey()).unwrap();
    assert_eq!(log.verify().exit, 3);
}

#[test]
fn unsigned_records_alone_prove_nothing() {
    let log = Log::of_two_days();
    let lines = log.lines();
    let unsigned = |line: &&Vec<u8>| !String::from_utf8_lossy(line).contains("\"sig\"");
    let unsigned: Vec<_> = lines.iter().filter(unsigned).cloned().collect();
    let copy = log.copy_of_lines();
    for segment in copy.segments() {
        fs::remove_file(segment).unwrap();
    }
    fs::remove_file(copy.directory().join("keys.ndjson")).unwrap();
    let mut record: Value = serde_json::from_slice(&unsigned[0]).unwrap();
    record["metadata"]["sequence"] = 1.into();
    record["unmapped"]["chain"]["seq"] = 1.into();
    let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    record["unmapped"]["chain"]["prev"] = empty.into();
    fs::write(copy.segment(1), format!("{record}\n")).unwrap();
    let word = copy.verify();
    assert_eq!((word.exit, word.codes()), (3, vec!["not_signed"]), "{word:?}");
}

#[test]
fn the_key_to_pin_is_shown() {
    let log = Log::of_two_days();
    let directory = log.directory();
    let directory = directory.to_str().unwrap();
    let pinned = fs::read_to_string(log.pubkey()).unwrap();
    let (exit, out, _) = audit(&["key", "show", "--dir", directory]);
    assert_eq!((exit, &out), (0, &pinned));
    let (exit, out, _) = audit(&["key", "show", "--dir", directory, "--json"]);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(exit, 0);
    assert_eq!(document["file"], pinned.as_str());
    assert_eq!(document["site"], "augsburg-2");
    let fingerprint = document["fingerprint"].as_str().unwrap();
    assert_eq!(fingerprint.len(), 64);
    assert!(pinned.contains(fingerprint));
    let (exit, _, err) = audit(&["key", "show", "--dir", "/nonexistent"]);
    assert_eq!(exit, 3);
    assert!(err.contains("no key of an audit log"), "{err}");
}
