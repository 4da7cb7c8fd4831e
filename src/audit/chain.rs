//! The hash chain: each line holds the SHA-256 of the line before it.
//!
//! `prev` is the hash over the exact bytes of the line before, without its newline, so that no
//! canonical form of JSON is needed. Before the first line stands the empty line: its `prev` is the
//! SHA-256 of no bytes at all. A sequence begins at 1 and has no holes, also across restarts.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::read::{self, Lines};
use super::{manifest, segment};

/// A SHA-256.
pub(super) type Hash = [u8; 32];

/// What ties a line to the one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// The line's own sequence number.
    pub(super) seq: u64,
    /// The hash of the line before.
    pub(super) prev: Hash,
}

/// The end of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Sequence number of the last line; 0 before the first.
    pub(super) seq: u64,
    /// The last line's hash.
    pub(super) hash: Hash,
}

impl Head {
    /// The head of a chain with no line.
    pub(super) fn genesis() -> Self {
        Self { seq: 0, hash: hash(b"") }
    }

    /// The head that is written down with this hash, in hex.
    fn parse(seq: u64, hex: &str) -> Option<Self> {
        let mut hash = Hash::default();
        let digits = hex.as_bytes().chunks(2).map(std::str::from_utf8);
        if hex.len() != 2 * hash.len() {
            return None;
        }
        for (byte, digits) in hash.iter_mut().zip(digits) {
            *byte = u8::from_str_radix(digits.ok()?, 16).ok()?;
        }
        Some(Self { seq, hash })
    }

    /// The link of the next line.
    pub(super) fn next(&self) -> Link {
        Link { seq: self.seq + 1, prev: self.hash }
    }

    /// The head once `line` has this sequence number.
    pub(super) fn of(seq: u64, line: &[u8]) -> Self {
        Self { seq, hash: hash(line) }
    }
}

/// The hash of a line, without its newline.
pub(super) fn hash(line: &[u8]) -> Hash {
    Sha256::digest(line).into()
}

/// Bytes as lower-case hex.
pub(super) struct Hex<'a>(pub(super) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0_u8; 64];
        for chunk in self.0.chunks(32) {
            let mut digits = text.iter_mut();
            for byte in chunk {
                for nibble in [byte >> 4, byte & 15] {
                    let digit = DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
                    if let Some(place) = digits.next() {
                        *place = digit;
                    }
                }
            }
            let written = text.get(..chunk.len() * 2).unwrap_or_default();
            f.write_str(std::str::from_utf8(written).unwrap_or_default())?;
        }
        Ok(())
    }
}

/// What the log needs back from a line of its own.
#[derive(Debug, Deserialize)]
pub(super) struct Stored<'a> {
    #[serde(borrow)]
    pub(super) metadata: StoredMetadata<'a>,
    pub(super) class_uid: u16,
    pub(super) activity_id: u8,
    #[serde(borrow)]
    unmapped: StoredUnmapped<'a>,
}

#[derive(Debug, Deserialize)]
pub(super) struct StoredMetadata<'a> {
    pub(super) correlation_uid: Option<&'a str>,
    pub(super) logged_time: u64,
}

#[derive(Debug, Deserialize)]
struct StoredUnmapped<'a> {
    #[serde(borrow)]
    chain: StoredChain<'a>,
    #[serde(borrow)]
    system: Option<StoredSystem<'a>>,
}

/// Of a record of the box's own: the key that it introduces.
#[derive(Debug, Deserialize)]
pub(super) struct StoredSystem<'a> {
    pub(super) key: Option<&'a str>,
}

#[derive(Debug, Deserialize)]
pub(super) struct StoredChain<'a> {
    #[serde(borrow)]
    pub(super) id: std::borrow::Cow<'a, str>,
    pub(super) seq: u64,
    prev: &'a str,
    key: Option<&'a str>,
}

impl<'a> Stored<'a> {
    /// Reads a line; `None` when it is no record of this log.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// Its place in the chain.
    pub(super) fn chain(&self) -> &StoredChain<'a> {
        &self.unmapped.chain
    }

    /// The key that signs behind this line, where it says so: the one that it introduces, or the
    /// one that signed it.
    pub(super) fn key(&self) -> Option<&'a str> {
        let introduced = self.unmapped.system.as_ref().and_then(|system| system.key);
        introduced.or(self.unmapped.chain.key)
    }

    /// Whether it is the line right behind `head`.
    pub(super) fn follows(&self, head: &Head) -> bool {
        let chain = self.chain();
        chain.seq == head.seq + 1 && chain.prev == prefixed(&head.hash)
    }
}

