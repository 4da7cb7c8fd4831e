//! Flows that are opened and stay: a few at a time, or all at once.
//!
//! Nobody looks at them while they stay: idle flows are to cost the client nothing.

use std::os::fd::OwnedFd;
use std::time::Instant;

use super::client::{Tally, Work};
use super::open::{Expect, Limits, Opener, SET_UP};
use super::poll::{self, Got};
use super::{Client, Workload};

pub(super) struct Hold {
    plan: Client,
    opener: Opener,
    sockets: Vec<OwnedFd>,
}

impl Work for Hold {
    fn set_up(plan: Client) -> Result<Self, String> {
        let sockets = Vec::with_capacity(plan.flows.get());
        Ok(Self { opener: Opener::new(&plan, Expect::Reply)?, plan, sockets })
    }

    fn work(&mut self, _: Instant) -> Result<Tally, String> {
        let flows = self.plan.flows.get();
        let limits = Limits {
            at_once: if self.plan.workload == Workload::Storm { flows } else { SET_UP },
            count: Some(flows as u64),
            deadline: None,
        };
        let mut tally = Tally::default();
        self.opener.run(limits, |finished| {
            self.sockets.extend(tally.count(finished).map(|opened| opened.socket));
        })?;
        Ok(tally)
    }

    fn lost(&self) -> usize {
        let mut byte = [0];
        let alive =
            |socket: &&OwnedFd| matches!(poll::receive(socket, &mut byte), Ok(Got::Nothing));
        self.sockets.len() - self.sockets.iter().filter(alive).count()
    }
}
