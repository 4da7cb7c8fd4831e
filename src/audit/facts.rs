//! What the rooms of a flow tell its record.
//!
//! Plain data: each type is what one room knows, in that room's words. The mapping to OCSF is in
//! `record`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::config::{InterfaceName, MacAddr};
use crate::reason::Reason;

/// Who opened the flow.
#[derive(Clone, Debug)]
pub struct DeviceFacts {
    /// Its address and port.
    pub address: SocketAddr,
    /// Its hardware address, where known.
    pub mac: Option<MacAddr>,
    /// Its name in the configuration, where it has one.
    pub name: Option<Arc<str>>,
    /// What it was recognised by: `mac`, `address`, `network` or `none`.
    pub identity: &'static str,
}

/// What the policy said.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RuleFacts {
    /// The configuration's hash.
    pub policy: Arc<str>,
    /// The rule: `device press-3`, `policy.default`, or what refused.
    pub rule: Arc<str>,
    /// The `[endpoint.*]` table, where one matched.
    pub endpoint: Option<Arc<str>>,
    /// The AWS service, where known.
    pub service: Option<Arc<str>>,
}

/// What learn mode let through.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LearntFacts {
    /// Why the flow would be refused.
    pub reason: Reason,
    /// What to do about it, where it is better than the reason's own remedy.
    pub remedy: Option<String>,
}

/// What is known before about how the endpoint will take a hello.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct NoteFacts {
    /// A stable word for it.
    pub code: &'static str,
    /// The same for people.
    pub sentence: String,
}

/// What the plaintext part of the handshake between device and endpoint said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandshakeFacts {
    /// The version that the endpoint chose.
    pub version: Option<u16>,
    /// The cipher suite that it chose (IANA TLS Cipher Suites).
    pub cipher: Option<u16>,
    /// The alert that ended it, or the last warning.
    pub alert: Option<AlertFacts>,
}

/// A TLS alert (RFC 8446 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlertFacts {
    /// Who sent it.
    pub from: AlertFrom,
    /// 1 is a warning, everything else is fatal.
    pub level: u8,
    /// The description, for example 48 for `unknown_ca`.
    pub description: u8,
}

/// Who sent an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertFrom {
    /// `device`
    Device,
    /// `endpoint`
    Endpoint,
    /// `gate`: the box itself, to a device that it refuses.
    Gate,
}

/// What private resolution said.
#[derive(Clone, Debug)]
pub struct DnsFacts {
    /// The resolver that answered.
    pub resolver: SocketAddr,
    /// TTL of the answer, in seconds.
    pub ttl: u32,
    /// Age of the answer when it was used.
    pub age: Duration,
    /// The answer was past its TTL and used because no resolver answered.
    pub last_good: bool,
    /// All addresses it held.
    pub addresses: Vec<IpAddr>,
}

/// The connection through the tunnel.
#[derive(Clone, Debug)]
pub struct DialFacts {
    /// The ENI's address and port.
    pub endpoint: SocketAddr,
    /// Its availability zone, where configured.
    pub zone: Option<Arc<str>>,
    /// The box's own address and port on the tunnel side.
    pub local: SocketAddr,
    /// The tunnel interface.
    pub interface: InterfaceName,
    /// How long the connect took.
    pub connect: Duration,
}

/// What happened to a tunnel.
#[derive(Clone, Copy, Debug)]
pub enum TunnelFacts<'a> {
    /// It is in another condition: `up`, `suspect`, `dead` or `down`.
    Changed {
        /// Its interface.
        interface: &'a str,
        /// How it was.
        from: &'static str,
        /// How it is.
        to: &'static str,
        /// Why it is not up.
        why: Option<&'a str>,
        /// How long it was as it was.
        lasted: Duration,
    },
    /// New flows try this one first, or find none.
    Preferred(Option<&'a str>),
}

/// What the leak canary found.
#[derive(Clone, Debug)]
pub struct CanaryFacts {
    /// How many attempts to get out were made.
    pub tried: u16,
    /// How many of them were refused with an answer.
    pub answered: u16,
    /// Those that got out.
    pub leaks: Vec<LeakFacts>,
    /// What became of the gate.
    pub closing: ClosingFacts,
}

/// One way on which something got out.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LeakFacts {
    /// What was tried, for example `tcp_443`.
    pub way: &'static str,
    /// Where it got to.
    pub target: IpAddr,
}

/// Whether the gate is closed because of a leak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClosingFacts {
    /// It works.
    Open,
    /// It lets nothing pass.
    Closed,
}

/// Bytes moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrafficFacts {
    /// Device to endpoint.
    pub up: u64,
    /// Endpoint to device.
    pub down: u64,
    /// Of all these bytes, how many were spliced.
    pub spliced: u64,
}

/// How an allowed flow that was connected ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowEnd {
    /// `closed_by_device`
    ClosedByDevice,
    /// `closed_by_endpoint`
    ClosedByEndpoint,
    /// `idle`
    Idle,
    /// `drained`: the box shut down.
    Drained,
    /// `reset_by_device`
    ResetByDevice,
    /// `reset_by_endpoint`
    ResetByEndpoint,
    /// `device_returned`: the device had fallen silent, and opened another flow to the same name.
    DeviceReturned,
    /// `tunnel_lost`: its tunnel carried nothing any more, or was deleted.
    TunnelLost,
    /// `policy_withdrawn`
    PolicyWithdrawn,
    /// `internal_error`: the flow's task ended without saying how.
    InternalError,
}
