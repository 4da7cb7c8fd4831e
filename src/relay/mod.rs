//! The byte mover between a device and its endpoint.
//!
//! Forwards bytes unchanged and completely, in both directions, and the ends of streams as what they
//! were: FIN as FIN, half-close as half-close, RST as RST. Never looks at the bytes itself (an
//! [`Onlooker`] may look at the first ones), never buffers without bound, never reads from a side whose
//! peer is blocked.
//!
//! Needs `SIGPIPE` ignored (Rust's default): `splice(2)` has no flag against that signal.
//!
//! Invariants:
//! - A direction holds at most one read: up to 64 KiB copied, or what one splice put into a pipe.
//!   It does not read again before that is delivered.
//! - A pipe is borrowed from the thread's pool only while bytes are on their way through it.
//! - A side's error is acted upon only after the bytes that came before it.
//! - After a reset, and after standing still half over, both sockets are closed with RST (`SO_LINGER` 0).
//! - Everything belongs to one thread; there are no locks, and no atomics of our own, on the byte path.

use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::time::Duration;

mod chunk;
mod flow;
mod half;
mod onlooker;
mod pipe;
mod pool;
mod reactor;
mod socket;
#[cfg(test)]
mod tests;

pub use crate::config::Engine;
pub use onlooker::{Attention, Onlooker, Onlookers};
pub use pool::{RelayCounters, RelayPool};
pub use reactor::{End, Key, Owner, Reactor, Refused};

/// The gate's own sockets of a flow.
#[derive(Debug)]
pub struct Legs {
    /// Towards the device.
    pub device: OwnedFd,
    /// Towards the endpoint.
    pub endpoint: OwnedFd,
}

/// Bytes moved in one direction.
#[derive(Debug, Default)]
pub struct DirectionBytes {
    /// Bytes that went through user space.
    pub copied: Cell<u64>,
    /// Bytes that went through a pipe inside the kernel.
    pub spliced: Cell<u64>,
}

/// What a flow has moved so far; readable by the flow's tracker while the relay runs.
///
/// Counted when the receiving socket accepts the bytes, from what the kernel returned.
#[derive(Debug, Default)]
pub struct FlowBytes {
    /// Device to endpoint.
    pub up: DirectionBytes,
    /// Endpoint to device.
    pub down: DirectionBytes,
}

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayEnd {
    /// Both directions ended in order; the device's FIN came first.
    ClosedByDevice,
    /// Both directions ended in order; the endpoint's FIN came first.
    ClosedByEndpoint,
    /// One direction ended, and the other stood still for the half-open time.
    Idle,
    /// The device reset the flow, or vanished (keepalive or user timeout).
    ResetByDevice,
    /// The endpoint reset the flow, or vanished.
    ResetByEndpoint,
}

/// How long a flow may stand still after its first FIN, or the bytes of a side that reset wait for
/// their receiver.
pub const HALF_OPEN: Duration = Duration::from_secs(120);
