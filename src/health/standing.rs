//! How one network interface is, for one name: pure, the time comes from the caller.
//!
//! Two failures in a row make it down, one success makes it up.

use std::io;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::tls::{Certificate, Trouble};

/// How a network interface is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Nobody has asked yet.
    Unknown,
    /// It answers.
    Up,
    /// The last question had no answer.
    Suspect,
    /// It does not answer.
    Down,
}

/// What came of one examination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It showed a certificate.
    Answer {
        /// How long TCP took.
        latency: Duration,
        /// What is to be said of the certificate.
        certificate: Certificate,
    },
    /// It showed none.
    Failed(Failure),
}

/// Why there was no certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// How far it came.
    pub stage: Stage,
    /// Which error it was.
    pub kind: io::ErrorKind,
    /// What the system said.
    pub error: String,
}

/// How far an examination came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// No connection.
    Connect,
    /// A connection, and then no certificate.
    Handshake,
}

impl From<&Trouble> for Failure {
    fn from(trouble: &Trouble) -> Self {
        let (stage, error) = match trouble {
            Trouble::Connect(error) => (Stage::Connect, error),
            Trouble::Handshake { error, .. } => (Stage::Handshake, error),
        };
        Self { stage, kind: error.kind(), error: error.to_string() }
    }
}

/// What is known of a network interface.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) condition: Condition,
    /// When it became so. An interface that is down is so since its first failure.
    pub(super) since: Instant,
    /// Of the last success.
    pub(super) latency: Option<Duration>,
    /// Of the last success.
    pub(super) certificate: Option<Certificate>,
    /// Of the last examination, if it failed.
    pub(super) failure: Option<Failure>,
}

impl Standing {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            condition: Condition::Unknown,
            since: now,
            latency: None,
            certificate: None,
            failure: None,
        }
    }

    /// Takes in what came of an examination.
    pub(super) fn note(&mut self, seen: Seen, now: Instant) {
        let before = self.condition;
        match seen {
            Seen::Answer { latency, certificate } => {
                self.condition = Condition::Up;
                self.latency = Some(latency);
                self.certificate = Some(certificate);
                self.failure = None;
            }
            Seen::Failed(failure) => {
                self.condition = match before {
                    Condition::Unknown | Condition::Up => Condition::Suspect,
                    Condition::Suspect | Condition::Down => Condition::Down,
                };
                self.failure = Some(failure);
            }
        }
        if self.condition != before && self.condition != Condition::Down {
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Seen {
        Seen::Failed(Failure::from(&Trouble::Connect(io::ErrorKind::TimedOut.into())))
    }

    fn answer() -> Seen {
        Seen::Answer { latency: Duration::from_millis(3), certificate: Certificate::Good }
    }

    #[tokio::test(start_paused = true)]
    async fn two_failures_make_it_down_and_one_success_up() {
        let mut standing = Standing::new(Instant::now());
        assert_eq!(standing.condition, Condition::Unknown);
        tokio::time::advance(Duration::from_secs(5)).await;
        let first = Instant::now();
        for (seen, condition) in [
            (failed(), Condition::Suspect),
            (failed(), Condition::Down),
            (failed(), Condition::Down),
        ] {
            standing.note(seen, Instant::now());
            assert_eq!(standing.condition, condition);
            assert_eq!(standing.since, first, "down since the first failure");
            tokio::time::advance(Duration::from_secs(60)).await;
        }
        assert_eq!(standing.failure.as_ref().map(|f| f.stage), Some(Stage::Connect));
        let back = Instant::now();
        for _ in 0..2 {
            standing.note(answer(), Instant::now());
            assert_eq!((standing.condition, standing.since), (Condition::Up, back));
            assert_eq!(standing.failure, None);
            tokio::time::advance(Duration::from_secs(60)).await;
        }
        // One that answers in between is not down.
        standing.note(failed(), Instant::now());
        standing.note(answer(), Instant::now());
        standing.note(failed(), Instant::now());
        assert_eq!(standing.condition, Condition::Suspect);
        assert_eq!(standing.latency, Some(Duration::from_millis(3)), "of the last success");
    }
}
