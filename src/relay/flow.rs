//! The relay of one flow: two directions, and what the end of one means for the other.
//!
//! An idle flow is nothing but this and what its owner keeps of it: see the test that bounds its size.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::EventFlags;
use tokio::time::Instant;

use super::half::{Half, Halt, Leg, Stage, total};
use super::reactor::Owner;
use super::socket::{Known, Socket, reset_on_close, sent};
use super::{FlowBytes, Legs, Onlookers, RelayEnd, RelayPool};

/// One flow with all that it has.
pub(super) struct Flow<T> {
    pub(super) legs: Legs,
    device: Known,
    endpoint: Known,
    up: Half,
    down: Half,
    first_fin: Option<Side>,
    /// Whose error was seen first; from then on the flow ends as a reset.
    dead: Option<Side>,
    /// It waits for its turn already.
    pub(super) queued: bool,
    /// Tells this flow from another one that had the same place.
    pub(super) generation: u32,
    /// When something moved last; only of a flow that is half over.
    pub(super) still_since: Option<Instant>,
    pub(super) owner: T,
}

/// What a flow does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It waits for an event.
    Rests(Rest),
    /// It has done its share of work, and has more.
    Again,
    /// It is over.
    Over(RelayEnd),
}

/// How long a flow may rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// For ever.
    Open,
    /// For [`HALF_OPEN`], as before.
    Half,
    /// For [`HALF_OPEN`] from now on.
    HalfAnew,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Device,
    Endpoint,
}

impl<T: Owner> Flow<T> {
    pub(super) fn new(legs: Legs, onlookers: Onlookers, pool: &RelayPool, owner: T) -> Self {
        let engine = pool.engine();
        Self {
            legs,
            device: Known::default(),
            endpoint: Known::default(),
            up: Half::new(engine, onlookers.up),
            down: Half::new(engine, onlookers.down),
            first_fin: None,
            dead: None,
            queued: false,
            generation: 0,
            still_since: None,
            owner,
        }
    }

    /// Takes in what epoll says of one of its sockets.
    pub(super) fn learn(&self, side: Side, flags: EventFlags) {
        self.known(side).learn(flags);
    }

    /// Moves what there is, until both directions have ended, neither can go on, or the flow has done
    /// its share of work.
    pub(super) fn turn(&mut self, pool: &RelayPool) -> Turn {
        let moved = self.moved();
        let (up, down) = loop {
            let dead = self.dead;
            let up = self.pump(pool, Side::Device);
            let down = self.pump(pool, Side::Endpoint);
            if self.dead.is_none() {
                self.watch(pool, Side::Device, up);
                self.watch(pool, Side::Endpoint, down);
            }
            // A death changes what both directions have to do; nothing may rest on the old state.
            if self.dead == dead {
                break (up, down);
            }
        };
        if self.up.stage() == Stage::Ended && self.down.stage() == Stage::Ended {
            if let Some(end) = self.settled() {
                return Turn::Over(end);
            }
        } else if up == Halt::Yielded || down == Halt::Yielded {
            return Turn::Again;
        }
        if self.first_fin.is_none() && self.dead.is_none() {
            return Turn::Rests(Rest::Open);
        }
        let anew = self.still_since.is_none() || moved != self.moved();
        Turn::Rests(if anew { Rest::HalfAnew } else { Rest::Half })
    }

    /// How a flow ends that is half over and has stood still for too long.
    pub(super) fn expired(&self) -> RelayEnd {
        self.dead.map_or(RelayEnd::Idle, Side::reset)
    }

    /// Gives everything back, delivered or not, and its sockets and its owner to the caller.
    pub(super) fn part(mut self, pool: &RelayPool) -> (Legs, T) {
        if self.first_fin.is_some() {
            pool.half_closed_no_more();
        }
        self.up.discard(pool);
        self.down.discard(pool);
        (self.legs, self.owner)
    }

