//! What the DNS thread has done, for `status`.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Counts since the start; written by the DNS thread only.
#[derive(Debug, Default)]
pub struct DnsStats {
    pub(super) answered: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) forwarded: AtomicU64,
    pub(super) limited: AtomicU64,
    pub(super) malformed: AtomicU64,
    pub(super) dropped: AtomicU64,
}

/// The same at one moment. The shape of `dns` in `status --json`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DnsStatus {
    /// Questions for allowed names that had an answer, also that there is no such record.
    pub answered_total: u64,
    /// Questions for names that are not allowed.
    pub refused_total: u64,
    /// Questions for allowed names without a usable answer (SERVFAIL).
    pub failed_total: u64,
    /// Questions that servers of the plant's own have answered.
    pub forwarded_total: u64,
    /// Questions beyond `dns.queries-per-second`, which were dropped.
    pub limited_total: u64,
    /// Messages that were no questions.
    pub malformed_total: u64,
    /// Questions and connections that were dropped because too many waited at once.
    pub dropped_total: u64,
}

impl DnsStats {
    /// The counts now.
    pub fn status(&self) -> DnsStatus {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DnsStatus {
            answered_total: read(&self.answered),
            refused_total: read(&self.refused),
            failed_total: read(&self.failed),
            forwarded_total: read(&self.forwarded),
            limited_total: read(&self.limited),
            malformed_total: read(&self.malformed),
            dropped_total: read(&self.dropped),
        }
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
