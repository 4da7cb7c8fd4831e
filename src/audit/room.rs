//! Room on the disk, taken ahead of what is written.
//!
//! A segment's blocks are allocated in steps before they are needed (fallocate(2) with
//! `FALLOC_FL_KEEP_SIZE`: the file does not get longer). So a full disk shows while there is still
//! room for the ends of the flows that run, and not in the middle of a batch.

use std::io;
use std::time::{Duration, Instant};

use super::inbox::Shared;
use super::storage;
use crate::config::OnFull;

/// What was last tried.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// A whole step did not fit; no other is tried before.
    again: Option<Instant>,
    /// Not even the least fits.
    short: bool,
}

/// Where a segment stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Its length with the next batch.
    pub(super) needed: u64,
    /// It is not continued beyond this.
    pub(super) segment_bytes: u64,
    /// Up to where room was taken before.
    pub(super) taken: u64,
}

impl Room {
    /// When to look again, where the disk is short of room; `otherwise` where it is not.
    pub(super) fn due(&self, otherwise: Instant) -> Instant {
        match self.again {
            Some(again) if self.short => again.min(otherwise),
            _ => otherwise,
        }
    }

    /// Something was removed.
    pub(super) fn look_again(&mut self) {
        self.again = None;
    }

    /// Nothing is known of the next segment.
    pub(super) fn forget(&mut self, shared: &Shared) {
        *self = Self::default();
        shared.set_short(false);
    }

    /// Takes room with `reserve`, which is told where and how much; returns up to where there is
    /// room.
    pub(super) fn take(
        &mut self,
        wanted: Wanted,
        mut reserve: impl FnMut(u64, u64) -> io::Result<()>,
        shared: &Shared,
    ) -> u64 {
        let Wanted { needed, segment_bytes, mut taken } = wanted;
        let now = Instant::now();
        let waits = self.again.is_some_and(|again| now < again);
        if waits && self.short {
            return taken;
        }
        let farthest = segment_bytes.max(needed).saturating_add(LEAST);
        let mut full = |up_to: u64| {
            let end = up_to.min(farthest);
            let missing = end.saturating_sub(taken);
            match if missing > 0 { reserve(taken, missing) } else { Ok(()) } {
                Ok(()) => taken = taken.max(end),
                // Where room cannot be taken ahead for another reason, the write itself will tell.
                Err(error) => return storage::is_full(&error),
            }
            false
        };
        let low = needed.saturating_add(AHEAD).min(farthest);
        if !waits && wanted.taken < low {
            self.again = None;
            if full(low.saturating_add(STEP)) {
                self.again = now.checked_add(LOOK_AGAIN);
                shared.keeper.want_room();
            }
        }
        let short = full(needed.saturating_add(LEAST));
        if short || self.short {
            self.short = short;
            // What is deleted makes room soon; where nothing is, what is left belongs to the flows
            // that have a slot.
            let refuses = shared.keeper.retention().on_full == OnFull::Refuse;
            shared.set_short(short && refuses);
        }
        taken
    }
}

/// What must fit on the disk for flows to be allowed.
pub(super) const LEAST: u64 = 256 << 10;
/// With less than this ahead, the next step is taken.
const AHEAD: u64 = 4 << 20;
const STEP: u64 = 4 << 20;
const LOOK_AGAIN: Duration = Duration::from_secs(1);