    /// Moves the bytes that `source` sends.
    fn pump(&mut self, pool: &RelayPool, source: Side) -> Halt {
        let (bytes, sum) = (self.owner.bytes(), &pool.count);
        let [device, endpoint] = [
            Socket { fd: self.legs.device.as_fd(), known: &self.device },
            Socket { fd: self.legs.endpoint.as_fd(), known: &self.endpoint },
        ];
        let (half, other, leg) = match source {
            Side::Device => {
                let (bytes, sum) = (&bytes.up, &sum.up);
                let leg = Leg { source: device, sink: endpoint, pool, bytes, sum };
                (&mut self.up, &mut self.down, leg)
            }
            Side::Endpoint => {
                let (bytes, sum) = (&bytes.down, &sum.down);
                let leg = Leg { source: endpoint, sink: device, pool, bytes, sum };
                (&mut self.down, &mut self.up, leg)
            }
        };
        let before = total(leg.bytes);
        let halt = half.pump(leg);
        if total(leg.bytes) != before {
            other.turn_over(pool);
        }
        let ends = matches!(half.stage(), Stage::Ending | Stage::Ended);
        match halt {
            Halt::SourceFailed => self.died(pool, source),
            Halt::SinkFailed => self.died(pool, source.other()),
            _ if self.first_fin.is_none() && ends => {
                self.first_fin = Some(source);
                pool.half_closed();
            }
            _ => {}
        }
        halt
    }

    /// Nothing can be delivered to `side` any more; what it sent before can be.
    fn died(&mut self, pool: &RelayPool, side: Side) {
        self.dead.get_or_insert(side);
        self.half(side.other()).discard(pool);
        self.half(side).cut();
    }

    /// Looks for errors of a side that nobody reads from: its peer is blocked, or it has sent its FIN,
    /// and a reset would otherwise stay unnoticed for as long as that lasts.
    fn watch(&mut self, pool: &RelayPool, side: Side, halt: Halt) {
        if matches!(halt, Halt::Blocked | Halt::Ended) && self.known(side).has_failed() {
            self.died(pool, side);
        }
    }

    /// How the flow ends, both directions being over; a reset still waits for the bytes that it would
    /// destroy.
    fn settled(&self) -> Option<RelayEnd> {
        let Some(dead) = self.dead else {
            return Some(match self.first_fin {
                Some(Side::Endpoint) => RelayEnd::ClosedByEndpoint,
                _ => RelayEnd::ClosedByDevice,
            });
        };
        let other = dead.other();
        let living = Socket { fd: self.leg(other).as_fd(), known: self.known(other) };
        sent(living).is_ready().then(|| dead.reset())
    }

    fn moved(&self) -> Moved {
        let FlowBytes { up, down } = self.owner.bytes();
        (total(up), total(down), self.up.stage(), self.down.stage())
    }

    fn half(&mut self, source: Side) -> &mut Half {
        match source {
            Side::Device => &mut self.up,
            Side::Endpoint => &mut self.down,
        }
    }

    fn known(&self, side: Side) -> &Known {
        match side {
            Side::Device => &self.device,
            Side::Endpoint => &self.endpoint,
        }
    }

    fn leg(&self, side: Side) -> &OwnedFd {
        match side {
            Side::Device => &self.legs.device,
            Side::Endpoint => &self.legs.endpoint,
        }
    }
}

impl Legs {
    /// Makes closing reset both.
    pub(super) fn reset_on_close(&self) {
        reset_on_close(&self.device);
        reset_on_close(&self.endpoint);
    }
}

impl<T> fmt::Debug for Flow<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow")
            .field("up", &self.up)
            .field("down", &self.down)
            .field("first_fin", &self.first_fin)
            .field("dead", &self.dead)
            .finish_non_exhaustive()
    }
}

/// What is compared to see whether a flow stands still.
type Moved = (u64, u64, Stage, Stage);

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Device => Self::Endpoint,
            Self::Endpoint => Self::Device,
        }
    }

    fn reset(self) -> RelayEnd {
        match self {
            Self::Device => RelayEnd::ResetByDevice,
            Self::Endpoint => RelayEnd::ResetByEndpoint,
        }
    }
}
