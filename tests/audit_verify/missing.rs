//! Lines and files that are missing.

use std::fs;

use crate::support::{Log, joined};

#[test]
fn a_log_cut_at_any_line_is_found_against_an_anchor() {
    let log = Log::of_two_days();
    let anchor = log.anchor();
    let lines = log.lines();
    let copy = log.copy_of_lines();
    // Without these nothing in the directory says that a second key was ever in use.
    let keys = fs::read_to_string(copy.directory().join("keys.ndjson")).unwrap();
    let first_key = keys.lines().next().unwrap().to_owned() + "\n";
    let changed = lines.iter().position(|l| String::from_utf8_lossy(l).contains("\"previous\":"));
    let changed = changed.unwrap();
    for segment in copy.segments() {
        fs::remove_file(segment).unwrap();
    }
    for kept in 0..lines.len() {
        fs::write(copy.segment(1), joined(&lines[..kept])).unwrap();
        if kept == 0 {
            fs::write(copy.segment(1), "").unwrap();
        }
        let certificates = if kept <= changed { &first_key } else { &keys };
        fs::write(copy.directory().join("keys.ndjson"), certificates).unwrap();
        let word = copy.verify_against(&anchor);
        assert_eq!((word.exit, word.codes()), (2, vec!["tail_cut"]), "{kept}: {word:#?}");

        // Alone it cannot be seen, but for records that no signature covers.
        let word = copy.verify();
        assert_eq!(word.exit, if kept == 0 { 3 } else { 0 }, "{kept}: {word:#?}");
        let is_signed = |line: &&Vec<u8>| String::from_utf8_lossy(line).contains("\"sig\"");
        let unsigned = lines[..kept].iter().rev().take_while(|line| !is_signed(line)).count();
        assert_eq!(word.report["tail_unanchored"], unsigned);
    }
    fs::write(copy.segment(1), joined(&lines)).unwrap();
    let word = copy.verify_against(&anchor);
    assert_eq!((word.exit, word.codes()), (0, vec![]), "{word:#?}");
}

#[test]
fn the_logs_own_files_know_how_long_it_was() {
    let log = Log::of_two_days();
    let cut = |copy: &Log| {
        let segments = copy.segments();
        fs::remove_file(&segments[1]).unwrap();
        fs::remove_file(&segments[2]).unwrap();
    };
    for kept in ["checkpoint", "settled", "keys.ndjson"] {
        let copy = log.copy();
        cut(&copy);
        for name in ["checkpoint", "settled"].into_iter().filter(|name| *name != kept) {
            fs::remove_file(copy.directory().join(name)).unwrap();
        }
        if kept != "keys.ndjson" {
            let path = copy.directory().join("keys.ndjson");
            let first = fs::read_to_string(&path).unwrap().lines().next().unwrap().to_owned();
            fs::write(path, first + "\n").unwrap();
        }
        let word = copy.verify();
        assert_eq!((word.exit, word.codes()), (2, vec!["tail_cut"]), "{kept}: {word:#?}");
    }
}

#[test]
fn a_removed_line_is_found() {
    let log = Log::of_two_days();
    let copy = log.copy();
    for segment in log.segments() {
        let target = copy.directory().join(segment.file_name().unwrap());
        let whole = fs::read_to_string(&segment).unwrap();
        let lines: Vec<_> = whole.lines().collect();
        for removed in 0..lines.len() {
            let mut left = lines.clone();
            left.remove(removed);
            fs::write(&target, left.join("\n") + "\n").unwrap();
            let word = copy.verify();
            assert!(matches!(word.exit, 1 | 2), "{removed}: {word:#?}");
            assert!(!word.codes().is_empty());
        }
        fs::write(&target, whole).unwrap();
    }
}

#[test]
fn a_removed_segment_is_found() {
    let log = Log::of_two_days();
    let names: Vec<_> = log.segments();
    for (number, name) in names.iter().enumerate() {
        let copy = log.copy();
        fs::remove_file(copy.directory().join(name.file_name().unwrap())).unwrap();
        let word = copy.verify();
        assert_eq!(word.exit, 2, "{number}: {word:#?}");
        let expected = ["start_missing", "records_missing", "tail_cut"][number];
        assert!(word.codes().contains(&expected), "{word:#?}");
    }
}

#[test]
fn an_anchor_of_another_content_is_tampering() {
    let log = Log::of_two_days();
    let lines = log.lines();
    let checkpoints: Vec<_> = lines
        .iter()
        .filter(|line| String::from_utf8_lossy(line).contains("\"status_code\":\"checkpoint\""))
        .cloned()
        .collect();
    let path = log.directory().join("../anchors");
    fs::write(&path, joined(&checkpoints)).unwrap();
    let word = log.verify_against(&path);
    assert_eq!((word.exit, word.codes()), (0, vec![]), "{word:#?}");

    // Somebody with the keys wrote the log anew: another log, of the same key.
    let (log, other) = (Log::new(), Log::new());
    log.start().close();
    let anchor = log.anchor();
    other.start().close();
    let word = other.verify_against(&anchor);
    assert_eq!((word.exit, word.codes()), (1, vec!["anchor_differs"]), "{word:#?}");

    fs::write(&path, "{}\n").unwrap();
    assert_eq!(log.verify_against(&path).exit, 3);
    let changed = String::from_utf8(checkpoints[0].clone()).unwrap().replace("augsburg", "aalen");
    fs::write(&path, changed).unwrap();
}