/// A chain that was found whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainReport {
    /// Lines read.
    pub records: u64,
    /// Segments read.
    pub segments: usize,
    /// Sequence number of the last line; 0 when there is none.
    pub last_seq: u64,
    /// SHA-256 of the last line, hex.
    pub head: String,
    /// Bytes behind the last whole line of the last segment: a line that is being written, or one
    /// that the next start will move aside.
    pub torn_bytes: u64,
}

/// A chain that is not whole, or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// The directory or a segment cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// What cannot be read.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is no record.
    #[error("{file} line {line}: not a record of this log", file = file.display())]
    Unreadable {
        /// The segment.
        file: PathBuf,
        /// The line, from 1.
        line: u64,
    },
    /// Lines are missing before this one.
    #[error("{file} line {line}: sequence {found}, expected {expected}", file = file.display())]
    Missing {
        /// The segment.
        file: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The sequence number that should stand here.
        expected: u64,
        /// The one that does.
        found: u64,
    },
    /// The line before this one was changed, or this one.
    #[error("{file} line {line}: prev is {found}, the line before hashes to {expected}",
        file = file.display())]
    Broken {
        /// The segment.
        file: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The hash of the line before.
        expected: String,
        /// What the line says.
        found: String,
    },
}

/// Checks sequence and hashes over every line of a directory. A live log can be checked too. Where
/// the first segments were removed, it begins with what the manifest says of the last of them.
///
/// # Errors
/// The first line that breaks the chain, or what cannot be read.
pub fn verify_chain(directory: &Path) -> Result<ChainReport, ChainError> {
    let mut lines = read::lines(directory).map_err(|e| at(directory, e))?;
    let mut head = begin(directory)
        .map_err(|source| ChainError::Read { path: directory.to_owned(), source })?;
    let mut records = 0;
    while let Some(line) = lines.next_line().map_err(|e| at(directory, e))? {
        check(&mut head, &line)?;
        records += 1;
    }
    Ok(report(&lines, records, &head))
}

/// What stands before the first segment that is there.
fn begin(directory: &Path) -> io::Result<Head> {
    let first = segment::segments(directory)?.first().map_or(1, |segment| segment.first);
    if first <= 1 {
        return Ok(Head::genesis());
    }
    let before = manifest::ending_at(directory, first - 1)?;
    let head = before.and_then(|sealed| Head::parse(sealed.last, &sealed.last_hash));
    Ok(head.unwrap_or_else(Head::genesis))
}

fn at(directory: &Path, error: read::ReadError) -> ChainError {
    let path = error.path.unwrap_or_else(|| directory.to_owned());
    ChainError::Read { path, source: error.source }
}

fn check(head: &mut Head, line: &read::Line<'_>) -> Result<(), ChainError> {
    let place = || (line.segment.to_owned(), line.number);
    let Some(stored) = Stored::parse(line.bytes) else {
        let (file, line) = place();
        return Err(ChainError::Unreadable { file, line });
    };
    let chain = stored.chain();
    if chain.seq != head.seq + 1 {
        let (file, line) = place();
        let expected = head.seq + 1;
        return Err(ChainError::Missing { file, line, expected, found: chain.seq });
    }
    if !stored.follows(head) {
        let (file, line) = place();
        let (expected, found) = (prefixed(&head.hash), chain.prev.to_owned());
        return Err(ChainError::Broken { file, line, expected, found });
    }
    *head = Head::of(chain.seq, line.bytes);
    Ok(())
}

fn report(lines: &Lines, records: u64, head: &Head) -> ChainReport {
    ChainReport {
        records,
        segments: lines.segments(),
        last_seq: head.seq,
        head: Hex(&head.hash).to_string(),
        torn_bytes: lines.torn_bytes(),
    }
}

fn prefixed(hash: &Hash) -> String {
    format!("sha256:{}", Hex(hash))
}
