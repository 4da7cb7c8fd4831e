//! One pass over the lines: sequence, hashes, shape, and what is signed.

use super::super::chain::{self, Hash, Head, Stored};
use super::super::kind;
use super::super::read::Line;
use super::super::sign::{Context, Signed};
use super::anchor::Anchors;
use super::keys::{Keys, Proof};
use super::manifest::Manifest;
use super::pulse::Pulse;
use super::report::{Code, Findings, Place, Tail};
use super::system::System;

/// How far a log has been read, and what was found so far.
pub(super) struct Walk {
    pub(super) keys: Keys,
    pub(super) manifest: Manifest,
    pub(super) anchors: Anchors,
    pub(super) findings: Findings,
    pub(super) pulse: Pulse,
    pub(super) head: Option<Head>,
    /// The first line's sequence number, and the hash that it holds.
    pub(super) first: Option<(u64, Hash)>,
    pub(super) records: u64,
    pub(super) signed: u64,
    pub(super) tail: Option<Tail>,
    /// Lines that a loss of power may have left, if nothing good follows.
    garbage: Option<Garbage>,
    /// Bytes of such lines at the end.
    pub(super) torn: u64,
    /// That no key is tied to the pinned one has been said.
    untied: bool,
}

struct Garbage {
    place: Place,
    bytes: u64,
}

impl Walk {
    pub(super) fn new(
        keys: Keys,
        manifest: Manifest,
        anchors: Anchors,
        findings: Findings,
    ) -> Self {
        Self {
            keys,
            manifest,
            anchors,
            findings,
            pulse: Pulse::default(),
            head: None,
            first: None,
            records: 0,
            signed: 0,
            tail: None,
            garbage: None,
            torn: 0,
            untied: false,
        }
    }

    /// Takes the next line.
    pub(super) fn line(&mut self, line: &Line<'_>) {
        let Some(stored) = Stored::parse(line.bytes) else { return self.no_record(line) };
        self.end_garbage();
        self.manifest.meet(line, &mut self.findings);
        let seq = self.place(&stored, line);
        self.records = self.records.saturating_add(1);
        self.pulse.line();
        let first = self.first.map_or(1, |(first, _)| first);
        self.anchors.meet(seq, first, line, &mut self.findings);
        self.head = Some(Head::of(seq, line.bytes));
        if self.seal(seq, &stored, line) {
            self.signed = self.signed.saturating_add(1);
            self.tail = None;
        } else {
            let since = stored.metadata.logged_time;
            let tail = self.tail.get_or_insert(Tail { records: 0, since });
            tail.records = tail.records.saturating_add(1);
            let late = self.pulse.unsigned(since);
            if let Some(late) = late {
                self.findings.add(Code::CheckpointMissing, Some(line.into()), late);
            }
        }
    }

    /// Behind the last line.
    pub(super) fn end(&mut self) {
        self.torn = self.garbage.take().map_or(0, |garbage| garbage.bytes);
    }

    /// Checks a line's place in the chain; returns its sequence number.
    fn place(&mut self, stored: &Stored<'_>, line: &Line<'_>) -> u64 {
        let chain = stored.chain();
        let prev = chain::parse_hash(chain.prev);
        let Some(head) = &self.head else {
            self.first = Some((chain.seq, prev.unwrap_or_default()));
            let genesis = Head::genesis().hash;
            if chain.seq == 1 && prev != Some(genesis) {
                let sentence = "the first record does not begin the chain".to_owned();
                self.broken(line, sentence, &genesis, chain.prev);
            }
            self.numbers_agree(stored, line);
            return chain.seq;
        };
        let expected = head.seq.saturating_add(1);
        if chain.seq == expected || stored.metadata.sequence == expected {
            if prev != Some(head.hash) {
                let hash = head.hash;
                let sentence = format!(
                    "record {expected} does not hold the hash of the one before it: record {} was \
                     changed, or this one",
                    head.seq
                );
                self.broken(line, sentence, &hash, chain.prev);
            }
            self.numbers_agree(stored, line);
            return expected;
        }
        self.jump(expected, stored, line);
        chain.seq
    }

    fn jump(&mut self, expected: u64, stored: &Stored<'_>, line: &Line<'_>) {
        let found = stored.chain().seq;
        self.pulse.hole();
        if found > expected {
            let last = found.saturating_sub(1);
            let names = self.manifest.names(expected, last);
            let sentence = if expected == last {
                format!("record {last} is missing{names}")
            } else {
                format!("records {expected} to {last} are missing{names}")
            };
            self.findings.add(Code::RecordsMissing, Some(line.into()), sentence);
        } else {
            let sentence = format!("record {found} stands where {expected} should");
            self.findings.add(Code::SequenceWrong, Some(line.into()), sentence);
        }
        self.numbers_agree(stored, line);
    }

    fn numbers_agree(&mut self, stored: &Stored<'_>, line: &Line<'_>) {
        let (sequence, seq) = (stored.metadata.sequence, stored.chain().seq);
        if sequence != seq {
            let sentence = format!("the record is {sequence} and {seq} at once");
            self.findings.add(Code::SequenceWrong, Some(line.into()), sentence);
        }
    }

