//! All established flows of a data thread, and the loop that moves them.
//!
//! The flows have an epoll instance of their own, which the runtime watches like any other descriptor:
//! a flow is no task, has no waker and no timer, and whatever happens to many flows at once is one
//! wake-up. Set-up, listeners and timers stay with the runtime, which is asked between two rounds.
//!
//! Invariants:
//! - A flow's turn is bounded ([`Half::pump`](super::half::Half::pump)); one with more to do goes to
//!   the end of the queue, and the queue is gone through once per round.
//! - Nothing is borrowed while an owner is called, so an owner may call the reactor.
//! - A panic ends the flow whose turn it was, and no other.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, Sleep, sleep_until};

use super::flow::{Flow, Rest, Side, Turn};
use super::socket::EVENTS;
use super::{FlowBytes, HALF_OPEN, Legs, Onlookers, RelayEnd, RelayPool};

/// What a flow belongs to: it has the byte counts, and is told of the end.
pub trait Owner: Sized {
    /// Where the flow's bytes are counted.
    fn bytes(&self) -> &FlowBytes;

    /// The flow is over; its sockets are closed when they are dropped.
    fn ended(self, legs: Legs, end: End);
}

/// How a flow came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By its ends, or by standing still.
    Relayed(RelayEnd),
    /// By a fault of the program: its turn panicked, or the reactor came to its own end.
    BrokenOff,
}

/// Names a flow of a reactor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    place: u32,
    generation: u32,
}

/// The established flows of one thread.
pub struct Reactor<T: Owner> {
    epoll: AsyncFd<OwnedFd>,
    pool: Rc<RelayPool>,
    places: RefCell<Places<T>>,
    /// Flows whose turn it is.
    due: RefCell<VecDeque<Key>>,
    /// One batch of events.
    batch: RefCell<Vec<Event>>,
    /// Flows that are half over, by when they are looked at.
    standing: RefCell<BinaryHeap<Reverse<(Instant, Key)>>>,
    /// When the first of them is to be looked at.
    alarm: RefCell<Option<Pin<Box<Sleep>>>>,
}

/// Flows by their place; the place of one that has ended is taken by the next.
struct Places<T> {
    flows: Vec<Option<Box<Flow<T>>>>,
    free: Vec<u32>,
    generation: u32,
}

/// A flow that the kernel gives no place in the epoll instance.
#[derive(Debug)]
pub struct Refused<T> {
    /// Its sockets.
    pub legs: Legs,
    /// Its owner.
    pub owner: T,
    /// Why: `ENOMEM`, or `ENOSPC` past `/proc/sys/fs/epoll/max_user_watches` (epoll(7)).
    pub error: io::Error,
}

impl<T: Owner> Reactor<T> {
    /// What a flow takes, in bytes, beside what it holds while bytes are on their way.
    pub const FLOW_SIZE: usize = size_of::<Flow<T>>();

