//! The relay of one flow: two directions, and what the end of one means for the other.
//!
//! One future without inner futures or arrays, because an idle flow is nothing but this: see the test
//! that bounds its size. Timer and error watches are boxes that exist only while they are needed.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{Interest, Ready};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use super::half::{Half, Halt, Leg, Stage, total};
use super::socket::{reset_on_close, sent};
use super::{FlowBytes, HALF_OPEN, Onlooker, RelayEnd, RelayPool};

/// The future that [`relay`](super::relay) returns.
#[must_use = "bytes move only while the relay is polled"]
pub struct Relay<'a> {
    device: &'a TcpStream,
    endpoint: &'a TcpStream,
    pool: &'a Rc<RelayPool>,
    bytes: &'a FlowBytes,
    up: Half,
    down: Half,
    /// Made when a direction is first blocked or over: most flows never are for long.
    alarms: Option<Box<Alarms<'a>>>,
    first_fin: Option<Side>,
    /// Whose error was seen first; from then on the flow ends as a reset.
    dead: Option<Side>,
}

impl<'a> Relay<'a> {
    pub(super) fn new(
        device: &'a TcpStream,
        endpoint: &'a TcpStream,
        pool: &'a Rc<RelayPool>,
        bytes: &'a FlowBytes,
    ) -> Self {
        let engine = pool.engine();
        Self {
            device,
            endpoint,
            pool,
            bytes,
            up: Half::new(engine),
            down: Half::new(engine),
            alarms: None,
            first_fin: None,
            dead: None,
        }
    }

    /// Lets onlookers see the first bytes of the device (`up`) and of the endpoint (`down`).
    pub fn shown_to(mut self, up: Option<Box<Onlooker>>, down: Option<Box<Onlooker>>) -> Self {
        self.up.show_to(up);
        self.down.show_to(down);
        self
    }

