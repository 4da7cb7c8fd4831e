//! The hash chain: each line holds the SHA-256 of the line before it.
//!
//! `prev` is the hash over the exact bytes of the line before, without its newline, so that no
//! canonical form of JSON is needed. Before the first line stands the empty line: its `prev` is the
//! SHA-256 of no bytes at all. A sequence begins at 1 and has no holes, also across restarts.

use std::fmt;

use serde::Deserialize;
use sha2::{Digest, Sha256};

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
    pub(super) sequence: u64,
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
    pub(super) prev: &'a str,
    pub(super) key: Option<&'a str>,
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
        chain.seq == head.seq + 1 && parse_hash(chain.prev) == Some(head.hash)
    }
}

/// A SHA-256 in hex as lines spell it, with the name of the hash before it.
pub(super) struct Prefixed<T>(pub(super) T);

impl<T: fmt::Display> fmt::Display for Prefixed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.0)
    }
}

/// A hash as lines spell it.
pub(super) fn prefixed(hash: &Hash) -> String {
    Prefixed(Hex(hash)).to_string()
}

/// Reads a hash in lower-case hex, with or without its name before it.
pub(super) fn parse_hash(text: &str) -> Option<Hash> {
    let digits = text.strip_prefix(PREFIX).unwrap_or(text).as_bytes();
    let mut hash = Hash::default();
    if digits.len() != 2 * hash.len() {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        for digit in pair {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            *byte = *byte << 4 | value;
        }
    }
    Some(hash)
}

const PREFIX: &str = "sha256:";
