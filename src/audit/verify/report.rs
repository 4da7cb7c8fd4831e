//! What a check of a log came to: findings, what each means, and the whole.

use std::collections::HashMap;

use serde::Serialize;

use super::super::chain::{Head, Hex};
use super::super::read::Line;

/// What a log was found to be, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything that is signed is as it was written.
    Intact,
    /// What is there is as it was written, but something is missing.
    Incomplete,
    /// Nothing can be said: no key, no signature, or a file cannot be read.
    Unverifiable,
    /// Something was changed, added, or signed by whom it should not be.
    Tampered,
}

/// A file and a line in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The file's name in the log's directory.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
}

impl From<&Line<'_>> for Place {
    fn from(line: &Line<'_>) -> Self {
        Self { file: file_name(line.segment), line: line.number }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which kind.
    pub code: Code,
    /// What it makes of the log; [`Verdict::Intact`] for a mere note.
    pub result: Verdict,
    /// What was found, as a sentence.
    pub sentence: String,
    /// Where, if it is at one place.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// What should be there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// What is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
}

/// The kinds of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// A line is no record of a log.
    NotARecord,
    /// A compressed segment is damaged.
    SegmentDamaged,
    /// A sequence number stands where another should.
    SequenceWrong,
    /// A line does not hold the hash of the line before it.
    LinkBroken,
    /// A line that must be signed is not.
    SignatureMissing,
    /// A signature is wrong.
    SignatureWrong,
    /// A line is signed by another key than the one valid at its place.
    KeyNotValid,
    /// The log's first key is not the pinned one, nor certified by it.
    KeyReplaced,
    /// The chain of keys is broken.
    KeyChainBroken,
    /// The log and `keys.ndjson` do not agree.
    KeyRecordWrong,
    /// A checkpoint does not say what the chain is.
    CheckpointWrong,
    /// The manifest is broken, or a segment is not what it says.
    ManifestWrong,
    /// The log has another line than a checkpoint that was kept.
    AnchorDiffers,
    /// Records are missing between two others.
    RecordsMissing,
    /// Records are missing at the beginning, and nothing signed says that they were removed.
    StartMissing,
    /// For longer than a checkpoint's interval nothing was signed.
    CheckpointMissing,
    /// The log ends before what is known to have been written.
    TailCut,
    /// A file cannot be read.
    Unreadable,
    /// No line is signed.
    NotSigned,
    /// `keys.ndjson` is missing, and without it the log's keys cannot be tied to the pinned one.
    KeysMissing,
    /// What was given as an anchor is no checkpoint of this log.
    AnchorInvalid,
    /// The key or the anchor that was given is none.
    Refused,
    /// Old segments were removed, and the log says so.
    Retention,
    /// An anchor's line was removed with its segment.
    AnchorRemoved,
    /// A key is in the chain, but not in `keys.ndjson`.
    CertificateMissing,
    /// A closed segment is not in the manifest.
    ManifestMissing,
    /// Bytes behind the last whole line.
    TornTail,
    /// A torn tail that a start moved aside.
    TornEvidence,
    /// A start put something in order.
    Recovery,
    /// The log could not be written for a time, and says so.
    Outage,
    /// The log lost records for want of room, and says so.
    Gap,
    /// The copy of the newest checkpoint is none of this log.
    CopyInvalid,
}

impl Code {
    /// What a finding of this kind makes of the log.
    pub fn verdict(self) -> Verdict {
        match self {
            Self::NotARecord
            | Self::SegmentDamaged
            | Self::SequenceWrong
            | Self::LinkBroken
            | Self::SignatureMissing
            | Self::SignatureWrong
            | Self::KeyNotValid
            | Self::KeyReplaced
            | Self::KeyChainBroken
            | Self::KeyRecordWrong
            | Self::CheckpointWrong
            | Self::ManifestWrong
            | Self::AnchorDiffers => Verdict::Tampered,
            Self::RecordsMissing
            | Self::StartMissing
            | Self::CheckpointMissing
            | Self::TailCut
            | Self::Gap => Verdict::Incomplete,
            Self::Unreadable
            | Self::NotSigned
            | Self::KeysMissing
            | Self::AnchorInvalid
            | Self::Refused => Verdict::Unverifiable,
            Self::Retention
            | Self::AnchorRemoved
            | Self::CertificateMissing
            | Self::ManifestMissing
            | Self::TornTail
            | Self::TornEvidence
            | Self::Recovery
            | Self::Outage
            | Self::CopyInvalid => Verdict::Intact,
        }
    }
}

