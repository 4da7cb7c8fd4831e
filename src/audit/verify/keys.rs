//! Which key signs from which place on: the chain of keys from the pinned one.
//!
//! `keys.ndjson` says it, each line signed by the key before; the records that introduce keys in the
//! log say it again. A key that neither of them leads to proves nothing.

use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;

use super::super::keys::CERTIFICATES;
use super::super::sign::{Context, PublicKey, Signed};
use super::report::{Code, Findings, Place};

/// The keys of a log, in order.
#[derive(Debug)]
pub(super) struct Keys {
    epochs: Vec<Epoch>,
    pub(super) proof: Proof,
}

/// How the log's keys are tied to the pinned one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// `keys.ndjson` begins with it.
    Pinned,
    /// `keys.ndjson` is not there; the log may still begin with it.
    Missing,
    /// `keys.ndjson` begins with another one.
    Foreign,
}

/// One key's time.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    key: PublicKey,
    number: u32,
    /// The first line that it may sign.
    from: u64,
    /// `keys.ndjson` has it.
    certified: bool,
    /// A record in the log introduced it.
    introduced: bool,
}

/// A line of `keys.ndjson`.
#[derive(Deserialize)]
struct Certificate<'a> {
    epoch: u32,
    id: &'a str,
    public: &'a str,
    since: u64,
    root: Option<&'a str>,
}

/// A key that a record in the log introduces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Introduced<'a> {
    pub(super) seq: u64,
    pub(super) epoch: u32,
    pub(super) id: &'a str,
    pub(super) public: &'a str,
    pub(super) previous: &'a str,
    pub(super) since: u64,
}

impl Keys {
    /// No key at all.
    pub(super) fn none() -> Self {
        Self { epochs: Vec::new(), proof: Proof::Missing }
    }

    /// Reads and checks `keys.ndjson`.
    pub(super) fn read(directory: &Path, pinned: &PublicKey, findings: &mut Findings) -> Self {
        let alone = Epoch { key: *pinned, number: 1, from: 1, certified: false, introduced: true };
        let mut keys = Self { epochs: vec![alone], proof: Proof::Missing };
        let content = match fs::read(directory.join(CERTIFICATES)) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return keys,
            Err(error) => {
                let sentence = format!("{CERTIFICATES} cannot be read: {error}");
                findings.add(Code::Unreadable, None, sentence);
                return keys;
            }
        };
        let mut epochs = Vec::new();
        for (line, number) in whole_lines(&content).zip(1..) {
            let place = Some(Place { file: CERTIFICATES.to_owned(), line: number });
            match certified(line, pinned, epochs.last()) {
                Ok(epoch) => epochs.push(epoch),
                Err((code, sentence)) => {
                    findings.add(code, place, sentence);
                    // What follows may hold together, but proves nothing.
                    break;
                }
            }
        }
        keys.proof = Proof::Foreign;
        if !epochs.is_empty() {
            keys = Self { epochs, proof: Proof::Pinned };
        }
        keys
    }

    /// The key that is valid at a line.
    pub(super) fn at(&self, seq: u64) -> Option<&PublicKey> {
        self.epoch_at(seq).map(|epoch| &epoch.key)
    }

    /// The key of this id, wherever it is valid.
    pub(super) fn of_id(&self, id: &str) -> Option<&PublicKey> {
        self.epochs.iter().map(|epoch| &epoch.key).find(|key| key.id().as_str() == id)
    }

    /// The place in the order of keys of the one that signed, if it may sign something behind line
    /// `last`.
    pub(super) fn valid_behind(&self, id: &str, last: u64) -> Option<u32> {
        let at = self.epochs.iter().position(|epoch| epoch.key.id().as_str() == id)?;
        let until = self.epochs.get(at + 1).map_or(u64::MAX, |next| next.from);
        self.epochs.get(at).filter(|_| until > last).map(|epoch| epoch.number)
    }

    /// What is known of a key, for a sentence.
    pub(super) fn describe(&self, id: &str) -> String {
        let known = self.epochs.iter().find(|epoch| epoch.key.id().as_str() == id);
        known.map_or_else(
            || format!("{id}, which is none of this log's keys"),
            |epoch| format!("{id}, which is valid from record {} on", epoch.from),
        )
    }

    pub(super) fn count(&self) -> usize {
        self.epochs.len()
    }

    /// The line from which on the newest key is valid less one: a log that has this key had a record
    /// there.
    pub(super) fn newest_since(&self) -> u64 {
        self.epochs.last().map_or(0, |epoch| epoch.from.saturating_sub(1))
    }

    /// A record, whose signature holds, introduces a key.
    ///
    /// # Errors
    /// What does not fit, as a sentence.
    pub(super) fn introduce(&mut self, record: Introduced<'_>) -> Result<(), String> {
        let key = PublicKey::parse(record.public)
            .filter(|key| key.id().as_str() == record.id)
            .ok_or("the key that the record introduces is no key, or its id is of another")?;
        let current = self.epoch_at(record.seq).copied().ok_or("there is no key before it")?;
        if record.since != record.seq || current.key.id().as_str() != record.previous {
            return Err("the record names another place or another key before it".to_owned());
        }
        let from = record.seq.saturating_add(1);
        let at = self.epochs.partition_point(|epoch| epoch.from <= record.seq);
        let next = Epoch { key, number: record.epoch, from, certified: false, introduced: true };
        match self.epochs.get_mut(at) {
            Some(known) if known.key == key && known.number == record.epoch => {
                // A start that had to certify it afterwards may have known the place less well.
                known.from = from;
                known.introduced = true;
                Ok(())
            }
            Some(known) => Err(format!(
                "the record introduces the key {}, {CERTIFICATES} has {} next",
                record.id,
                known.key.id()
            )),
            None => {
                self.epochs.push(next);
                Ok(())
            }
        }
    }

    /// Says that this line has been read, and introduces no key.
    ///
    /// # Errors
    /// `keys.ndjson` says that it does.
    pub(super) fn nothing_at(&self, seq: u64) -> Result<(), String> {
        let next = seq.saturating_add(1);
        let missed = self.epochs.iter().find(|epoch| epoch.from == next && !epoch.introduced);
        missed.map_or(Ok(()), |epoch| {
            let id = epoch.key.id();
            Err(format!("{CERTIFICATES} says that record {seq} introduced the key {id}"))
        })
    }

    /// Keys that only the log itself speaks of.
    pub(super) fn uncertified(&self) -> impl Iterator<Item = String> {
        let uncertified = self.epochs.iter().filter(|epoch| !epoch.certified);
        uncertified.map(|epoch| epoch.key.id().as_str().to_owned())
    }

    fn epoch_at(&self, seq: u64) -> Option<&Epoch> {
        let behind = self.epochs.partition_point(|epoch| epoch.from <= seq);
        self.epochs.get(behind.checked_sub(1)?)
    }
}

