//! How far the disk is behind what the log has taken.

use std::time::{Duration, Instant};

/// Records between the queue and the disk.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lag {
    /// Since when the oldest in the queue waits.
    queued_since: Option<Instant>,
    /// What the writer has taken and not brought to the disk.
    taken: usize,
    /// Since when the oldest of it waits.
    taken_since: Option<Instant>,
}

impl Lag {
    /// One more is in the queue.
    pub(super) fn queued(&mut self) {
        self.queued_since.get_or_insert_with(Instant::now);
    }

    /// The writer takes all that is in the queue.
    pub(super) fn given(&mut self, count: usize) {
        self.taken = self.taken.saturating_add(count);
        self.taken_since = self.taken_since.or(self.queued_since);
        self.queued_since = None;
    }

    /// The writer has brought a batch to the disk, and so many are left.
    pub(super) fn wrote(&mut self, left: usize) {
        self.taken = left;
        self.taken_since = self.taken_since.filter(|_| left > 0);
    }

    /// How many wait beside those in the queue.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// How long the oldest has waited.
    pub(super) fn longest(&self) -> Duration {
        let since = self.taken_since.or(self.queued_since);
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }
}
