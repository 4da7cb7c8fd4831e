//! Devices that come back: who opens a name again to which it has flows already.
//!
//! A device that lost power leaves flows behind that nobody ends. When it opens the same name again,
//! its old flows see whether it is still at their other end. A device's flows are on any data
//! thread, so all threads are told; a table of small counters, shared by all, keeps that rare.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZero;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::mpsc::UnboundedSender;

use super::thread::Command;
use crate::name::ServerName;
use crate::policy::Asking;

/// A device and a name that it opens; a hash of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin(Option<NonZero<u64>>);

impl Origin {
    /// Of a flow that was not granted yet.
    pub(super) const UNKNOWN: Self = Self(None);
}

/// Whether there are other flows of the same origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Earlier {
    /// There are not.
    None,
    /// There may be: counters are shared between origins.
    Perhaps,
}

/// Which devices have flows to which names.
#[derive(Debug)]
pub struct Returns {
    hasher: RandomState,
    flows: Box<[AtomicU8]>,
    /// Whose return was told last in each place, and when; see [`Returns::is_news`].
    told: Box<[AtomicU64]>,
    began: Instant,
    threads: OnceLock<Vec<UnboundedSender<Command>>>,
}

impl Default for Returns {
    fn default() -> Self {
        let flows = (0..COUNTERS).map(|_| AtomicU8::new(0)).collect();
        let told = (0..TOLD).map(|_| AtomicU64::new(0)).collect();
        Self {
            hasher: RandomState::new(),
            flows,
            told,
            began: Instant::now(),
            threads: OnceLock::new(),
        }
    }
}

impl Returns {
    /// Says whom to tell.
    pub fn connect(&self, threads: Vec<UnboundedSender<Command>>) {
        // Once, at the start.
        let _ = self.threads.set(threads);
    }

    pub(super) fn origin(&self, asking: Asking, name: &ServerName) -> Origin {
        let hash = match asking.mac {
            Some(mac) => self.hasher.hash_one((mac, name.as_str())),
            None => self.hasher.hash_one((asking.address.to_canonical(), name.as_str())),
        };
        Origin(NonZero::new(hash.max(1)))
    }

    /// Counts a flow.
    pub(super) fn enter(&self, origin: Origin) -> Earlier {
        let Some(counter) = self.counter(origin) else { return Earlier::None };
        let one_more = |count: u8| count.checked_add(1);
        match counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(0) => Earlier::None,
            _ => Earlier::Perhaps,
        }
    }

    /// Counts a flow no longer. A counter that was full stays so.
    pub(super) fn leave(&self, origin: Origin) {
        let Some(counter) = self.counter(origin) else { return };
        let one_less = |count: u8| if count == u8::MAX { None } else { count.checked_sub(1) };
        // Nothing to do for a full one.
        let _ = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
    }

    /// Has the older flows of an origin look after their device.
    pub(super) fn announce(&self, origin: Origin) {
        if !self.is_news(origin, self.began.elapsed().as_secs()) {
            return;
        }
        for thread in self.threads.get().into_iter().flatten() {
            // A thread that has ended has no flows.
            let _ = thread.send(Command::DeviceReturned(origin));
        }
    }

    /// Whether nobody was told of this return in this second. No device comes back twice in a second,
    /// but one that opens flow after flow would have all threads look at its flows for each of them.
    /// Origins that share a place are told too often, never too rarely.
    fn is_news(&self, origin: Origin, second: u64) -> bool {
        let Some(hash) = origin.0.map(NonZero::get) else { return false };
        let place = usize::try_from(hash % TOLD).ok().and_then(|place| self.told.get(place));
        // The upper half of the hash, and a second that is never 0.
        let now = hash >> 32 << 32 | (second + 1) & u64::from(u32::MAX);
        place.is_none_or(|place| place.swap(now, Ordering::Relaxed) != now)
    }

    fn counter(&self, origin: Origin) -> Option<&AtomicU8> {
        let hash = usize::try_from(origin.0?.get() % COUNTERS).ok()?;
        self.flows.get(hash)
    }
}

/// One byte each; with 100,000 origins two of three find theirs alone.
const COUNTERS: u64 = 1 << 18;
/// Eight bytes each.
const TOLD: u64 = 1 << 12;

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(text: &str) -> Asking {
        Asking { address: text.parse().expect("an address"), mac: None }
    }

    #[test]
    fn only_a_second_flow_of_the_same_device_to_the_same_name_is_a_return() {
        let returns = Returns::default();
        let name: ServerName = "a.example".parse().expect("a name");
        let other: ServerName = "b.example".parse().expect("a name");
        let origin = returns.origin(asking("10.10.0.1"), &name);
        assert_eq!(origin, returns.origin(asking("::ffff:10.10.0.1"), &name));
        assert_ne!(origin, returns.origin(asking("10.10.0.1"), &other));
        assert_ne!(origin, returns.origin(asking("10.10.0.2"), &name));
        assert_eq!(returns.enter(origin), Earlier::None);
        assert_eq!(returns.enter(origin), Earlier::Perhaps);
        returns.leave(origin);
        returns.leave(origin);
        assert_eq!(returns.enter(origin), Earlier::None);
        for _ in 0..1_000 {
            returns.enter(origin);
        }
        for _ in 0..2_000 {
            returns.leave(origin);
        }
        assert_eq!(returns.enter(origin), Earlier::Perhaps, "too many to be counted");
        returns.leave(Origin::UNKNOWN);
        assert_eq!(returns.enter(Origin::UNKNOWN), Earlier::None);
    }

    #[test]
    fn the_return_of_one_device_is_told_once_a_second() {
        let returns = Returns::default();
        let name: ServerName = "a.example".parse().expect("a name");
        let origins = ["10.10.0.1", "10.10.0.2"].map(|from| returns.origin(asking(from), &name));
        for second in [0, 1, 7] {
            for origin in origins {
                assert!(returns.is_news(origin, second), "{second}");
            }
            // The two may have the same place, and then both are told again.
            let [one, _] = origins;
            returns.is_news(one, second);
            assert!(!returns.is_news(one, second), "{second}");
        }
        assert!(!returns.is_news(Origin::UNKNOWN, 0));
    }
}
