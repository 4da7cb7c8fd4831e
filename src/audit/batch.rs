//! What the writer puts together for one write and one sync.

use std::ops::Range;

use super::chain::Head;
use super::clock;

/// What is in the buffer.
#[derive(Debug)]
pub(super) struct Batch {
    /// The head behind it.
    pub(super) head: Head,
    /// How many entries it holds.
    pub(super) taken: usize,
    /// Lines behind its last checkpoint, or the last durable one.
    pub(super) since: u64,
    /// Where its last checkpoint is in the buffer.
    pub(super) checkpoint: Option<Range<usize>>,
    /// When it was made, Unix time in ms.
    pub(super) logged: u64,
    /// The segment is full with it.
    pub(super) full: bool,
}

impl Batch {
    pub(super) fn behind(head: &Head, since: u64) -> Self {
        let logged = clock::unix_ms();
        Self { head: head.clone(), taken: 0, since, checkpoint: None, logged, full: false }
    }
}

/// Whether a line is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seal {
    Plain,
    Signed,
}