/// The lines of a small file; what a crash left of a last one is none.
pub(super) fn whole_lines(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    content.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"))
}

fn certified(
    line: &[u8],
    pinned: &PublicKey,
    before: Option<&Epoch>,
) -> Result<Epoch, (Code, String)> {
    let broken = |sentence: &str| (Code::KeyChainBroken, sentence.to_owned());
    let certificate: Certificate<'_> =
        serde_json::from_slice(line).map_err(|_| broken("the line is no certificate of a key"))?;
    let key = PublicKey::parse(certificate.public)
        .filter(|key| key.id().as_str() == certificate.id)
        .ok_or_else(|| broken("the line's key is no key, or its id is of another"))?;
    let root = certificate.root.map(PublicKey::parse);
    let signer = match (before, root) {
        (Some(before), _) => before.key,
        (None, None) => key,
        (None, Some(root)) => root.ok_or_else(|| broken("the line's root is no key"))?,
    };
    if before.is_none() && signer != *pinned {
        let (pinned, signer) = (pinned.fingerprint(), signer.fingerprint());
        let sentence = format!(
            "the log's first key is not the pinned one: pinned {pinned}, found {signer}; the log is \
             of another box, or its keys were replaced"
        );
        return Err((Code::KeyReplaced, sentence));
    }
    let signed = Signed::parse(Context::Key, line);
    if !signed.is_some_and(|signed| signed.is_by(&signer, Context::Key)) {
        let id = signer.id();
        return Err(broken(&format!("the line is not signed by the key before it, {id}")));
    }
    let (epoch, from) = before.map_or((1, 1), |before| {
        (before.number.saturating_add(1), certificate.since.saturating_add(1))
    });
    if certificate.epoch != epoch || before.is_some_and(|before| from <= before.from) {
        return Err(broken("the line's epoch or its place does not follow the line before"));
    }
    Ok(Epoch { key, number: epoch, from, certified: true, introduced: before.is_none() })
}
