//! Readiness, and the system calls that every loop here makes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags};

use super::wire::BLOCK;

pub(super) const IN: EventFlags = EventFlags::IN;
pub(super) const OUT: EventFlags = EventFlags::OUT;
pub(super) const BOTH: EventFlags = EventFlags::IN.union(EventFlags::OUT);

/// An epoll instance. Level-triggered throughout: whatever is left over is told again.
pub(super) struct Poller(OwnedFd);

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(CreateFlags::CLOEXEC)?))
    }

    pub(super) fn watch(&self, socket: impl AsFd, token: u64, what: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.0, socket, EventData::new_u64(token), what)?)
    }

    pub(super) fn change(&self, socket: impl AsFd, token: u64, what: EventFlags) -> io::Result<()> {
        Ok(epoll::modify(&self.0, socket, EventData::new_u64(token), what)?)
    }

    /// No more events of a socket that stays open.
    pub(super) fn forget(&self, socket: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.0, socket)?)
    }

    /// Waits for events, at most until then, and puts them in place of the old ones.
    pub(super) fn wait(&self, events: &mut Vec<Event>, until: Option<Instant>) -> io::Result<()> {
        events.clear();
        events.reserve(EVENTS);
        let limit = until.map(|until| {
            let left = until.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        match epoll::wait(&self.0, spare_capacity(events), limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Sends; 0 when there is no room.
pub(super) fn send(socket: impl AsFd, bytes: &[u8]) -> rustix::io::Result<usize> {
    match net::send(socket, bytes, SendFlags::NOSIGNAL) {
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        sent => sent,
    }
}

/// Sends a few bytes into a socket whose buffer is not in use, so there is room for them.
pub(super) fn send_whole(socket: impl AsFd, bytes: &[u8]) -> io::Result<()> {
    if send(socket, bytes)? == bytes.len() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::StorageFull, "no room for a few bytes"))
}

/// What a socket had to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Got {
    Bytes(usize),
    Nothing,
    End,
}

/// Receives into a buffer.
pub(super) fn receive(socket: impl AsFd, buffer: &mut [u8]) -> rustix::io::Result<Got> {
    got(net::recv(socket, buffer, RecvFlags::DONTWAIT).map(|(_, length)| length))
}

/// Receives bytes and throws them away where they are.
pub(super) struct Sink(Vec<u8>);

impl Sink {
    pub(super) fn new() -> Self {
        // Only lends its length: the kernel writes nothing, so it never takes memory.
        Self(vec![0; BLOCK])
    }

    pub(super) fn swallow(&mut self, socket: impl AsFd, most: u64) -> rustix::io::Result<Got> {
        let most = usize::try_from(most).unwrap_or(BLOCK).min(BLOCK);
        let Some(space) = self.0.get_mut(..most) else { return Ok(Got::Nothing) };
        let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
        got(net::recv(socket, space, flags).map(|(_, length)| length))
    }
}

fn got(received: rustix::io::Result<usize>) -> rustix::io::Result<Got> {
    match received {
        Ok(0) => Ok(Got::End),
        Ok(length) => Ok(Got::Bytes(length)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(Got::Nothing),
        Err(error) => Err(error),
    }
}

/// Things by token. A token is never given twice, so an event that was fetched before its socket was
/// closed finds nothing.
pub(super) struct Slab<T> {
    slots: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }

    /// Keeps a thing, unless what is to be done with it and its token fails.
    pub(super) fn insert<E>(
        &mut self,
        thing: T,
        with: impl FnOnce(&T, u64) -> Result<(), E>,
    ) -> Result<u64, E> {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let turn = self.slots.get(slot as usize).map(|(turn, _)| *turn).unwrap_or_default();
        let token = u64::from(turn) << 32 | u64::from(slot);
        let done = with(&thing, token);
        if let Some((_, place)) = self.slots.get_mut(slot as usize) {
            *place = Some(thing);
        }
        if done.is_err() {
            self.remove(token);
        }
        done.map(|()| token)
    }

    pub(super) fn find(&mut self, token: u64) -> Option<&mut T> {
        self.place(token)?.1.as_mut()
    }

    pub(super) fn remove(&mut self, token: u64) -> Option<T> {
        let (turn, place) = self.place(token)?;
        let thing = place.take()?;
        *turn = turn.wrapping_add(1);
        self.free.push(u32::try_from(token & u64::from(u32::MAX)).unwrap_or(u32::MAX));
        Some(thing)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn place(&mut self, token: u64) -> Option<&mut (u32, Option<T>)> {
        let slot = usize::try_from(token & u64::from(u32::MAX)).ok()?;
        self.slots.get_mut(slot).filter(|(turn, _)| u64::from(*turn) == token >> 32)
    }
}

/// Events told at a time, at least.
const EVENTS: usize = 256;
