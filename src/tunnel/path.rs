//! One tunnel's state: pure, the time comes from the caller.
//!
//! A tunnel is usable while its link is up, it has a route, and something answers through it. One
//! round of questions without any answer makes it suspect, several make it dead.

use std::time::{Duration, Instant};

use serde::Serialize;

/// How a tunnel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// It works, or nothing is known against it yet.
    Up,
    /// The last question through it had no answer.
    Suspect,
    /// Nothing answers through it.
    Dead,
    /// Its interface is missing or down, or there is no route by it.
    Down,
}

impl Condition {
    /// The word for it in records and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Dead => "dead",
            Self::Down => "down",
        }
    }

    /// Whether new flows may go by it.
    pub fn is_usable(self) -> bool {
        matches!(self, Self::Up | Self::Suspect)
    }
}

/// A tunnel's link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum LinkState {
    #[default]
    Missing,
    Down,
    Up,
}

/// Whether the kernel knows a way to the VPC by the interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Routed {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    Yes,
    No,
}

/// What is known of one tunnel.
#[derive(Clone, Debug)]
pub(super) struct Path {
    link: LinkState,
    /// The interface's index while it exists; 0 otherwise.
    index: u32,
    /// The name that nftables knows it by, where it is not the configured one.
    alias_of: Option<String>,
    routed: Routed,
    /// Rounds without an answer, since the last one.
    failures: u32,
    error: Option<String>,
    answered: Option<Instant>,
    latency: Option<Duration>,
    condition: Condition,
    since: Instant,
    trust: Trust,
}

/// Whether the tunnel has earned to be preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// It was never lost.
    Full,
    /// It was lost and has not answered since.
    Lost,
    /// It was lost and has answered since then.
    Returned(Instant),
}

