//! The manifest: what each closed segment was, and which ones may be gone.
//!
//! A segment that was removed for its age leaves two things behind: its line in the manifest, and a
//! record of retention in the log. Both are needed; the first line that is left must follow the last
//! one that was removed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::super::chain::{self, Hash};
use super::super::read::Line;
use super::super::sign::{Context, Signed};
use super::keys::{Keys, whole_lines};
use super::report::{Code, Findings, Place, file_name};

/// The manifest, and how far the log has been compared with it.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    /// By the sequence number of the segment's first line.
    entries: BTreeMap<u64, Entry>,
    present: bool,
    current: Option<Current>,
    /// What the log says was removed: SHA-256 of the content, by the last sequence number.
    removed: BTreeMap<u64, String>,
}

#[derive(Debug)]
struct Entry {
    segment: String,
    last: u64,
    bytes: u64,
    sha256: String,
    last_hash: Option<Hash>,
    place: Place,
}

/// The segment that is being read.
#[derive(Debug)]
struct Current {
    segment: String,
    /// Its first sequence number, where the manifest has it.
    first: Option<u64>,
    digest: Sha256,
    bytes: u64,
    end: Place,
}

/// A line of the manifest.
#[derive(Deserialize)]
struct Stored<'a> {
    segment: &'a str,
    first: u64,
    last: u64,
    records: u64,
    bytes: u64,
    sha256: &'a str,
    last_hash: &'a str,
    prev: &'a str,
}

/// A segment in a record of retention.
#[derive(Debug, Deserialize)]
pub(super) struct Removed<'a> {
    last: u64,
    sha256: Option<&'a str>,
}

impl Manifest {
    /// Reads and checks `manifest.ndjson`; a log without one has none to check.
    pub(super) fn read(directory: &Path, keys: &Keys, findings: &mut Findings) -> Self {
        let mut manifest = Self::default();
        let content = match fs::read(directory.join(MANIFEST)) {
            Ok(content) => content,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return manifest,
            Err(error) => {
                let sentence = format!("{MANIFEST} cannot be read: {error}");
                findings.add(Code::Unreadable, None, sentence);
                return manifest;
            }
        };
        manifest.present = content.iter().any(|byte| *byte != 0);
        let mut reading = Reading { prev: chain::hash(b""), last: None, epoch: 0 };
        // A line that the disk lost at a crash: its length was kept, and what was in it was not.
        let lost = |line: &&[u8]| line.iter().all(|byte| *byte == 0);
        let mut lines: Vec<&[u8]> = whole_lines(&content).collect();
        while lines.pop_if(|line| lost(&&**line)).is_some() {}
        for (line, number) in lines.into_iter().zip(1..) {
            let place = Place { file: MANIFEST.to_owned(), line: number };
            match reading.entry(line, keys, place.clone()) {
                Ok((first, entry)) => {
                    manifest.entries.insert(first, entry);
                }
                Err(sentence) => findings.add(Code::ManifestWrong, Some(place), sentence),
            }
        }
        manifest
    }

    /// A line of the log.
    pub(super) fn meet(&mut self, line: &Line<'_>, findings: &mut Findings) {
        if !self.present {
            return;
        }
        if line.number == 1 {
            self.end_segment(findings);
            let segment = file_name(line.segment);
            let segment = segment.strip_suffix(".gz").unwrap_or(&segment).to_owned();
            let named = self.entries.iter().find(|(_, entry)| entry.segment == segment);
            let first = named.map(|(first, _)| *first);
            let (digest, end) = (Sha256::new(), line.into());
            self.current = Some(Current { segment, first, digest, bytes: 0, end });
        }
        let Some(current) = self.current.as_mut().filter(|current| current.first.is_some()) else {
            return;
        };
        current.digest.update(line.bytes);
        current.digest.update(b"\n");
        current.bytes = current.bytes.saturating_add(line.bytes.len() as u64).saturating_add(1);
        current.end.line = line.number;
    }

    /// Compares the segment that was read with its line.
    fn end_segment(&mut self, findings: &mut Findings) {
        let Some(current) = self.current.take() else { return };
        let Some(entry) = current.first.and_then(|first| self.entries.get(&first)) else {
            let sentence = format!("{} is closed, but not in {MANIFEST}", current.segment);
            findings.add(Code::ManifestMissing, None, sentence);
            return;
        };
        let found = chain::Hex(&current.digest.finalize()).to_string();
        if found != entry.sha256 || current.bytes != entry.bytes {
            let sentence = format!(
                "{} has {} bytes, and not the content that line {} of {MANIFEST} says ({} bytes)",
                current.segment, current.bytes, entry.place.line, entry.bytes
            );
            let expected = entry.sha256.clone();
            findings.differ(Code::ManifestWrong, Some(current.end), sentence, expected, found);
        }
    }