    /// Moves what there is, until both directions have ended or neither can go on.
    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        loop {
            let dead = self.dead;
            let up = self.pump(cx, Side::Device);
            let down = self.pump(cx, Side::Endpoint);
            if self.dead.is_none() {
                self.watch(cx, Side::Device, &up);
                self.watch(cx, Side::Endpoint, &down);
            }
            if self.dead != dead {
                // A death changes what both directions have to do; nothing may sleep on the old state.
                continue;
            }
            if self.up.stage() == Stage::Ended && self.down.stage() == Stage::Ended {
                return self.settle(cx);
            }
            return Poll::Pending;
        }
    }

    /// Moves the bytes that `source` sends.
    fn pump(&mut self, cx: &mut Context<'_>, source: Side) -> Halt {
        let leg = self.leg(source);
        let halt = self.half(source).pump(cx, leg);
        match halt {
            Halt::SourceFailed => self.died(source),
            Halt::SinkFailed => self.died(source.other()),
            _ if self.first_fin.is_none()
                && matches!(self.half(source).stage(), Stage::Ending | Stage::Ended) =>
            {
                self.first_fin = Some(source);
                self.pool.half_closed();
            }
            _ => {}
        }
        halt
    }

    /// Nothing can be delivered to `side` any more; what it sent before can be.
    fn died(&mut self, side: Side) {
        self.dead.get_or_insert(side);
        let pool = self.pool;
        self.half(side.other()).discard(pool);
        self.half(side).cut();
    }

    /// Watches a side that nobody reads from for errors: its peer is blocked, or it has sent its FIN,
    /// and a reset would otherwise stay unnoticed for as long as that lasts.
    fn watch(&mut self, cx: &mut Context<'_>, side: Side, halt: &Halt) {
        let socket = self.socket(side);
        if !matches!(halt, Halt::Blocked | Halt::Ended) {
            // What only takes its share of a stream may be blocked again in a moment.
            if let (Halt::Idle, Some(alarms)) = (halt, &mut self.alarms) {
                *alarms.watch(side) = None;
            }
            return;
        }
        let watch = self.alarms.get_or_insert_default().watch(side);
        let error = watch.get_or_insert_with(|| Box::pin(socket.ready(Interest::ERROR)));
        if error.as_mut().poll(cx).is_ready() {
            *watch = None;
            self.died(side);
        }
    }

    /// Both directions are over; a reset still waits for the bytes that it would destroy.
    fn settle(&mut self, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        let Some(dead) = self.dead else {
            return Poll::Ready(match self.first_fin {
                Some(Side::Endpoint) => RelayEnd::ClosedByEndpoint,
                _ => RelayEnd::ClosedByDevice,
            });
        };
        sent(cx, self.socket(dead.other())).map(|()| dead.reset())
    }

    /// Whether a flow that is half over has stood still for too long.
    fn expired(&mut self, cx: &mut Context<'_>, moved: Moved) -> Option<RelayEnd> {
        if self.first_fin.is_none() && self.dead.is_none() {
            return None;
        }
        let progressed = moved != self.moved();
        let timer = &mut self.alarms.get_or_insert_default().timer;
        let timer = timer.get_or_insert_with(|| Box::pin(sleep(HALF_OPEN)));
        if progressed {
            timer.as_mut().reset(Instant::now() + HALF_OPEN);
        }
        let over = timer.as_mut().poll(cx).is_ready();
        over.then(|| self.dead.map_or(RelayEnd::Idle, Side::reset))
    }

    fn moved(&self) -> Moved {
        (total(&self.bytes.up), total(&self.bytes.down), self.up.stage(), self.down.stage())
    }

    fn half(&mut self, source: Side) -> &mut Half {
        match source {
            Side::Device => &mut self.up,
            Side::Endpoint => &mut self.down,
        }
    }

    fn socket(&self, side: Side) -> &'a TcpStream {
        match side {
            Side::Device => self.device,
            Side::Endpoint => self.endpoint,
        }
    }

    fn leg(&self, source: Side) -> Leg<'a> {
        let bytes = match source {
            Side::Device => &self.bytes.up,
            Side::Endpoint => &self.bytes.down,
        };
        let (pool, sink) = (self.pool, self.socket(source.other()));
        Leg { source: self.socket(source), sink, pool, bytes }
    }
}

impl Future for Relay<'_> {
    type Output = RelayEnd;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        let this = self.get_mut();
        let moved = this.moved();
        let end = match this.advance(cx) {
            Poll::Ready(end) => Some(end),
            Poll::Pending => this.expired(cx, moved),
        };
        let Some(end) = end else {
            return Poll::Pending;
        };
        if !matches!(end, RelayEnd::ClosedByDevice | RelayEnd::ClosedByEndpoint) {
            reset_on_close(this.device);
            reset_on_close(this.endpoint);
        }
        Poll::Ready(end)
    }
}

impl Drop for Relay<'_> {
    fn drop(&mut self) {
        if self.first_fin.is_some() {
            self.pool.half_closed_no_more();
        }
        self.up.discard(self.pool);
        self.down.discard(self.pool);
    }
}

impl fmt::Debug for Relay<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("up", &self.up)
            .field("down", &self.down)
            .field("first_fin", &self.first_fin)
            .field("dead", &self.dead)
            .finish_non_exhaustive()
    }
}

/// What wakes a relay that does not read.
#[derive(Default)]
struct Alarms<'a> {
    device: Option<Watch<'a>>,
    endpoint: Option<Watch<'a>>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// Resolves when its socket has an error.
type Watch<'a> = Pin<Box<dyn Future<Output = io::Result<Ready>> + 'a>>;

impl<'a> Alarms<'a> {
    fn watch(&mut self, side: Side) -> &mut Option<Watch<'a>> {
        match side {
            Side::Device => &mut self.device,
            Side::Endpoint => &mut self.endpoint,
        }
    }
}

/// What is compared to see whether a flow stands still.
type Moved = (u64, u64, Stage, Stage);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Device,
    Endpoint,
}

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
