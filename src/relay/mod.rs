//! The byte mover between a device and its endpoint.
//!
//! Forwards bytes unchanged and completely, in both directions, and the ends of streams as what they
//! were: FIN as FIN, half-close as half-close, RST as RST. Never looks at the bytes, never buffers
//! without bound, never reads from a side whose peer is blocked.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;

/// How streams are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Engine {
    /// Small messages are copied, streams are spliced.
    #[default]
    Adaptive,
    /// Everything is copied.
    Copy,
    /// Everything is spliced.
    Splice,
}

/// What a thread's relays share: pipes, the copy buffer, counters. One per data thread.
#[derive(Debug)]
pub struct RelayPool {}

impl RelayPool {
    /// A pool that holds at most `pipes` pipes.
    pub fn new(engine: Engine, pipes: usize) -> Rc<Self> {
        let _ = (engine, pipes);
        Rc::new(Self {})
    }
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

/// How long a flow may stand still after its first FIN.
pub const HALF_OPEN: Duration = Duration::from_secs(120);

/// Moves bytes until both directions have ended. Dropping the future stops the relay and leaves the
/// sockets to the caller; bytes may then be lost, which the caller makes visible by resetting both.
/// On return after a reset both sockets are set to reset on close (`SO_LINGER` 0).
pub async fn relay(
    device: &TcpStream,
    endpoint: &TcpStream,
    pool: &Rc<RelayPool>,
    bytes: &FlowBytes,
) -> RelayEnd {
    let _ = (device, endpoint, pool, bytes);
    todo!()
}
