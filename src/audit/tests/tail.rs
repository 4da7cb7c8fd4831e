//! What a start makes of what it finds on the disk.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::spool::SETTLED;
use super::super::tuning::Tuning;
use super::super::verify::{Code, Verdict};
use super::super::{Disk, segment};
use super::{
    codes, content, copy_keys, flow, next_millisecond, records, start, start_on, system_codes,
    verified, wait, whole_flow,
};

/// A directory in memory, where there is one: these tests start logs by the thousand, and what they
/// look at is not whether a disk keeps its word.
pub(super) fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::tempdir_in(place).unwrap()
}

/// A log of three whole flows, as a crash would leave it: without a word about a clean end.
fn log_of_three() -> (tempfile::TempDir, PathBuf) {
    let directory = directory();
    let audit = start(directory.path());
    (0..2).for_each(|_| whole_flow(&audit));
    next_millisecond();
    whole_flow(&audit);
    audit.close();
    fs::remove_file(directory.path().join(SETTLED)).unwrap();
    let path = directory.path().join("flow-00000000000000000001.ndjson");
    (directory, path)
}

fn line_starts(bytes: &[u8]) -> Vec<usize> {
    let behind = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1);
    std::iter::once(0).chain(behind).collect()
}

pub(super) fn torn_files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_string_lossy().contains(".torn-")).collect()
}

#[test]
fn a_tail_cut_anywhere_is_moved_aside_and_the_chain_goes_on() {
    let (original, path) = log_of_three();
    let bytes = fs::read(&path).unwrap();
    let starts = line_starts(&bytes);
    // A boot record and a checkpoint stand before the flows, a stop record and one behind.
    let (open, close, end) = (starts[6], starts[7], starts[8]);
    // A prime step meets every kind of place; each cut is a whole start.
    for cut in (open..end).step_by(13).chain([close, end - 1]) {
        let directory = directory();
        copy_keys(original.path(), directory.path());
        let segment = directory.path().join(path.file_name().unwrap());
        fs::write(&segment, &bytes[..cut]).unwrap();
        start(directory.path()).close();
        let whole = if cut >= close { close } else { open };
        let torn = torn_files(directory.path());
        if cut == whole {
            assert_eq!(torn, Vec::<PathBuf>::new(), "{cut}");
        } else {
            let expected = PathBuf::from(format!("{}.torn-{whole}", segment.display()));
            assert_eq!(torn, [expected.as_path()], "{cut}");
            assert_eq!(fs::read(expected).unwrap(), &bytes[whole..cut]);
        }
        assert!(fs::read(&segment).unwrap().starts_with(&bytes[..whole]));
        let codes = codes(directory.path());
        if whole == close {
            assert_eq!(codes[4..], ["open", "unknown_crash"], "{cut}");
        } else {
            assert_eq!(codes.len(), 4, "{cut}");
        }
        // The end of a crashed flow is written once; some cuts are enough to see it.
        if cut.is_multiple_of(8) || cut == close {
            start(directory.path()).close();
            assert_eq!(super::codes(directory.path()), codes);
        }
    }
}

#[test]
fn garbage_at_the_end_is_a_torn_tail() {
    let torn: [&[u8]; 4] =
        [&[0; 5000], b"{\"metadata\":{}}\n", b"\0\0\0\n\0\0", b"x\n{}\n\xff\xff\n[1]"];
    for garbage in torn {
        let (directory, path) = log_of_three();
        let whole = fs::read(&path).unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(garbage).unwrap();
        let audit = start(directory.path());
        whole_flow(&audit);
        audit.close();
        assert_eq!(codes(directory.path()).len(), 8);
        let aside = format!("{}.torn-{}", path.display(), whole.len());
        assert_eq!(fs::read(aside).unwrap(), garbage);
    }
}

#[test]
fn a_segment_with_nothing_whole_in_it_is_moved_aside() {
    for (torn, aside) in [(&b"{\"meta"[..], 1), (&b""[..], 0)] {
        let (directory, path) = log_of_three();
        let untouched = fs::read(&path).unwrap();
        let next = directory.path().join("flow-00000000000000000011.ndjson");
        fs::write(&next, torn).unwrap();
        let audit = start(directory.path());
        whole_flow(&audit);
        audit.close();
        assert_eq!(torn_files(directory.path()).len(), aside);
        assert_eq!(codes(directory.path()).len(), 8);
        assert_eq!(content(&path), untouched, "the chain goes on in the next segment");
        assert!(fs::metadata(&next).unwrap().len() > 1000);
    }
}

