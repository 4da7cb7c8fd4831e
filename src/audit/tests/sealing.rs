//! What becomes of full segments: a line in the manifest, and a compressed form.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::super::chain::{Hex, hash};
use super::super::manifest::MANIFEST;
use super::super::segment::{self, SegmentName};
use super::super::sign::{Context, Signed};
use super::super::verify::Verdict;
use super::super::{Audit, Disk, Tuning, pinned_key, read};
use super::{codes, content, copy_keys, start_on, tail, until, verified, whole_flow};

const SMALL: u64 = 20_000;

pub(super) fn start_small(directory: &Path) -> Audit {
    start_on(directory, Disk, Tuning { segment_bytes: SMALL, ..Tuning::default() })
}

fn segments(directory: &Path) -> Vec<SegmentName> {
    segment::segments(directory).unwrap()
}

pub(super) fn manifest(directory: &Path) -> Vec<String> {
    let text = fs::read_to_string(directory.join(MANIFEST)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// All but the last are compressed, and the plain forms are gone.
fn all_sealed(directory: &Path) -> bool {
    let segments = segments(directory);
    let (last, sealed) = segments.split_last().unwrap();
    !last.is_compressed() && sealed.iter().all(SegmentName::is_compressed)
}

/// A closed log with sealed segments, and what each held when it was plain.
fn sealed_log() -> (tempfile::TempDir, Vec<u8>) {
    let directory = tail::directory();
    let audit = start_small(directory.path());
    while segments(directory.path()).len() < 5 {
        whole_flow(&audit);
    }
    until(|| all_sealed(directory.path()));
    audit.close();
    let whole = segments(directory.path()).iter().flat_map(|s| content(&s.path)).collect();
    (directory, whole)
}

fn assert_listed(directory: &Path) {
    let key = pinned_key(directory).unwrap();
    let segments = segments(directory);
    let lines = manifest(directory);
    assert_eq!(lines.len(), segments.len() - 1);
    let mut prev = Hex(&hash(b"")).to_string();
    for (line, segment) in lines.iter().zip(&segments) {
        let signed = Signed::parse(Context::Manifest, line.as_bytes()).unwrap();
        assert!(signed.is_by(&key, Context::Manifest), "{line}");
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["prev"], prev);
        let bytes = content(&segment.path);
        let text = std::str::from_utf8(&bytes).unwrap();
        let last = text.lines().last().unwrap();
        assert_eq!(line["segment"], format!("flow-{:020}.ndjson", segment.first));
        assert_eq!(line["first"], segment.first);
        assert_eq!(line["records"], text.lines().count());
        assert_eq!(line["last"], segment.first + text.lines().count() as u64 - 1);
        assert_eq!(line["bytes"], bytes.len());
        assert_eq!(line["sha256"], Hex(&hash(&bytes)).to_string());
        assert_eq!(line["last_hash"], Hex(&hash(last.as_bytes())).to_string());
        let logged = text.lines().map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            line["metadata"]["logged_time"].as_u64().unwrap()
        });
        assert_eq!(line["first_time"], logged.clone().min().unwrap());
        assert_eq!(line["last_time"], logged.max().unwrap());
        prev = Hex(&hash(signed_line(&lines, &line))).to_string();
    }
}

fn signed_line<'a>(lines: &'a [String], wanted: &Value) -> &'a [u8] {
    let is_it = |line: &&String| line.contains(wanted["sig"].as_str().unwrap());
    lines.iter().find(is_it).unwrap().as_bytes()
}

#[test]
fn full_segments_are_listed_and_compressed() {
    let (directory, whole) = sealed_log();
    assert_listed(directory.path());
    assert_eq!(verified(directory.path()).segments, 5);
    // Any gzip tool reads them, and gets what was written.
    let mut unpacked = Vec::new();
    for segment in segments(directory.path()) {
        let program = if segment.is_compressed() { "gzip" } else { "cat" };
        let mut command = Command::new(program);
        if segment.is_compressed() {
            command.args(["-d", "-c"]);
        }
        unpacked.extend(command.arg(&segment.path).output().unwrap().stdout);
    }
    assert!(unpacked == whole);
    // The log goes on, and finds flows that a crash left open in a compressed segment.
    start_small(directory.path()).close();
    assert_listed(directory.path());
}