    /// A reactor of the calling thread's runtime.
    ///
    /// # Errors
    /// The kernel refuses an epoll instance.
    pub fn new(pool: Rc<RelayPool>) -> io::Result<Rc<Self>> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "what followed it is unsafe, for types that do not keep their descriptor open: \
                      an `OwnedFd` does"
        )]
        let epoll = AsyncFd::with_interest(epoll, Interest::READABLE)?;
        Ok(Rc::new(Self {
            epoll,
            pool,
            places: RefCell::new(Places { flows: Vec::new(), free: Vec::new(), generation: 0 }),
            due: RefCell::default(),
            batch: RefCell::new(Vec::with_capacity(BATCH)),
            standing: RefCell::default(),
            alarm: RefCell::new(None),
        }))
    }

    /// What its relays share.
    pub fn pool(&self) -> &Rc<RelayPool> {
        &self.pool
    }

    /// Takes on a flow; its sockets must be non-blocking. It moves when [`Self::run`] does.
    ///
    /// # Errors
    /// The kernel has no room for its sockets in the epoll instance.
    pub fn carry(
        &self,
        legs: Legs,
        onlookers: Onlookers,
        owner: T,
    ) -> Result<Key, Box<Refused<T>>> {
        let mut places = self.places.borrow_mut();
        let key = places.next();
        let added = [(Side::Device, &legs.device), (Side::Endpoint, &legs.endpoint)]
            .into_iter()
            .try_for_each(|(side, fd)| {
                epoll::add(self.epoll.get_ref(), fd, key.event(side), EVENTS)
            });
        if let Err(error) = added {
            return Err(Box::new(Refused { legs, owner, error: error.into() }));
        }
        places.put(key, Box::new(Flow::new(legs, onlookers, &self.pool, owner)));
        Ok(key)
    }

    /// Takes a flow out, wherever it is; bytes may then be lost, which the caller makes visible by
    /// resetting both sockets. `None` when it is over already.
    pub fn part(&self, key: Key) -> Option<(Legs, T)> {
        let flow = self.places.borrow_mut().take(key)?;
        self.places.borrow_mut().leave(key);
        Some(flow.part(&self.pool))
    }

    /// Shows a flow.
    pub fn with<R>(&self, key: Key, job: impl FnOnce(&mut T, &Legs) -> R) -> Option<R> {
        // Taken out meanwhile, so that the job may call the reactor.
        let mut flow = self.places.borrow_mut().take(key)?;
        let result = job(&mut flow.owner, &flow.legs);
        self.places.borrow_mut().put(key, flow);
        Some(result)
    }

    /// Shows the flows of one part of all places, of `parts` parts: who takes the parts one after the
    /// other sees every flow that lives so long, without one step over all of them. `visit` may not call
    /// the reactor.
    pub fn each(&self, part: usize, parts: usize, mut visit: impl FnMut(&mut T)) {
        let mut places = self.places.borrow_mut();
        let part = places.flows.iter_mut().skip(part).step_by(parts.max(1));
        part.flatten().for_each(|flow| visit(&mut flow.owner));
    }

    #[cfg(test)]
    pub(super) fn standing(&self) -> usize {
        self.standing.borrow().len()
    }

    /// Moves all flows, for as long as it is polled.
    ///
    /// # Errors
    /// The epoll instance fails; nothing moves any more.
    pub async fn run(&self) -> io::Error {
        loop {
            match poll_fn(|cx| self.poll_round(cx)).await {
                // Others of the thread come first: those who begin, and who has a timer.
                Ok(()) => tokio::task::yield_now().await,
                Err(error) => return error,
            }
        }
    }

    /// Gives each flow that has something to do one turn; pending when none has more.
    ///
    /// # Errors
    /// Those of [`Self::run`].
    pub fn poll_round(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut heard = Heard::Nothing;
            if let Poll::Ready(ready) = self.epoll.poll_read_ready(cx) {
                let mut ready = ready?;
                heard = self.gather()?;
                if heard != Heard::Full {
                    // What happens from now on is an edge of its own.
                    ready.clear_ready();
                }
            }
            let turns = self.due.borrow().len();
            for _ in 0..turns {
                let Some(key) = self.due.borrow_mut().pop_front() else { break };
                self.turn(key);
            }
            self.expire(cx);
            if heard == Heard::Full || !self.due.borrow().is_empty() {
                return Poll::Ready(Ok(()));
            }
            if heard == Heard::Nothing {
                return Poll::Pending;
            }
        }
    }

    /// Takes one batch of events to their flows.
    fn gather(&self) -> io::Result<Heard> {
        let mut batch = self.batch.borrow_mut();
        batch.clear();
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        match epoll::wait(self.epoll.get_ref(), spare_capacity(&mut batch), Some(&none)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut places = self.places.borrow_mut();
        let mut due = self.due.borrow_mut();
        for event in batch.iter() {
            let (key, side) = Key::from_event(event.data);
            // The last events of a flow that is over may come behind its end.
            let Some(flow) = places.at(key) else { continue };
            flow.learn(side, event.flags);
            if !std::mem::replace(&mut flow.queued, true) {
                due.push_back(key);
            }
        }
        Ok(if batch.len() == BATCH { Heard::Full } else { Heard::Some })
    }

    fn turn(&self, key: Key) {
        let Some(mut flow) = self.places.borrow_mut().take(key) else { return };
        flow.queued = false;
        let end = match catch_unwind(AssertUnwindSafe(|| flow.turn(&self.pool))) {
            Ok(Turn::Over(end)) => End::Relayed(end),
            Ok(Turn::Again) => {
                flow.queued = true;
                self.due.borrow_mut().push_back(key);
                return self.places.borrow_mut().put(key, flow);
            }
            Ok(Turn::Rests(rest)) => {
                self.rests(key, rest, &mut flow.still_since);
                return self.places.borrow_mut().put(key, flow);
            }
            Err(_) => End::BrokenOff,
        };
        self.end(key, *flow, end);
    }

    fn rests(&self, key: Key, rest: Rest, still_since: &mut Option<Instant>) {
        if rest != Rest::HalfAnew {
            return;
        }
        let now = Instant::now();
        if still_since.replace(now).is_some() {
            return;
        }
        let mut standing = self.standing.borrow_mut();
        // Most that are half over are over in a moment, and leave their entry behind.
        let half_closed = usize::try_from(self.pool.counters().half_closed).unwrap_or(usize::MAX);
        if standing.len() / 2 > half_closed.max(BATCH) {
            let mut places = self.places.borrow_mut();
            standing.retain(|Reverse((_, key))| places.at(*key).is_some());
        }
        standing.push(Reverse((now + HALF_OPEN, key)));
    }

    /// Ends the flows that are half over and have stood still for too long.
    fn expire(&self, cx: &mut Context<'_>) {
        loop {
            let first = self.standing.borrow().peek().copied();
            let Some(Reverse((due, key))) = first else {
                self.alarm.borrow_mut().take();
                return;
            };
            if self.alarm_at(due, cx).is_pending() {
                return;
            }
            self.standing.borrow_mut().pop();
            self.look_at(key);
        }
    }

    fn alarm_at(&self, due: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let mut alarm = self.alarm.borrow_mut();
        let alarm = alarm.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if alarm.deadline() != due {
            alarm.as_mut().reset(due);
        }
        alarm.as_mut().poll(cx)
    }

    /// Ends a flow if it has stood still for its time, or has it looked at again when it may have.
    fn look_at(&self, key: Key) {
        let Some(flow) = self.places.borrow_mut().take(key) else { return };
        match flow.still_since.filter(|since| since.elapsed() < HALF_OPEN) {
            Some(since) => {
                self.standing.borrow_mut().push(Reverse((since + HALF_OPEN, key)));
                self.places.borrow_mut().put(key, flow);
            }
            None => {
                let end = End::Relayed(flow.expired());
                self.end(key, *flow, end);
            }
        }
    }

    fn end(&self, key: Key, flow: Flow<T>, end: End) {
        self.places.borrow_mut().leave(key);
        let (legs, owner) = flow.part(&self.pool);
        if !matches!(end, End::Relayed(RelayEnd::ClosedByDevice | RelayEnd::ClosedByEndpoint)) {
            legs.reset_on_close();
        }
        // An owner's fault is not the other flows'; the runtime's hook has told of it.
        let _ = catch_unwind(AssertUnwindSafe(|| owner.ended(legs, end)));
    }
}

