//! The leak canary: tries from the devices' side of the box what must never work.
//!
//! It plays a device that wants out: it sends to addresses on the public side, which answer whoever
//! reaches them, and every attempt must fail. It knows nothing of the rules and trusts none of the
//! gate's walls: only what comes back counts. [`examine`] runs in a network namespace behind a
//! device interface; the result goes to the running gate as a [`CanaryResult`].

mod ways;

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use crate::attempt;
use crate::config::{Canary, Site};
use crate::policy::Policy;

use ways::Circumstances;

/// One way out that is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Way {
    /// HTTPS, with the hello of a name that nobody may use.
    #[serde(rename = "tcp_443")]
    Https,
    /// HTTP.
    #[serde(rename = "tcp_80")]
    Http,
    /// QUIC.
    #[serde(rename = "udp_443")]
    Quic,
    /// DNS over UDP.
    #[serde(rename = "udp_53")]
    Dns,
    /// DNS over TCP.
    #[serde(rename = "tcp_53")]
    DnsTcp,
    /// DNS over TLS.
    #[serde(rename = "tcp_853")]
    DnsTls,
    /// DNS over QUIC.
    #[serde(rename = "udp_853")]
    DnsQuic,
    /// An ICMP or ICMPv6 echo request.
    #[serde(rename = "icmp_echo")]
    Echo,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Https,
        Self::Http,
        Self::Quic,
        Self::Dns,
        Self::DnsTcp,
        Self::DnsTls,
        Self::DnsQuic,
        Self::Echo,
    ];

    /// The word for it, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Https => "tcp_443",
            Self::Http => "tcp_80",
            Self::Quic => "udp_443",
            Self::Dns => "udp_53",
            Self::DnsTcp => "tcp_53",
            Self::DnsTls => "tcp_853",
            Self::DnsQuic => "udp_853",
            Self::Echo => "icmp_echo",
        }
    }
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Something came back from outside.
    Leaked,
    /// It was refused with an answer.
    Refused,
    /// Nothing came back in time.
    Silent,
    /// Nothing was sent, so nothing is proven.
    Untried,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// What was tried.
    pub way: Way,
    /// Where to.
    pub target: IpAddr,
    /// What became of it.
    pub outcome: Outcome,
    /// The same in words.
    pub detail: String,
}

/// Everything that was tried. The shape of `canary --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Examination {
    /// Something got out.
    pub leaked: bool,
    /// How many attempts were made.
    pub tried: usize,
    /// How many of them were refused with an answer.
    pub answered: usize,
    /// Every attempt.
    pub attempts: Vec<Attempt>,
}

/// A way on which something got out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leak {
    /// What was tried.
    pub way: Way,
    /// Where it got to.
    pub target: IpAddr,
}

/// What the gate is told of an examination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CanaryResult {
    /// How many attempts were made.
    pub tried: u16,
    /// How many of them were refused with an answer.
    pub answered: u16,
    /// Those that got out.
    pub leaks: Vec<Leak>,
}

/// Why nothing could be tried.
#[derive(Debug, thiserror::Error)]
pub enum CanaryError {
    /// There is nothing to try.
    #[error("there is no [canary] in the configuration; add it with `targets`")]
    NotConfigured,
    /// The process may not.
    #[error("cannot hear what routers answer: {0}; run as root or with CAP_NET_RAW")]
    NotPermitted(io::Error),
    /// The system refuses what is needed.
    #[error("cannot make a hello: {0}")]
    NoHello(String),
}

/// Tries every way to every target, all at the same time, within [`ways::PATIENCE`].
///
/// # Errors
/// Nothing could be tried.
pub async fn examine(site: &Site) -> Result<Examination, CanaryError> {
    let Some(Canary { targets, name, .. }) = &site.canary else {
        return Err(CanaryError::NotConfigured);
    };
    for target in targets {
        attempt::may_try(*target).map_err(CanaryError::NotPermitted)?;
    }
    let policy = Policy::compile(site);
    let circumstances = Circumstances::new(name, policy.ports(), &site.dns)?;
    let all = targets.iter().flat_map(|target| Way::ALL.map(|way| (way, *target)));
    let attempts = join_all(all.map(|(way, target)| circumstances.attempt(way, target))).await;
    Ok(Examination::of(attempts))
}