#[test]
fn members_hold_whole_lines() {
    let directory = tail::directory();
    let tuning = Tuning { segment_bytes: 3 << 20, ..Tuning::default() };
    let audit = start_on(directory.path(), Disk, tuning);
    while segments(directory.path()).len() < 2 {
        (0..100).for_each(|_| whole_flow(&audit));
    }
    until(|| all_sealed(directory.path()));
    audit.close();
    let path = segments(directory.path())[0].path.clone();
    let compressed = fs::read(&path).unwrap();
    let mut rest = compressed.as_slice();
    let mut members = 0;
    while !rest.is_empty() {
        let mut decoder = flate2::bufread::GzDecoder::new(rest);
        let mut member = Vec::new();
        std::io::Read::read_to_end(&mut decoder, &mut member).unwrap();
        assert!(member.starts_with(b"{") && member.ends_with(b"}\n"));
        assert!(member.len() < (1 << 20) + 10_000);
        rest = decoder.into_inner();
        members += 1;
    }
    assert_eq!(members, 3);
    assert!(compressed.len() * 4 < content(&path).len());
}

#[test]
fn an_open_in_a_compressed_segment_gets_its_end_after_a_crash() {
    let directory = tail::directory();
    let audit = start_small(directory.path());
    let mut open: Vec<_> = (0..3).map(|_| super::flow(&audit)).collect();
    for flow in &mut open {
        super::wait(flow.open()).unwrap();
        (0..20).for_each(|_| whole_flow(&audit));
    }
    until(|| all_sealed(directory.path()));
    audit.clone().close();
    drop((open, audit));
    start_small(directory.path()).close();
    let codes = codes(directory.path());
    assert_eq!(codes[codes.len() - 3..], ["unknown_crash"; 3]);
}

/// Puts a segment back as it was before it was compressed.
fn uncompress(segment: &SegmentName, also_compressed: bool) -> PathBuf {
    let plain = segment::other_form(&segment.path);
    fs::write(&plain, content(&segment.path)).unwrap();
    if !also_compressed {
        fs::remove_file(&segment.path).unwrap();
    }
    plain
}

/// What a crash at each step of sealing leaves.
#[test]
fn a_crash_while_a_segment_is_sealed_loses_nothing() {
    let (original, whole) = sealed_log();
    let crashes: [fn(&Path, &SegmentName); 6] = [
        // Before anything was done.
        |directory, segment| {
            uncompress(segment, false);
            fs::remove_file(directory.join(MANIFEST)).unwrap();
        },
        // In the middle of a line of the manifest.
        |directory, segment| {
            uncompress(segment, false);
            let lines = manifest(directory);
            let torn = format!("{}\n{}", lines[0], &lines[1][..100]);
            fs::write(directory.join(MANIFEST), torn).unwrap();
        },
        // A line that the disk has lost.
        |directory, _| {
            let lines = manifest(directory);
            let torn = format!("{}\n{}\n", lines[0], "\0".repeat(lines[1].len()));
            fs::write(directory.join(MANIFEST), torn).unwrap();
        },
        // While the compressed form was written.
        |directory, segment| {
            let plain = uncompress(segment, false);
            let name = plain.file_name().unwrap().to_str().unwrap();
            fs::write(directory.join(format!("next-{name}.gz")), b"half").unwrap();
        },
        // Before the plain form was removed.
        |_, segment| drop(uncompress(segment, true)),
        // The compressed form was put there by somebody.
        |_, segment| {
            uncompress(segment, true);
            fs::write(&segment.path, b"nonsense").unwrap();
        },
    ];
    for (number, crash) in crashes.into_iter().enumerate() {
        let directory = tail::directory();
        copy_keys(original.path(), directory.path());
        for entry in fs::read_dir(original.path()).unwrap().map(Result::unwrap) {
            if entry.path().is_file() {
                fs::copy(entry.path(), directory.path().join(entry.file_name())).unwrap();
            }
        }
        crash(directory.path(), &segments(directory.path())[1]);
        let read: Vec<u8> =
            segments(directory.path()).iter().flat_map(|s| content(&s.path)).collect();
        assert!(read == whole, "{number}: it can be read before anything is repaired");
        assert_eq!(verified(directory.path()).result, Verdict::Intact, "{number}");
        let audit = start_small(directory.path());
        until(|| all_sealed(directory.path()) && manifest(directory.path()).len() == 4);
        audit.close();
        assert_listed(directory.path());
        let after: Vec<u8> =
            segments(directory.path()).iter().flat_map(|s| content(&s.path)).collect();
        assert!(after.starts_with(&whole), "{number}");
        assert_eq!(verified(directory.path()).result, Verdict::Intact, "{number}");
        let left = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> =
            left.filter(|name| name.to_str().unwrap().starts_with("next-")).collect();
        assert_eq!(left, Vec::<std::ffi::OsString>::new());
    }
}

