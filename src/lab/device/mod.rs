//! What a device does: TLS, HTTP and MQTT as its software would, and bytes that none would send.
//!
//! Runs in a device's namespace, on its party's runtime. Nothing here can hang: each step has a
//! deadline, and [`Failure`] says what a device would notice.

mod old;
mod shape;
mod tls;

use std::time::Duration;

pub(crate) use crate::attempt::within;
pub use crate::attempt::{Failure, echo, exchange, tcp_connect, udp_exchange};
pub use old::tls10_hello;
pub use shape::HelloShape;
pub use tls::{Call, HttpReply, Session, Sni, tls_connect};

/// How long a step may take unless the caller says otherwise: longer than the gate's own deadline
/// for a hello, so that a device sees the gate's answer and not its own impatience.
pub const DEADLINE: Duration = Duration::from_secs(10);