impl Examination {
    fn of(attempts: Vec<Attempt>) -> Self {
        let count = |outcome| attempts.iter().filter(|attempt| attempt.outcome == outcome).count();
        Self {
            leaked: count(Outcome::Leaked) > 0,
            tried: attempts.len() - count(Outcome::Untried),
            answered: count(Outcome::Refused),
            attempts,
        }
    }

    /// Whether every attempt was made, so that no leak means something.
    pub fn is_complete(&self) -> bool {
        self.tried == self.attempts.len()
    }

    /// What the gate is told.
    pub fn result(&self) -> CanaryResult {
        let short = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
        let leaked = self.attempts.iter().filter(|attempt| attempt.outcome == Outcome::Leaked);
        let leaks = leaked.map(|attempt| Leak { way: attempt.way, target: attempt.target });
        CanaryResult {
            tried: short(self.tried),
            answered: short(self.answered),
            leaks: leaks.collect(),
        }
    }
}

impl CanaryResult {
    /// Whether it can be the result of an examination; what is wrong with it otherwise.
    ///
    /// # Errors
    /// One sentence.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.tried == 0 {
            return Err("nothing was tried");
        }
        let ended = usize::from(self.answered).saturating_add(self.leaks.len());
        if ended > usize::from(self.tried) {
            return Err("more attempts ended than were made");
        }
        let different: HashSet<_> = self.leaks.iter().collect();
        if different.len() < self.leaks.len() {
            return Err("a leak is named twice");
        }
        Ok(())
    }

    /// The leaks in one order, whatever order they were found in.
    #[must_use]
    pub fn sorted(mut self) -> Self {
        self.leaks.sort_unstable();
        self
    }
}

/// `tcp_443 to 192.0.2.1`, and so on; of many the first few.
pub fn enumerate(leaks: &[Leak]) -> String {
    let named =
        leaks.iter().take(NAMED).map(|leak| format!("{} to {}", leak.way.as_str(), leak.target));
    let mut text = named.collect::<Vec<_>>().join(", ");
    if leaks.len() > NAMED {
        text.push_str(&format!(" and {} more", leaks.len() - NAMED));
    }
    text
}

/// More would hide the sentence.
const NAMED: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn result(tried: u16, answered: u16, leaks: &[(Way, &str)]) -> CanaryResult {
        let leak =
            |(way, target): &(Way, &str)| Leak { way: *way, target: target.parse().unwrap() };
        CanaryResult { tried, answered, leaks: leaks.iter().map(leak).collect() }
    }

    #[test]
    fn a_result_must_add_up() {
        let there = (Way::Echo, "192.0.2.1");
        assert_eq!(result(8, 7, &[there]).check(), Ok(()));
        assert_eq!(result(8, 0, &[]).check(), Ok(()));
        assert!(result(0, 0, &[]).check().is_err());
        assert!(result(8, 8, &[there]).check().is_err());
        assert!(result(8, 2, &[there, there]).check().is_err());
    }

    #[test]
    fn the_word_is_the_one_in_json() {
        for way in Way::ALL {
            assert_eq!(serde_json::to_value(way).unwrap(), way.as_str());
        }
    }

    #[test]
    fn many_leaks_are_a_short_sentence() {
        let leaks = result(8, 0, &Way::ALL.map(|way| (way, "192.0.2.1"))).leaks;
        let text = enumerate(&leaks);
        assert!(
            text.starts_with("tcp_443 to 192.0.2.1, ") && text.ends_with(" and 4 more"),
            "{text}"
        );
        assert_eq!(enumerate(&leaks[..1]), "tcp_443 to 192.0.2.1");
    }
}