#[test]
fn a_changed_segment_is_neither_signed_nor_compressed() {
    for (line, at) in [(0, 400), (9, 400), (usize::MAX, 400)] {
        let (directory, _) = sealed_log();
        fs::remove_file(directory.path().join(MANIFEST)).unwrap();
        let path = uncompress(&segments(directory.path())[1], false);
        let mut bytes = fs::read(&path).unwrap();
        let starts: Vec<_> =
            bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1).collect();
        // Also the last one, which only the next segment's first line tells.
        let start = starts.get(line).copied().unwrap_or(starts[starts.len() - 2]);
        bytes[start + at] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let audit = start_small(directory.path());
        until(|| manifest(directory.path()).len() == 3);
        audit.close();
        assert!(fs::read(&path).unwrap() == bytes, "evidence is not touched");
        assert_eq!(verified(directory.path()).result, Verdict::Tampered);
    }
}

#[test]
fn a_damaged_compressed_segment_is_no_obstacle_to_a_start() {
    let (directory, _) = sealed_log();
    fs::remove_file(directory.path().join(super::super::spool::SETTLED)).unwrap();
    let path = segments(directory.path())[1].path.clone();
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let audit = start_small(directory.path());
    whole_flow(&audit);
    audit.close();
    assert_eq!(verified(directory.path()).result, Verdict::Tampered);
}

#[test]
fn readers_leave_out_what_is_too_old() {
    let (directory, _) = sealed_log();
    let seqs = |mut lines: read::Lines| {
        let mut seqs = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            let line: Value = serde_json::from_slice(line.bytes).unwrap();
            seqs.push(line["metadata"]["sequence"].as_u64().unwrap());
        }
        seqs
    };
    let all = seqs(read::lines(directory.path()).unwrap());
    assert_eq!(all[0], 1);
    let segments = segments(directory.path());
    for (at, segment) in segments.iter().enumerate() {
        for seq in [segment.first, segment.first + 1] {
            let from = seqs(read::lines_from(directory.path(), seq).unwrap());
            assert_eq!(from, all[usize::try_from(segment.first).unwrap() - 1..]);
        }
        let Some(line) = manifest(directory.path()).get(at).cloned() else { continue };
        let line: Value = serde_json::from_str(&line).unwrap();
        let last = line["last_time"].as_u64().unwrap();
        let since = seqs(read::lines_since(directory.path(), last).unwrap());
        assert!(since[0] <= segment.first);
        let since = seqs(read::lines_since(directory.path(), last + 1).unwrap());
        assert!(since[0] > segment.first);
    }
}
