//! The sizes and times of the writer, which tests make smaller.

use std::time::Duration;

/// The sizes and times of the writer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tuning {
    /// A segment is not continued beyond this.
    pub(super) segment_bytes: u64,
    /// A segment is not continued after this.
    pub(super) segment_age: Duration,
    /// Between two attempts while the log is failing.
    pub(super) retry: Duration,
    /// How long refusals without a record are counted before the count is recorded.
    pub(super) gather: Duration,
    /// How long an end may wait for an Open to share its sync with.
    pub(super) linger: Duration,
    /// Between the beginnings of two batches while many flows wait for each.
    pub(super) pace: Duration,
    /// A batch is not filled beyond this.
    pub(super) batch_bytes: usize,
    /// Between two checkpoints, in time.
    pub(super) checkpoint_every: Duration,
    /// Between two checkpoints, in lines.
    pub(super) checkpoint_lines: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            segment_age: Duration::from_hours(1),
            retry: Duration::from_secs(1),
            gather: Duration::from_secs(1),
            linger: Duration::from_millis(10),
            pace: Duration::from_millis(2),
            batch_bytes: 4 << 20,
            checkpoint_every: Duration::from_secs(60),
            checkpoint_lines: 1000,
        }
    }
}
