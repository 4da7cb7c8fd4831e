//! Bytes that were read and could not be written.

/// Bytes that wait for their sink.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    bytes: Vec<u8>,
    start: usize,
}

/// What is left of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Something,
    Nothing,
}

impl Chunk {
    /// Holds a copy of `bytes`, in no more room than they need, unless it has more already.
    pub(super) fn fill(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.start = 0;
        self.bytes.reserve_exact(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    /// What is still to be written.
    pub(super) fn rest(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// So many bytes were written.
    pub(super) fn advance(&mut self, size: usize) -> Left {
        self.start = self.start.saturating_add(size);
        if self.rest().is_empty() { Left::Nothing } else { Left::Something }
    }
}
