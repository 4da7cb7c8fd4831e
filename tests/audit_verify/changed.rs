//! Bytes that were changed.

use std::fs;

use crate::support::{Log, joined};

#[test]
fn a_flipped_byte_in_any_line_is_tampering() {
    let log = Log::of_two_days();
    let copy = log.copy();
    for segment in log.segments() {
        let target = copy.directory().join(segment.file_name().unwrap());
        let whole = fs::read(&segment).unwrap();
        let mut start = 0;
        let lines: Vec<_> = whole.split_inclusive(|byte| *byte == b'\n').collect();
        for (number, line) in lines.iter().enumerate() {
            // Over the lines, an odd step meets every kind of place.
            let mut places: Vec<_> = (number..line.len() - 1).step_by(149).collect();
            places.extend([0, line.len() - 2]);
            if number + 1 < lines.len() {
                places.push(line.len() - 1);
            }
            for at in places {
                let mut changed = whole.clone();
                changed[start + at] ^= 1;
                fs::write(&target, changed).unwrap();
                let word = copy.verify();
                assert_eq!(word.exit, 1, "line {number}, byte {at}: {word:#?}");
                assert!(word.report["first_bad"]["line"].is_u64(), "{word:#?}");
            }
            start += line.len();
        }
        fs::write(&target, whole).unwrap();
    }
    assert_eq!(copy.verify().exit, 0);
}

#[test]
fn the_report_names_place_and_hashes() {
    let log = Log::of_two_days();
    let segment = log.segments().remove(1);
    let text = fs::read_to_string(&segment).unwrap();
    let mut lines: Vec<_> = text.lines().collect();
    let at = lines.iter().position(|line| line.contains("\"status_code\":\"open\"")).unwrap();
    let changed = lines[at].replace("10.10.3.7", "10.10.3.8");
    lines[at] = &changed;
    fs::write(&segment, lines.join("\n") + "\n").unwrap();
    let word = log.verify();
    assert_eq!((word.exit, word.codes()), (1, vec!["link_broken"]), "{word:#?}");
    let finding = &word.report["findings"][0];
    assert_eq!(finding["file"], segment.file_name().unwrap().to_str().unwrap());
    // The line behind the changed one holds the hash.
    assert_eq!(finding["line"], at + 2);
    assert!(finding["expected"].as_str().unwrap().starts_with("sha256:"));
    assert_ne!(finding["expected"], finding["found"]);
    assert_eq!(word.report["first_bad"]["line"], at + 2);
}

#[test]
fn lines_that_changed_places_or_came_twice_are_tampering() {
    let log = Log::of_two_days();
    let lines = log.lines();
    let copy = log.copy();
    let (first, rest) = log.segments().split_first().map(|(a, b)| (a.clone(), b.to_vec())).unwrap();
    let target = copy.directory().join(first.file_name().unwrap());
    let count = fs::read_to_string(&first).unwrap().lines().count();
    assert_eq!(rest.len(), 2);
    let mut swapped = lines[..count].to_vec();
    swapped.swap(3, 4);
    let mut twice = lines[..count].to_vec();
    twice.insert(4, lines[3].clone());
    let mut foreign = lines[..count].to_vec();
    foreign.insert(4, b"{}".to_vec());
    let mut garbage = lines[..count].to_vec();
    garbage.insert(4, b"\0\0".to_vec());
    for changed in [swapped, twice, foreign, garbage] {
        fs::write(&target, joined(&changed)).unwrap();
        let word = copy.verify();
        assert_eq!(word.exit, 1, "{word:#?}");
    }
}
