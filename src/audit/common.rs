//! What the records of many flows say alike, and what only one flow can say, each as small as can be.
//!
//! An idle flow keeps its record until it ends, and a box carries a hundred thousand of them: what
//! devices of one kind say to one endpoint is kept once per thread.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use super::tls::TlsPart;
use super::{LearntFacts, RuleFacts};
use crate::config::InterfaceName;
use crate::intern::Interner;

/// What records of a thread's flows have in common; one per data thread.
#[derive(Debug, Default)]
pub struct CommonFacts(pub(super) Interner<Told>);

/// The part of a record that many flows have alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Told {
    pub(super) identity: &'static str,
    pub(super) tls: TlsPart,
    pub(super) first_bytes: String,
    pub(super) rule: Option<RuleFacts>,
    pub(super) learnt: Option<LearntFacts>,
    pub(super) ja4_new: bool,
    pub(super) dns: Option<Answer>,
    pub(super) dial: Option<Path>,
}

/// What is kept of the resolution; its age is the flow's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Answer {
    pub(super) resolver: SocketAddr,
    pub(super) ttl: u32,
    pub(super) last_good: bool,
    pub(super) addresses: Vec<IpAddr>,
}

/// What is kept of the dial; the port of the box and the time it took are the flow's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Path {
    pub(super) endpoint: SocketAddr,
    pub(super) zone: Option<Arc<str>>,
    pub(super) local: IpAddr,
    pub(super) interface: InterfaceName,
}

/// An address and port in 18 bytes; IPv4 as IPv4-mapped (RFC 4291 section 2.5.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packed {
    ip: [u8; 16],
    port: u16,
}

impl Packed {
    /// The address, IPv4 where it is.
    pub(super) fn ip(self) -> IpAddr {
        Ipv6Addr::from(self.ip).to_canonical()
    }

    pub(super) fn port(self) -> u16 {
        self.port
    }
}

impl From<SocketAddr> for Packed {
    fn from(address: SocketAddr) -> Self {
        let ip = match address.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        Self { ip: ip.octets(), port: address.port() }
    }
}

impl From<Packed> for SocketAddr {
    fn from(packed: Packed) -> Self {
        Self::new(packed.ip(), packed.port)
    }
}