    fn broken(&mut self, line: &Line<'_>, sentence: String, expected: &Hash, found: &str) {
        self.pulse.hole();
        let (expected, found) = (chain::prefixed(expected), found.to_owned());
        self.findings.differ(Code::LinkBroken, Some(line.into()), sentence, expected, found);
    }

    /// Checks the signature of a line that has one, or should; whether it holds.
    fn seal(&mut self, seq: u64, stored: &Stored<'_>, line: &Line<'_>) -> bool {
        let system = stored.class_uid == kind::CLASS_UID_SYSTEM;
        let signed = (system || stored.chain().key.is_some())
            .then(|| Signed::parse(Context::Line, line.bytes));
        let holds = match &signed {
            None => false,
            Some(None) => {
                let sentence = format!("record {seq} has to be signed, and is not");
                self.findings.add(Code::SignatureMissing, Some(line.into()), sentence);
                false
            }
            Some(Some(signed)) => self.signature(seq, signed, line),
        };
        if signed.is_some() && !holds {
            // What it said cannot be counted on.
            self.pulse.hole();
        }
        let facts = holds.then(|| System::parse(line.bytes)).flatten();
        let introduces = facts.as_ref().is_some_and(|facts| facts.status_code == "key");
        if let Some(facts) = facts {
            self.system(seq, stored, &facts, line);
        }
        if !introduces && let Err(sentence) = self.keys.nothing_at(seq) {
            self.findings.add(Code::KeyRecordWrong, Some(line.into()), sentence);
        }
        holds
    }

    fn signature(&mut self, seq: u64, signed: &Signed<'_>, line: &Line<'_>) -> bool {
        let valid = self.keys.at(seq).copied();
        let named = valid.filter(|key| key.id().as_str() == signed.key);
        let Some(key) = named else {
            self.wrong_key(seq, signed.key, valid.map(|key| key.id()), line);
            return false;
        };
        let holds = key.verifies(Context::Line, signed.covered, &signed.signature);
        if !holds {
            let sentence = format!("the signature of record {seq} is wrong");
            self.findings.add(Code::SignatureWrong, Some(line.into()), sentence);
        }
        holds
    }

    fn wrong_key(
        &mut self,
        seq: u64,
        id: &str,
        valid: Option<super::super::KeyId>,
        line: &Line<'_>,
    ) {
        match self.keys.proof {
            Proof::Pinned => {
                let sentence = format!(
                    "record {seq} is signed by the key {}; valid here is {}",
                    self.keys.describe(id),
                    valid.map_or_else(|| "none".to_owned(), |id| id.to_string())
                );
                self.findings.add(Code::KeyNotValid, Some(line.into()), sentence);
            }
            Proof::Missing if !self.untied => {
                let sentence = format!(
                    "record {seq} is signed by the key {id}, and without keys.ndjson nothing ties \
                     it to the pinned one"
                );
                self.findings.add(Code::KeysMissing, Some(line.into()), sentence);
                self.untied = true;
            }
            // Said once.
            Proof::Missing | Proof::Foreign => {}
        }
    }

    /// A record of the box's own, whose signature holds.
    fn system(&mut self, seq: u64, stored: &Stored<'_>, facts: &System<'_>, line: &Line<'_>) {
        let place = || Some(Place::from(line));
        if let Some(key) = facts.introduced(seq)
            && let Err(sentence) = self.keys.introduce(key)
        {
            self.findings.add(Code::KeyRecordWrong, place(), sentence);
        }
        if facts.status_code == "checkpoint" {
            let head = (seq.saturating_sub(1), stored.chain().prev);
            if let Err(sentence) = self.pulse.checkpoint(facts, head) {
                self.findings.add(Code::CheckpointWrong, place(), sentence);
            }
        }
        if let Err(sentence) = self.pulse.beat(facts, stored.metadata.logged_time) {
            self.findings.add(Code::CheckpointMissing, place(), sentence);
        }
        self.manifest.note_removed(&facts.removed());
        if let Some((code, sentence)) = facts.finding() {
            self.findings.add(code, place(), sentence);
        }
    }

    fn no_record(&mut self, line: &Line<'_>) {
        if line.bytes.contains(&0) {
            // Sectors that were not written before the power went read as zeros.
            let garbage = self.garbage.get_or_insert(Garbage { place: line.into(), bytes: 0 });
            let bytes = (line.bytes.len() as u64).saturating_add(1);
            garbage.bytes = garbage.bytes.saturating_add(bytes);
            return;
        }
        self.end_garbage();
        self.manifest.meet(line, &mut self.findings);
        let sentence = "the line is no record of an audit log".to_owned();
        self.findings.add(Code::NotARecord, Some(line.into()), sentence);
        self.passed_over(line.bytes);
    }

    fn end_garbage(&mut self) {
        let Some(garbage) = self.garbage.take() else { return };
        let sentence = format!("{} bytes are no record, and good ones follow", garbage.bytes);
        self.findings.add(Code::NotARecord, Some(garbage.place), sentence);
        self.pulse.hole();
    }

    /// What was a record once, by its place.
    fn passed_over(&mut self, line: &[u8]) {
        self.pulse.hole();
        if let Some(head) = &self.head {
            self.head = Some(Head::of(head.seq.saturating_add(1), line));
        }
    }
}
