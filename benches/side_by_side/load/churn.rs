//! Flows that come and go: connect, hello, reply or refusal, close.

use std::time::Instant;

use super::client::{Tally, Work};
use super::open::{Expect, Limits, Opener};
use super::{Client, Close, Workload};

pub(super) struct Churn {
    plan: Client,
    opener: Opener,
}

impl Work for Churn {
    fn set_up(plan: Client) -> Result<Self, String> {
        let expect = match (plan.workload, plan.close) {
            (Workload::Deny, _) => Expect::Refusal(plan.refusal),
            (_, Close::Server) => Expect::Farewell,
            (_, Close::Reset | Close::Client) => Expect::Reply,
        };
        Ok(Self { opener: Opener::new(&plan, expect)?, plan })
    }

    fn work(&mut self, from: Instant) -> Result<Tally, String> {
        let limits = Limits {
            at_once: self.plan.flows.get(),
            count: self.plan.count,
            deadline: self.plan.seconds.map(|seconds| from + seconds),
        };
        let mut tally = Tally::default();
        tally.abandoned = self.opener.run(limits, |finished| {
            if let Some(opened) = tally.count(finished) {
                drop(opened.socket);
            }
        })?;
        Ok(tally)
    }
}