/// Records that no signature covers yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Tail {
    /// How many.
    pub records: u64,
    /// When the oldest was written, Unix time in ms.
    pub since: u64,
}

/// A check's outcome.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What the log is.
    pub result: Verdict,
    /// Lines read.
    pub records: u64,
    /// Segments read.
    pub segments: usize,
    /// Checkpoints whose signature holds.
    pub checkpoints: u64,
    /// Keys that the log was signed with.
    pub keys: usize,
    /// Sequence number of the first line; 0 when there is none.
    pub first_seq: u64,
    /// Sequence number of the last line; 0 when there is none.
    pub last_seq: u64,
    /// SHA-256 of the last line, hex.
    pub head: String,
    /// The first place where something is wrong or missing.
    pub first_bad: Option<Place>,
    /// Records behind the last signed line.
    pub tail_unanchored: u64,
    /// Their age.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tail: Option<Tail>,
    /// Bytes behind the last whole line.
    pub torn_bytes: u64,
    /// Everything found; of each kind no more than the first few.
    pub findings: Vec<Finding>,
    /// Findings that were left out.
    pub findings_left_out: u64,
}

impl Report {
    /// Of a check that could not begin.
    pub fn refused(sentence: &str) -> Self {
        let mut findings = Findings::default();
        findings.add(Code::Refused, None, sentence.to_owned());
        let mut report = Self::of_nothing();
        findings.finish(&mut report);
        report
    }

    /// Of no line at all.
    pub(super) fn of_nothing() -> Self {
        let genesis = Head::genesis();
        Self {
            result: Verdict::Intact,
            records: 0,
            segments: 0,
            checkpoints: 0,
            keys: 0,
            first_seq: 0,
            last_seq: genesis.seq,
            head: Hex(&genesis.hash).to_string(),
            first_bad: None,
            tail_unanchored: 0,
            tail: None,
            torn_bytes: 0,
            findings: Vec::new(),
            findings_left_out: 0,
        }
    }
}

/// Gathers findings.
#[derive(Debug, Default)]
pub(super) struct Findings {
    list: Vec<Finding>,
    counts: HashMap<Code, usize>,
    left_out: u64,
    first_bad: Option<Place>,
    worst: Option<Verdict>,
}

impl Findings {
    pub(super) fn add(&mut self, code: Code, place: Option<Place>, sentence: String) {
        self.push(code, place, sentence, None);
    }

    /// A finding where something else was expected.
    pub(super) fn differ(
        &mut self,
        code: Code,
        place: Option<Place>,
        sentence: String,
        expected: String,
        found: String,
    ) {
        self.push(code, place, sentence, Some((expected, found)));
    }

    /// The worst so far.
    pub(super) fn worst(&self) -> Verdict {
        self.worst.unwrap_or(Verdict::Intact)
    }

    /// Puts everything into a report.
    pub(super) fn finish(self, report: &mut Report) {
        report.result = self.worst();
        report.first_bad = self.first_bad;
        report.findings = self.list;
        report.findings_left_out = self.left_out;
    }

    fn push(
        &mut self,
        code: Code,
        place: Option<Place>,
        sentence: String,
        differ: Option<(String, String)>,
    ) {
        let result = code.verdict();
        self.worst = self.worst.max(Some(result));
        if result > Verdict::Intact && self.first_bad.is_none() {
            self.first_bad.clone_from(&place);
        }
        let count = self.counts.entry(code).or_default();
        *count = count.saturating_add(1);
        if *count > OF_A_KIND {
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        let (expected, found) = differ.unzip();
        self.list.push(Finding { code, result, sentence, place, expected, found });
    }
}

/// A file's name without its directory.
pub(super) fn file_name(path: &std::path::Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Findings of a kind that are kept: a log of which all is changed must not fill the memory.
const OF_A_KIND: usize = 20;
