//! The service manager's watchdog (`WatchdogSec=` in systemd.service(5)): a gate that no longer works
//! is started anew.

use std::time::Duration;

use futures_util::future::join_all;
use sd_notify::NotifyState;
use tokio::time::Interval;

use super::{every, tell_manager};
use crate::proxy::{Pulse, ThreadLink};

/// What asks the data threads, and tells the manager when none of them is stuck.
pub(super) struct Watchdog {
    beats: Option<Interval>,
    threads: Vec<ThreadLink>,
}

impl Watchdog {
    /// As often as the manager wants it; never, where it does not.
    pub(super) fn new(threads: Vec<ThreadLink>) -> Self {
        // By half the time: sd_watchdog_enabled(3).
        let beats = sd_notify::watchdog_enabled().map(|within| every(within / 2));
        Self { beats, threads }
    }

    /// Waits until it is time to tell.
    pub(super) async fn due(&mut self) {
        match &mut self.beats {
            Some(beats) => drop(beats.tick().await),
            None => std::future::pending().await,
        }
    }

    /// Tells, unless a thread is stuck. One that has ended holds no flow, and a restart would cut
    /// those of the others.
    pub(super) async fn tell(&self) {
        let pulses = join_all(self.threads.iter().map(|thread| thread.pulse(PATIENCE))).await;
        if may_tell(&pulses) {
            tell_manager(vec![NotifyState::Watchdog]).await;
        } else {
            tracing::error!(?pulses, "a data thread does not answer; the manager is not told");
        }
    }
}

fn may_tell(pulses: &[Pulse]) -> bool {
    !pulses.contains(&Pulse::Stuck)
}

/// A thread gives itself to each of its flows for milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_stuck_thread_silences_the_watchdog() {
        assert!(may_tell(&[Pulse::Beats, Pulse::Beats]));
        assert!(may_tell(&[Pulse::Ended, Pulse::Beats]));
        assert!(!may_tell(&[Pulse::Beats, Pulse::Stuck]));
    }
}
