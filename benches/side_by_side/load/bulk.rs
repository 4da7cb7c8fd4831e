//! Bulk data, down or up.
//!
//! When the time is over, the sender stops and the last byte is waited for: what was under way in
//! buffers would else be work that was measured and not counted.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::epoll::EventFlags;

use super::client::{Tally, Work};
use super::open::Opener;
use super::poll::{self, Got, IN, OUT, Poller, Sink};
use super::wire::{self, Command};
use super::{Client, Workload};

pub(super) struct Bulk {
    plan: Client,
    poller: Poller,
    flows: Vec<Flow>,
    sink: Sink,
    block: Vec<u8>,
}

struct Flow {
    socket: OwnedFd,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Receiving,
    /// With so many bytes of the block sent.
    Sending(usize),
    /// With so many bytes of the request for an answer sent.
    Asking(usize),
    /// For the answer to the last byte.
    Waiting,
    Over,
}

impl Work for Bulk {
    fn set_up(plan: Client) -> Result<Self, String> {
        let phase = match plan.workload {
            Workload::BulkUp => Phase::Sending(0),
            _ => Phase::Receiving,
        };
        let flows = Opener::all(&plan)?.into_iter().map(|socket| Flow { socket, phase }).collect();
        let poller = Poller::new().map_err(|error| format!("no epoll: {error}"))?;
        Ok(Self { plan, poller, flows, sink: Sink::new(), block: wire::block() })
    }

    fn work(&mut self, from: Instant) -> Result<Tally, String> {
        self.begin().map_err(|error| format!("bulk data: {error}"))?;
        let patience = self.plan.patience;
        let deadline = from + self.plan.seconds.unwrap_or_default();
        let mut tally = Tally::default();
        let mut events = Vec::new();
        let mut stopping = Stopping::No;
        let mut open = self.flows.len();
        while open > 0 {
            let now = Instant::now();
            if now >= deadline && stopping == Stopping::No {
                stopping = Stopping::Yes;
                self.stop().map_err(|error| format!("bulk data: {error}"))?;
            }
            let until = match stopping {
                Stopping::No => deadline.min(now + patience),
                Stopping::Yes => now + patience,
            };
            self.poller
                .wait(&mut events, Some(until))
                .map_err(|error| format!("bulk data: {error}"))?;
            if events.is_empty() && now.elapsed() >= patience {
                return Err("bulk data: no byte moves any more".to_owned());
            }
            for event in &events {
                let phase = self.advance(event.data.u64(), stopping, &mut tally);
                if phase.map_err(|error| format!("bulk data: {error}"))? == Phase::Over {
                    open -= 1;
                }
            }
        }
        Ok(tally)
    }
}

impl Bulk {
    fn begin(&self) -> io::Result<()> {
        for (place, flow) in self.flows.iter().enumerate() {
            if flow.phase == Phase::Receiving {
                poll::send_whole(&flow.socket, &Command::Down.bytes())?;
            }
            self.poller.watch(&flow.socket, place as u64, flow.phase.interest())?;
        }
        Ok(())
    }

    /// Has the server stop. The sending side stops by itself, at the end of a block.
    fn stop(&self) -> io::Result<()> {
        for flow in &self.flows {
            if flow.phase == Phase::Receiving {
                poll::send_whole(&flow.socket, &Command::Quit.bytes())?;
            }
        }
        Ok(())
    }

    fn advance(&mut self, place: u64, stopping: Stopping, tally: &mut Tally) -> io::Result<Phase> {
        let found = usize::try_from(place).ok().and_then(|place| self.flows.get_mut(place));
        let Some(Flow { socket, phase }) = found else { return Ok(Phase::Receiving) };
        let before = phase.interest();
        *phase = match *phase {
            Phase::Receiving | Phase::Waiting => {
                match (self.sink.swallow(&*socket, u64::MAX)?, *phase, stopping) {
                    (Got::Nothing, phase, _) => phase,
                    (Got::Bytes(length), Phase::Receiving, _) => {
                        tally.bytes += length as u64;
                        Phase::Receiving
                    }
                    (Got::Bytes(1), ..) | (Got::End, Phase::Receiving, Stopping::Yes) => {
                        Phase::Over
                    }
                    _ => return Err(io::Error::other("a flow has ended too soon")),
                }
            }
            Phase::Sending(sent) => {
                let rest = self.block.get(sent..).unwrap_or_default();
                let length = poll::send(&*socket, rest)?;
                tally.bytes += length as u64;
                match stopping {
                    _ if length < rest.len() => Phase::Sending(sent + length),
                    Stopping::No => Phase::Sending(0),
                    Stopping::Yes => Phase::Asking(0),
                }
            }
            Phase::Asking(sent) => {
                let request = Command::Answer.bytes();
                let sent = sent + poll::send(&*socket, request.get(sent..).unwrap_or_default())?;
                if sent < request.len() { Phase::Asking(sent) } else { Phase::Waiting }
            }
            Phase::Over => Phase::Over,
        };
        if *phase == Phase::Over {
            self.poller.forget(&*socket)?;
        } else if phase.interest() != before {
            self.poller.change(&*socket, place, phase.interest())?;
        }
        Ok(*phase)
    }
}

impl Phase {
    fn interest(self) -> EventFlags {
        match self {
            Self::Sending(_) | Self::Asking(_) => OUT,
            Self::Receiving | Self::Waiting | Self::Over => IN,
        }
    }
}

/// Whether the time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopping {
    No,
    Yes,
}
