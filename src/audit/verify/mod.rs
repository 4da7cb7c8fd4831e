//! Proves that a log is what was written: with its files and a pinned public key alone, on any
//! machine.
//!
//! Never changes a file and needs no lock, so that a live log can be checked. What the log's own
//! other files say (keys, manifest, newest checkpoint) is read before its lines, which can then only
//! be more.
//!
//! `keys` ties the log's keys to the pinned one, `walk` goes over the lines once, `pulse` watches the
//! checkpoints' rhythm, `manifest` and `anchor` compare with what was said of the log before.

mod anchor;
mod keys;
mod manifest;
mod pulse;
mod report;
mod system;
mod walk;

use std::io;
use std::path::Path;

pub use anchor::Anchors;
pub use report::{Code, Finding, Place, Report, Tail, Verdict};

use super::chain::{Head, Hex, Stored};
use super::read::{self, ReadError};
use super::sign::PublicKey;
use super::spool::SETTLED;
use keys::Keys;
use manifest::Manifest;
use report::{Findings, file_name};
use walk::Walk;

/// Checks the log of a directory against the key that was pinned, and against checkpoints that
/// were kept elsewhere.
pub fn verify(directory: &Path, pinned: &PublicKey, anchors: &Anchors) -> Report {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match attempt(directory, pinned, anchors) {
            // A live log removes segments, also while they are read.
            Ok(report) if attempts < ATTEMPTS && has_moved_on(directory, &report) => {}
            Err((error, _)) if attempts < ATTEMPTS && is_gone(&error) => {}
            Ok(report) => return report,
            Err((error, walk)) => return unreadable(directory, &error, walk),
        }
    }
}

/// Whether something is missing, and the log does not begin any more where it did.
fn has_moved_on(directory: &Path, report: &Report) -> bool {
    let first = || {
        let mut lines = read::lines(directory).ok()?;
        let line = lines.next_line().ok()??;
        Some(Stored::parse(line.bytes)?.chain().seq)
    };
    report.result == Verdict::Incomplete && first().is_some_and(|first| first > report.first_seq)
}

fn is_gone(error: &ReadError) -> bool {
    error.source.kind() == io::ErrorKind::NotFound
}

fn attempt(
    directory: &Path,
    pinned: &PublicKey,
    anchors: &Anchors,
) -> Result<Report, (ReadError, Option<Box<Walk>>)> {
    let mut findings = Findings::default();
    let keys = Keys::read(directory, pinned, &mut findings);
    let manifest = Manifest::read(directory, &keys, &mut findings);
    let mut anchors = anchors.clone();
    anchors.add_copy(directory, &mut findings);
    anchors.check(&keys, &mut findings);
    let settled = std::fs::read_to_string(directory.join(SETTLED)).unwrap_or_default();
    let settled = settled.trim_end().parse().unwrap_or(0);
    let known = [
        (keys.newest_since(), "keys.ndjson has a key that was introduced by"),
        (settled, "at its last clean end it reached"),
    ];

    let mut lines = read::lines(directory).map_err(|error| (error, None))?;
    let mut walk = Box::new(Walk::new(keys, manifest, anchors, findings));
    loop {
        match lines.next_line() {
            Ok(Some(line)) => walk.line(&line),
            Ok(None) => break,
            Err(error) => return Err((error, Some(walk))),
        }
    }
    walk.end();
    walk.manifest.finish(walk.first, &mut walk.findings);
    tail(&mut walk, &known);
    leftovers(directory, &mut walk, lines.torn_bytes());
    Ok(report(*walk, lines.segments()))
}

/// Whether the log reaches as far as it is known to have reached.
fn tail(walk: &mut Walk, known: &[(u64, &str)]) {
    let last = walk.head.as_ref().map_or(0, |head| head.seq);
    let mut reached = Vec::new();
    if let Some((seq, from)) = walk.anchors.beyond() {
        reached.push((seq, format!("{from} has a copy of")));
    }
    if let Some((seq, segment)) = walk.manifest.last() {
        reached.push((seq, format!("the manifest says that {segment} ends with")));
    }
    reached.extend(known.iter().map(|(seq, what)| (*seq, (*what).to_owned())));
    for (seq, what) in reached.into_iter().filter(|(seq, _)| *seq > last) {
        let sentence = format!("the log ends with record {last}, but {what} record {seq}");
        walk.findings.add(Code::TailCut, None, sentence);
    }
}

/// What a crash left, and what is missing altogether.
fn leftovers(directory: &Path, walk: &mut Walk, torn: u64) {
    walk.torn = walk.torn.saturating_add(torn);
    if walk.torn > 0 {
        let sentence = format!(
            "{} bytes behind the last whole record: a record that is being written, or what a crash \
             left, which the next start moves aside",
            walk.torn
        );
        walk.findings.add(Code::TornTail, None, sentence);
    }
    for name in torn_files(directory) {
        let sentence = format!("{name} is what a start moved aside; it is no part of the log");
        walk.findings.add(Code::TornEvidence, None, sentence);
    }
    if walk.keys.proof == keys::Proof::Pinned {
        for id in walk.keys.uncertified() {
            let sentence = format!("the key {id} is in the log, but not in keys.ndjson");
            walk.findings.add(Code::CertificateMissing, None, sentence);
        }
    }
    if walk.signed == 0 && walk.findings.worst() == Verdict::Intact {
        let sentence = "no record is signed: there is nothing to verify".to_owned();
        walk.findings.add(Code::NotSigned, None, sentence);
    }
}

fn torn_files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.map(|entry| file_name(&entry.path()));
    let mut names: Vec<_> = names.filter(|name| name.contains(".torn-")).collect();
    names.sort();
    names
}

fn unreadable(directory: &Path, error: &ReadError, walk: Option<Box<Walk>>) -> Report {
    let mut walk = walk.unwrap_or_else(|| {
        let keys = Keys::none();
        Box::new(Walk::new(keys, Manifest::default(), Anchors::default(), Findings::default()))
    });
    let path = error.path.as_deref().unwrap_or(directory).display();
    // A compressed segment was whole when it took the place of the plain one.
    let damaged = matches!(
        error.source.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof
    );
    let code = if damaged { Code::SegmentDamaged } else { Code::Unreadable };
    let sentence = format!("{path} cannot be read: {}", error.source);
    walk.findings.add(code, None, sentence);
    report(*walk, 0)
}

fn report(walk: Walk, segments: usize) -> Report {
    let head = walk.head.unwrap_or_else(Head::genesis);
    let mut report = Report {
        records: walk.records,
        segments,
        checkpoints: walk.pulse.checkpoints,
        keys: walk.keys.count(),
        first_seq: walk.first.map_or(0, |(first, _)| first),
        last_seq: head.seq,
        head: Hex(&head.hash).to_string(),
        tail_unanchored: walk.tail.map_or(0, |tail| tail.records),
        tail: walk.tail,
        torn_bytes: walk.torn,
        ..Report::of_nothing()
    };
    walk.findings.finish(&mut report);
    report
}

/// How often a log that moves on is looked at.
const ATTEMPTS: usize = 5;
