//! Messages and their answers: every flow waits for one before it sends the next.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::epoll::EventFlags;

use super::Client;
use super::client::{Tally, Work};
use super::open::Opener;
use super::poll::{self, BOTH, Got, IN, Poller, Sink};
use super::wire::Command;

pub(super) struct Messages {
    plan: Client,
    poller: Poller,
    flows: Vec<Flow>,
    sink: Sink,
    message: Vec<u8>,
}

struct Flow {
    socket: OwnedFd,
    /// When the message was begun.
    began: Instant,
    sent: usize,
    received: usize,
    interest: EventFlags,
}

impl Work for Messages {
    fn set_up(plan: Client) -> Result<Self, String> {
        let sockets = Opener::all(&plan)?;
        let poller = Poller::new().map_err(|error| format!("no epoll: {error}"))?;
        let message = vec![0; plan.size.get()];
        let mut flows = Vec::with_capacity(sockets.len());
        for (place, socket) in sockets.into_iter().enumerate() {
            poll::send_whole(&socket, &Command::Echo(message.len() as u64).bytes())
                .and_then(|()| poller.watch(&socket, place as u64, IN))
                .map_err(|error| format!("messages: {error}"))?;
            let began = Instant::now();
            flows.push(Flow { socket, began, sent: 0, received: 0, interest: IN });
        }
        Ok(Self { plan, poller, flows, sink: Sink::new(), message })
    }

    fn work(&mut self, from: Instant) -> Result<Tally, String> {
        let failed = |error: io::Error| format!("messages: {error}");
        let deadline = self.plan.seconds.map(|seconds| from + seconds);
        let wanted = self.plan.count.unwrap_or(u64::MAX);
        let mut events = Vec::new();
        let mut tally = Tally::default();
        for (place, flow) in self.flows.iter_mut().enumerate() {
            flow.began = Instant::now();
            flow.send(place as u64, &self.message, &self.poller).map_err(failed)?;
        }
        while tally.done < wanted {
            let now = Instant::now();
            if deadline.is_some_and(|deadline| now >= deadline) {
                break;
            }
            let until =
                (now + self.plan.patience).min(deadline.unwrap_or(now + self.plan.patience));
            self.poller.wait(&mut events, Some(until)).map_err(failed)?;
            if events.is_empty() && now.elapsed() >= self.plan.patience {
                return Err("messages: no answer comes any more".to_owned());
            }
            for event in &events {
                self.advance(event.data.u64(), event.flags, &mut tally).map_err(failed)?;
            }
        }
        Ok(tally)
    }
}

impl Messages {
    fn advance(&mut self, place: u64, flags: EventFlags, tally: &mut Tally) -> io::Result<()> {
        let found = usize::try_from(place).ok().and_then(|place| self.flows.get_mut(place));
        let Some(flow) = found else { return Ok(()) };
        if flags.contains(EventFlags::OUT) {
            flow.send(place, &self.message, &self.poller)?;
        }
        if !flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            return Ok(());
        }
        match self.sink.swallow(&flow.socket, u64::MAX)? {
            Got::Nothing => return Ok(()),
            Got::Bytes(length) => flow.received += length,
            Got::End => return Err(io::Error::other("a flow has ended too soon")),
        }
        if flow.received > self.message.len() {
            return Err(io::Error::other("an answer is too long"));
        }
        if flow.received == self.message.len() {
            let now = Instant::now();
            tally.done += 1;
            tally.latencies.add(now - flow.began);
            (flow.began, flow.sent, flow.received) = (now, 0, 0);
            flow.send(place, &self.message, &self.poller)?;
        }
        Ok(())
    }
}

impl Flow {
    /// Sends what is left of the message, as far as there is room.
    fn send(&mut self, place: u64, message: &[u8], poller: &Poller) -> io::Result<()> {
        self.sent += poll::send(&self.socket, message.get(self.sent..).unwrap_or_default())?;
        let interest = if self.sent < message.len() { BOTH } else { IN };
        if interest != self.interest {
            self.interest = interest;
            poller.change(&self.socket, place, interest)?;
        }
        Ok(())
    }
}