/// What a look at the epoll instance brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// It was not worth one.
    Nothing,
    /// All that there was.
    Some,
    /// A full batch: there may be more.
    Full,
}

impl Key {
    fn event(self, side: Side) -> EventData {
        let side = u64::from(side == Side::Endpoint);
        let generation = u64::from(self.generation) << 33;
        EventData::new_u64(generation | side << 32 | u64::from(self.place))
    }

    fn from_event(data: EventData) -> (Self, Side) {
        let data = data.u64();
        let side = if data >> 32 & 1 == 0 { Side::Device } else { Side::Endpoint };
        let place = u32::try_from(data & u64::from(u32::MAX)).unwrap_or_default();
        let generation = u32::try_from(data >> 33).unwrap_or_default();
        (Self { place, generation }, side)
    }

    fn index(self) -> usize {
        usize::try_from(self.place).unwrap_or(usize::MAX)
    }
}

impl<T> Places<T> {
    /// The place of the next flow; taken once it is [`put`](Self::put).
    fn next(&mut self) -> Key {
        self.generation = self.generation.wrapping_add(1) & GENERATIONS;
        let end = u32::try_from(self.flows.len()).unwrap_or(u32::MAX);
        Key { place: self.free.last().copied().unwrap_or(end), generation: self.generation }
    }

    fn at(&mut self, key: Key) -> Option<&mut Flow<T>> {
        let flow = self.flows.get_mut(key.index())?.as_deref_mut()?;
        (flow.generation == key.generation).then_some(flow)
    }

    /// Takes a flow out for its turn; its place stays its own until [`leave`](Self::leave).
    fn take(&mut self, key: Key) -> Option<Box<Flow<T>>> {
        self.at(key)?;
        self.flows.get_mut(key.index())?.take()
    }

    fn put(&mut self, key: Key, mut flow: Box<Flow<T>>) {
        flow.generation = key.generation;
        if self.free.last() == Some(&key.place) {
            self.free.pop();
        }
        match self.flows.get_mut(key.index()) {
            Some(place) => *place = Some(flow),
            None => self.flows.push(Some(flow)),
        }
    }

    /// Gives the place of a flow back that was taken out.
    fn leave(&mut self, key: Key) {
        self.free.push(key.place);
        if self.free.len() >= self.flows.len() {
            // A storm must not keep its places for ever.
            (self.flows, self.free) = (Vec::new(), Vec::new());
        }
    }
}

/// No flow ends without its owner's knowledge.
impl<T: Owner> Drop for Reactor<T> {
    fn drop(&mut self) {
        let flows = std::mem::take(&mut self.places.borrow_mut().flows);
        for flow in flows.into_iter().flatten() {
            let (legs, owner) = flow.part(&self.pool);
            legs.reset_on_close();
            let _ = catch_unwind(AssertUnwindSafe(|| owner.ended(legs, End::BrokenOff)));
        }
    }
}

impl<T: Owner> fmt::Debug for Reactor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor").finish_non_exhaustive()
    }
}

/// Events that are taken at once.
const BATCH: usize = 256;
/// Generations have 31 bits of an event's 64.
const GENERATIONS: u32 = u32::MAX >> 1;