    /// A record of the log says that these segments were removed.
    pub(super) fn note_removed(&mut self, segments: &[Removed<'_>]) {
        for removed in segments {
            self.removed.insert(removed.last, removed.sha256.unwrap_or_default().to_owned());
        }
    }

    /// The last sequence number that the manifest knows of.
    pub(super) fn last(&self) -> Option<(u64, &str)> {
        let entry = self.entries.values().next_back()?;
        Some((entry.last, &entry.segment))
    }

    /// Names the segments that hold these sequence numbers, as far as they are known.
    pub(super) fn names(&self, from: u64, to: u64) -> String {
        let within = self.entries.iter().filter(|(first, e)| **first <= to && e.last >= from);
        let names: Vec<&str> = within.map(|(_, entry)| entry.segment.as_str()).collect();
        if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) }
    }

    /// The log has been read: compares the last segment, and judges what is missing at the
    /// beginning, before record `first`, which holds the hash `prev`.
    pub(super) fn finish(&mut self, first: Option<(u64, Hash)>, findings: &mut Findings) {
        // The segment that is being written is not closed.
        if self.current.as_ref().is_some_and(|current| current.first.is_some()) {
            self.end_segment(findings);
        }
        let Some((first, prev)) = first.filter(|(first, _)| *first > 1) else { return };
        let last = first.saturating_sub(1);
        match self.removal(last) {
            Err(sentence) => findings.add(Code::StartMissing, None, sentence),
            Ok(entry) if entry.last_hash != Some(prev) => {
                let sentence = format!(
                    "record {first}, the first that is left, does not follow {}, the last segment \
                     that was removed",
                    entry.segment
                );
                let expected = entry.last_hash.map_or_else(String::new, |h| chain::prefixed(&h));
                let found = chain::prefixed(&prev);
                findings.differ(Code::LinkBroken, None, sentence, expected, found);
            }
            Ok(_) => {
                let sentence = format!("records 1 to {last} were removed, as the log itself says");
                findings.add(Code::Retention, None, sentence);
            }
        }
    }

    /// The line of the segment that ends with record `last`, if everything up to there may be gone.
    fn removal(&self, last: u64) -> Result<&Entry, String> {
        let mut next = 1;
        let mut reached = None;
        for (first, entry) in self.entries.range(..=last) {
            if *first != next {
                break;
            }
            next = entry.last.saturating_add(1);
            reached = Some(entry);
        }
        let entry = reached.filter(|entry| entry.last == last).ok_or_else(|| {
            format!("records 1 to {last} are missing, and {MANIFEST} does not account for them")
        })?;
        match self.removed.get(&last) {
            None => Err(format!(
                "records 1 to {last} are missing, and no record says that {} was removed",
                entry.segment
            )),
            Some(sha256) if !sha256.is_empty() && *sha256 != entry.sha256 => Err(format!(
                "records 1 to {last} are missing, and the record of their removal speaks of another \
                 content of {}",
                entry.segment
            )),
            Some(_) => Ok(entry),
        }
    }
}

/// What the next line of the manifest has to follow.
struct Reading {
    prev: Hash,
    last: Option<u64>,
    epoch: u32,
}

impl Reading {
    fn entry(&mut self, line: &[u8], keys: &Keys, place: Place) -> Result<(u64, Entry), String> {
        let stored: Option<Stored<'_>> = serde_json::from_slice(line).ok();
        let prev = std::mem::replace(&mut self.prev, chain::hash(line));
        let stored = stored.ok_or("the line is none of a manifest")?;
        if chain::parse_hash(stored.prev) != Some(prev) {
            return Err(format!(
                "the line does not hold the hash of the line before it: expected {}, found {}",
                chain::Hex(&prev),
                stored.prev
            ));
        }
        let before = self.last.replace(stored.last);
        // A segment that was damaged has no line.
        let follows = before.is_none_or(|last| stored.first > last);
        let count = stored.last.checked_sub(stored.first).and_then(|count| count.checked_add(1));
        if !follows || count != Some(stored.records) {
            return Err("the line's sequence numbers do not follow the line before".to_owned());
        }
        self.signature(line, stored.last, keys)?;
        let entry = Entry {
            segment: stored.segment.to_owned(),
            last: stored.last,
            bytes: stored.bytes,
            sha256: stored.sha256.to_owned(),
            last_hash: chain::parse_hash(stored.last_hash),
            place,
        };
        Ok((stored.first, entry))
    }

    /// A segment is closed after its last record, and segments one after the other: an earlier key
    /// than the last record's or than the line before is not valid.
    fn signature(&mut self, line: &[u8], last: u64, keys: &Keys) -> Result<(), String> {
        let signed = Signed::parse(Context::Manifest, line).ok_or("the line is not signed")?;
        let epoch = keys.valid_behind(signed.key, last).filter(|epoch| *epoch >= self.epoch);
        let (Some(epoch), Some(key)) = (epoch, keys.of_id(signed.key)) else {
            return Err(format!(
                "the line is signed by the key {}, which was not valid when the segment was closed",
                signed.key
            ));
        };
        self.epoch = epoch;
        if signed.is_by(key, Context::Manifest) {
            Ok(())
        } else {
            Err("the line's signature is wrong".to_owned())
        }
    }
}

/// The manifest, in the log's directory.
const MANIFEST: &str = "manifest.ndjson";
