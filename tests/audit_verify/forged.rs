//! What somebody does who has written the files anew, or has today's key.

use std::fs;

use crate::support::{Log, joined};

#[test]
fn a_log_written_anew_with_another_key_is_found() {
    let (log, other) = (Log::of_two_days(), Log::of_two_days());
    // The pinned key of the one, the files of the other.
    let forged = other.copy();
    fs::copy(log.pubkey(), forged.pubkey()).unwrap();
    let word = forged.verify();
    assert_eq!((word.exit, word.codes()), (1, vec!["key_replaced"]), "{word:#?}");
    assert_eq!(word.report["first_bad"]["file"], "keys.ndjson");

    // Without the chain of keys nothing ties it to the pinned one.
    fs::remove_file(forged.directory().join("keys.ndjson")).unwrap();
    let word = forged.verify();
    assert_eq!((word.exit, word.codes()), (3, vec!["keys_missing"]), "{word:#?}");
}

#[test]
fn the_chain_of_keys_holds_without_its_file() {
    let log = Log::of_two_days();
    let copy = log.copy();
    fs::remove_file(copy.directory().join("keys.ndjson")).unwrap();
    let word = copy.verify();
    assert_eq!((word.exit, word.codes()), (0, vec![]), "{word:#?}");
    assert_eq!(word.report["keys"], 2);
}

#[test]
fn a_changed_chain_of_keys_is_tampering() {
    let (log, other) = (Log::of_two_days(), Log::of_two_days());
    let path = log.directory().join("keys.ndjson");
    let whole = fs::read(&path).unwrap();
    for at in (0..whole.len() - 1).step_by(7) {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(&path, changed).unwrap();
        let word = log.verify();
        assert_eq!(word.exit, 1, "{at}: {word:#?}");
    }
    // A second key that the first did not sign.
    let text = String::from_utf8(whole).unwrap();
    let foreign = fs::read_to_string(other.directory().join("keys.ndjson")).unwrap();
    let lines = [text.lines().next().unwrap(), foreign.lines().nth(1).unwrap()];
    fs::write(&path, lines.join("\n") + "\n").unwrap();
    let word = log.verify();
    assert_eq!(word.exit, 1);
    assert!(word.codes().contains(&"key_chain_broken"), "{word:#?}");
}

#[test]
fn a_signature_cannot_be_left_out() {
    let log = Log::of_two_days();
    let mut lines = log.lines();
    let copy = log.copy_of_lines();
    for segment in copy.segments() {
        fs::remove_file(segment).unwrap();
    }
    let last = String::from_utf8(lines.pop().unwrap()).unwrap();
    let (before, _) = last.split_once(",\"key\":\"").unwrap();
    lines.push(format!("{before}}}}}}}").into_bytes());
    fs::write(copy.segment(1), joined(&lines)).unwrap();
    let word = copy.verify();
    assert_eq!((word.exit, word.codes()), (1, vec!["signature_missing"]), "{word:#?}");
}