#[test]
fn a_flipped_byte_in_any_line_is_found_and_left_alone() {
    let (original, path) = log_of_three();
    let bytes = fs::read(&path).unwrap();
    let starts = line_starts(&bytes);
    for (line, start_of_line) in starts.iter().take(5).enumerate() {
        let mut changed = bytes.clone();
        let at = start_of_line + 400;
        changed[at] ^= 1;
        let directory = directory();
        copy_keys(original.path(), directory.path());
        let segment = directory.path().join(path.file_name().unwrap());
        if line == 3 {
            // A torn tail behind it does not make it less suspicious.
            changed.extend_from_slice(b"{\"metadata");
        }
        fs::write(&segment, &changed).unwrap();
        let report = verified(directory.path());
        assert_eq!(report.result, Verdict::Tampered, "{report:#?}");
        let found = usize::try_from(report.first_bad.unwrap().line).unwrap();
        // A line that still reads is found out by the one behind it.
        assert!(found == line + 1 || found == line + 2, "{found} {line}");

        let audit = start(directory.path());
        whole_flow(&audit);
        audit.close();
        assert_eq!(fs::read(&segment).unwrap(), changed, "evidence is not touched");
        assert_eq!(torn_files(directory.path()), Vec::<PathBuf>::new());
        let next = directory.path().join("flow-00000000000000000011.ndjson");
        let next = fs::read_to_string(next).unwrap();
        // An end that cannot be read any more counts as none.
        for code in ["\"status_code\":\"open\"", "\"status_code\":\"closed_by_device\""] {
            assert_eq!(next.lines().filter(|line| line.contains(code)).count(), 1);
        }
        let recovery = next.lines().find(|line| line.contains("\"recovery\"")).unwrap();
        assert!(recovery.contains("\"damaged\":true"), "{recovery}");
    }
}

#[test]
fn removed_lines_are_found() {
    let (directory, path) = log_of_three();
    let bytes = fs::read(&path).unwrap();
    let starts = line_starts(&bytes);
    fs::write(&path, [&bytes[..starts[1]], &bytes[starts[2]..]].concat()).unwrap();
    let report = verified(directory.path());
    assert_eq!(report.result, Verdict::Incomplete, "{report:#?}");
    assert_eq!(report.findings[0].code, Code::RecordsMissing);
    assert_eq!(report.findings[0].sentence, "record 2 is missing");
    assert_eq!(report.first_bad.unwrap().line, 2);
}

#[test]
fn segments_rotate_and_one_crash_end_reaches_over_them() {
    let directory = directory();
    let tuning = Tuning { segment_bytes: 5_000, ..Tuning::default() };
    let audit = start_on(directory.path(), Disk, tuning);
    let mut long = flow(&audit);
    wait(long.open()).unwrap();
    (0..10).for_each(|_| whole_flow(&audit));
    audit.clone().close();
    drop((long, audit));
    assert!(segment::segments(directory.path()).unwrap().len() > 3);
    let settled = || fs::read_to_string(directory.path().join(SETTLED)).unwrap();
    assert_eq!(settled(), "2\n", "a flow was open at the end");
    for _ in 0..2 {
        start_on(directory.path(), Disk, tuning).close();
        let codes = codes(directory.path());
        assert_eq!(codes.len(), 22);
        assert_eq!(codes.last().unwrap(), "unknown_crash");
        assert_eq!(settled(), format!("{}\n", records(directory.path()).len()));
    }
}

#[test]
fn an_old_segment_is_not_continued() {
    let directory = directory();
    for expected in 1..=3 {
        let tuning = Tuning { segment_age: Duration::ZERO, ..Tuning::default() };
        let audit = start_on(directory.path(), Disk, tuning);
        let mut record = flow(&audit);
        drop(record.open());
        record.refuse(crate::reason::Reason::ShuttingDown, None, None, None);
        audit.close();
        assert!(segment::segments(directory.path()).unwrap().len() >= expected);
    }
    assert_eq!(codes(directory.path()).len(), 6);
}

#[test]
fn only_what_came_after_the_last_clean_end_is_searched_for_open_flows() {
    let directory = directory();
    let audit = start(directory.path());
    let mut open = flow(&audit);
    wait(open.open()).unwrap();
    audit.clone().close();
    drop((open, audit));
    let settled = records(directory.path()).len();
    fs::write(directory.path().join(SETTLED), format!("{settled}\n")).unwrap();
    start(directory.path()).close();
    assert_eq!(codes(directory.path()), ["open"]);
}

#[test]
fn a_start_says_what_it_put_in_order() {
    let (directory, path) = log_of_three();
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"half").unwrap();
    start(directory.path()).close();
    let all = records(directory.path());
    let recovery = all.iter().find(|record| record["status_code"] == "recovery").unwrap();
    let facts = &recovery["unmapped"]["system"];
    assert_eq!(facts["file"], "flow-00000000000000000001.ndjson");
    assert_eq!(facts["bytes"], 6);
    let evidence = directory.path().join(facts["evidence"].as_str().unwrap());
    assert_eq!(fs::read(evidence).unwrap(), b"{\"half");
    let expected = ["boot", "checkpoint", "stop", "checkpoint"];
    let found = system_codes(directory.path());
    assert_eq!(found[..4], expected);
    assert_eq!(found[4..], ["boot", "recovery", "checkpoint", "stop", "checkpoint"]);
}
