//! Addresses as types: who dialled, what was dialled, what is dialled instead.
//!
//! The three are all socket addresses, and mixing them up is the classic fault of transparent
//! proxies, so none of them converts into another.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::Ipv4Net;

/// The address of a device, as accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceAddr(pub SocketAddr);

/// The address that a device dialled: the local address of the accepted TPROXY socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DialledAddr(pub SocketAddr);

impl fmt::Display for DeviceAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for DialledAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Undoes IPv4-mapped IPv6 addresses (RFC 4291 section 2.5.5.2), so that one device has one address.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Whether an address is of a kind that networks use privately: RFC 1918, RFC 6598 (shared),
/// RFC 3927 (link-local), loopback. Anything else counts as public.
pub fn is_private(address: Ipv4Addr) -> bool {
    address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || SHARED.contains(&address)
}

/// Whether an address lies in one of the networks.
pub fn within(address: IpAddr, networks: &[Ipv4Net]) -> bool {
    match address {
        IpAddr::V4(v4) => networks.iter().any(|network| network.contains(&v4)),
        IpAddr::V6(_) => false,
    }
}

/// RFC 6598: shared address space of carriers, also used inside VPCs.
const SHARED: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(100, 64, 0, 0), 10);
