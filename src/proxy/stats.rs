//! Counts of a data thread. Written by that thread only, at the beginning and end of flows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::latency::{Latencies, Latency};
use crate::reason::Reason;
use crate::relay::FlowBytes;

/// One data thread's counts.
#[derive(Debug)]
pub struct Stats {
    live: AtomicU64,
    allowed: AtomicU64,
    learnt: AtomicU64,
    pub(super) latencies: Latencies,
    denied: Vec<AtomicU64>,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
    bytes_up_spliced: AtomicU64,
    bytes_down_spliced: AtomicU64,
}

/// The counts of all threads together.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Totals {
    /// Flows that live now.
    pub live: u64,
    /// Flows that were allowed and connected.
    pub allowed_total: u64,
    /// Of these, how many by learn mode only.
    pub learnt_total: u64,
    /// Flows that were refused or could not be connected.
    pub denied_total: u64,
    /// Of these, how many for each reason; reasons without any are left out.
    pub denied_by_reason: BTreeMap<&'static str, u64>,
    /// Bytes of ended flows from devices to endpoints.
    pub bytes_up: u64,
    /// Bytes of ended flows from endpoints to devices.
    pub bytes_down: u64,
    /// Of both, how many bytes did not pass user space.
    pub bytes_spliced: u64,
    /// Of these, those from devices to endpoints.
    pub bytes_up_spliced: u64,
    /// And those from endpoints to devices.
    pub bytes_down_spliced: u64,
    /// How long each step of their set-up took.
    pub set_up: Vec<Latency>,
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            live: 0,
            allowed_total: 0,
            learnt_total: 0,
            denied_total: 0,
            denied_by_reason: BTreeMap::new(),
            bytes_up: 0,
            bytes_down: 0,
            bytes_spliced: 0,
            bytes_up_spliced: 0,
            bytes_down_spliced: 0,
            set_up: Latency::none(),
        }
    }
}

impl Default for Stats {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            live: zero(),
            allowed: zero(),
            learnt: zero(),
            latencies: Latencies::default(),
            denied: Reason::ALL.iter().map(|_| zero()).collect(),
            bytes_up: zero(),
            bytes_down: zero(),
            bytes_up_spliced: zero(),
            bytes_down_spliced: zero(),
        }
    }
}

impl Stats {
    pub(super) fn allowed(&self) {
        self.allowed.fetch_add(1, Ordering::Relaxed);
    }

    /// Of those that are allowed, one that learn mode alone lets through.
    pub(super) fn learnt(&self) {
        self.learnt.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn denied(&self, reason: Reason) {
        let position = Reason::ALL.iter().position(|known| *known == reason);
        if let Some(count) = position.and_then(|position| self.denied.get(position)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts the bytes of a flow that has ended.
    pub(super) fn moved(&self, FlowBytes { up, down }: &FlowBytes) {
        for (all, spliced, moved) in [
            (&self.bytes_up, &self.bytes_up_spliced, up),
            (&self.bytes_down, &self.bytes_down_spliced, down),
        ] {
            let bytes = moved.copied.get().saturating_add(moved.spliced.get());
            all.fetch_add(bytes, Ordering::Relaxed);
            spliced.fetch_add(moved.spliced.get(), Ordering::Relaxed);
        }
    }

    /// Flows that live now.
    pub fn live(&self) -> u64 {
        self.live.load(Ordering::Relaxed)
    }

    /// Adds these counts to a sum.
    pub fn add_to(&self, totals: &mut Totals) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        totals.live += read(&self.live);
        totals.allowed_total += read(&self.allowed);
        totals.learnt_total += read(&self.learnt);
        self.latencies.add_to(&mut totals.set_up);
        for (reason, count) in Reason::ALL.iter().zip(&self.denied) {
            let count = read(count);
            if count > 0 {
                totals.denied_total += count;
                *totals.denied_by_reason.entry(reason.code()).or_default() += count;
            }
        }
        totals.bytes_up += read(&self.bytes_up);
        totals.bytes_down += read(&self.bytes_down);
        let (up, down) = (read(&self.bytes_up_spliced), read(&self.bytes_down_spliced));
        totals.bytes_up_spliced += up;
        totals.bytes_down_spliced += down;
        totals.bytes_spliced += up + down;
    }
}

/// A live flow: counted until this is dropped, also by a panic.
#[derive(Debug)]
pub(super) struct Counted(Arc<Stats>);

impl Counted {
    pub(super) fn live(stats: &Arc<Stats>) -> Self {
        stats.live.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(stats))
    }

    /// Where it is counted.
    pub(super) fn stats(&self) -> &Stats {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::Relaxed);
    }
}