impl Path {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            link: LinkState::Missing,
            index: 0,
            alias_of: None,
            routed: Routed::Unknown,
            failures: 0,
            error: None,
            answered: None,
            latency: None,
            condition: Condition::Down,
            since: now,
            trust: Trust::Full,
        }
    }

    pub(super) fn condition(&self) -> Condition {
        self.condition
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    pub(super) fn index(&self) -> u32 {
        self.index
    }

    pub(super) fn alias_of(&self) -> Option<&str> {
        self.alias_of.as_deref()
    }

    pub(super) fn latency(&self) -> Option<Duration> {
        self.latency.filter(|_| self.condition.is_usable())
    }

    /// Since when nothing has been heard through it.
    pub(super) fn silent_since(&self) -> Instant {
        self.answered.unwrap_or(self.since)
    }

    /// Whether questions can be sent at all.
    pub(super) fn may_ask(&self) -> bool {
        self.link == LinkState::Up
    }

    pub(super) fn set_link(&mut self, link: LinkState, index: u32, now: Instant) {
        if self.link != link || self.index != index {
            // What was known of the path was known of another interface, or of a time before.
            (self.failures, self.error) = (0, None);
            self.routed = Routed::Unknown;
        }
        (self.link, self.index) = (link, index);
        self.settle(now);
    }

    pub(super) fn set_alias(&mut self, alias_of: Option<String>) {
        self.alias_of = alias_of;
    }

    pub(super) fn set_routed(&mut self, routed: Routed, now: Instant) {
        self.routed = routed;
        self.settle(now);
    }

    /// Something answered through it.
    pub(super) fn answer(&mut self, latency: Option<Duration>, now: Instant) {
        if self.link != LinkState::Up {
            return;
        }
        (self.failures, self.error) = (0, None);
        self.answered = Some(now);
        self.latency = latency.or(self.latency);
        if self.trust == Trust::Lost && self.routed != Routed::No {
            self.trust = Trust::Returned(now);
        }
        self.settle(now);
    }

    /// A whole round of questions had no answer.
    pub(super) fn silence(&mut self, error: Option<String>, now: Instant) {
        if self.link != LinkState::Up {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.error = error;
        self.settle(now);
    }

    /// Why it is not up.
    pub(super) fn reason(&self) -> Option<String> {
        let text = match (self.link, self.routed, &self.error) {
            (LinkState::Missing, ..) => "the interface does not exist".to_owned(),
            (LinkState::Down, ..) => "its link is down".to_owned(),
            (LinkState::Up, Routed::No, _) => "there is no route by it and no gateway".to_owned(),
            _ if self.failures == 0 => return None,
            (LinkState::Up, _, Some(error)) => format!("nothing can be sent by it: {error}"),
            (LinkState::Up, _, None) => "nothing answers through it".to_owned(),
        };
        Some(text)
    }

    /// How much it is preferred, less before more; `None` when it cannot be used.
    pub(super) fn rank(&self, now: Instant, return_after: Duration) -> Option<u8> {
        let settled = match self.trust {
            Trust::Full => true,
            Trust::Lost => false,
            Trust::Returned(at) => now.saturating_duration_since(at) >= return_after,
        };
        match self.condition {
            Condition::Up if settled => Some(0),
            Condition::Up => Some(1),
            Condition::Suspect => Some(2),
            Condition::Dead | Condition::Down => None,
        }
    }

    fn settle(&mut self, now: Instant) {
        let condition = if self.link != LinkState::Up || self.routed == Routed::No {
            Condition::Down
        } else if self.failures >= DEAD_AFTER {
            Condition::Dead
        } else if self.failures > 0 {
            Condition::Suspect
        } else {
            Condition::Up
        };
        if condition == self.condition {
            return;
        }
        if self.condition.is_usable() && !condition.is_usable() {
            self.trust = Trust::Lost;
        }
        self.condition = condition;
        self.since = now;
    }
}

/// Rounds without an answer after which a path is dead: with one second for each, and one between
/// rounds while all is well, a silent path is left within five seconds.
pub(super) const DEAD_AFTER: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    const RETURN: Duration = Duration::from_secs(30);

    fn up(now: Instant) -> Path {
        let mut path = Path::new(now);
        path.set_link(LinkState::Up, 7, now);
        path
    }

    #[test]
    fn one_answer_of_any_kind_keeps_a_path_alive() {
        let now = Instant::now();
        let mut path = up(now);
        assert_eq!(path.condition(), Condition::Up, "nothing is known against it");
        for _ in 0..10 {
            for _ in 1..DEAD_AFTER {
                path.silence(None, now);
                assert_eq!(path.condition(), Condition::Suspect);
            }
            path.answer(None, now);
            assert_eq!((path.condition(), path.reason()), (Condition::Up, None));
        }
        assert_eq!(path.rank(now, RETURN), Some(0), "it was never lost");
        for _ in 0..DEAD_AFTER {
            path.silence(None, now);
        }
        assert_eq!((path.condition(), path.rank(now, RETURN)), (Condition::Dead, None));
        assert_eq!(path.reason().as_deref(), Some("nothing answers through it"));
    }

    #[test]
    fn a_path_that_was_lost_earns_its_place_again() {
        let now = Instant::now();
        let mut path = up(now);
        path.answer(None, now);
        path.set_link(LinkState::Down, 7, now);
        assert_eq!((path.condition(), path.rank(now, RETURN)), (Condition::Down, None));
        path.set_link(LinkState::Up, 7, now);
        let later = now + RETURN * 2;
        assert_eq!(path.rank(later, RETURN), Some(1), "nothing has answered since");
        path.answer(None, later);
        assert_eq!(path.rank(later + RETURN - Duration::from_millis(1), RETURN), Some(1));
        assert_eq!(path.rank(later + RETURN, RETURN), Some(0));
        assert_eq!(path.rank(later, Duration::ZERO), Some(0), "at once, where the site says so");
    }

    #[test]
    fn silence_before_the_link_came_counts_for_nothing() {
        let now = Instant::now();
        let mut path = Path::new(now);
        for _ in 0..DEAD_AFTER {
            path.silence(None, now);
        }
        path.answer(None, now);
        assert_eq!(path.condition(), Condition::Down);
        path.set_link(LinkState::Up, 7, now);
        assert_eq!(path.rank(now, RETURN), Some(0), "it was never there before");
        path.set_routed(Routed::No, now);
        assert_eq!(path.condition(), Condition::Down);
        path.set_routed(Routed::Yes, now);
        assert_eq!(path.condition(), Condition::Up);
    }
}
