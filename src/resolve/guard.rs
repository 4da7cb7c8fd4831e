//! The address guard: only addresses of the granted endpoint become an [`Endpoint`].

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;

use crate::config::Zone;
use crate::net::addr::{is_private, within};
use crate::policy::Grant;
use crate::reason::Reason;

/// An address that may be dialled for one flow: an ENI of the granted endpoint. Only [`admit`]
/// makes one.
#[derive(Clone, Debug)]
pub struct Endpoint {
    address: SocketAddr,
    zone: Option<Arc<str>>,
}

/// All ENIs of the granted endpoint, and where they were learnt.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// At least one.
    list: Vec<Endpoint>,
    /// The resolver that answered.
    pub resolver: SocketAddr,
    /// TTL of the answer.
    pub ttl: Duration,
    /// Age of the answer.
    pub age: Duration,
    /// The answer is past its TTL and used because no resolver answers.
    pub last_good: bool,
}

/// A refusal by resolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Of stage resolve.
    pub reason: Reason,
    /// The fact behind it.
    pub detail: String,
}

/// An answer as it is about to be used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offered<'a> {
    pub(super) addresses: &'a [Ipv4Addr],
    pub(super) resolver: SocketAddr,
    pub(super) ttl: Duration,
    pub(super) age: Duration,
    pub(super) last_good: bool,
}

impl Endpoint {
    /// The ENI's address, and the port the device dialled.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its availability zone, where configured.
    pub fn zone(&self) -> Option<&Arc<str>> {
        self.zone.as_ref()
    }
}

impl Endpoints {
    /// The ENIs in the order of the answer; never empty.
    pub fn list(&self) -> &[Endpoint] {
        &self.list
    }
}

/// Turns an answer into endpoints. One wrong address condemns the whole answer: who put it there
/// could have put it first.
pub(super) fn admit(
    grant: &Grant,
    offered: Offered<'_>,
    vpc: &[Ipv4Net],
    zones: &[Zone],
) -> Result<Endpoints, Refused> {
    let by = offered.resolver;
    if let Err((reason, address)) = check(offered.addresses, &grant.endpoint().networks, vpc) {
        let detail = format!("{by} answered {address} for {}", grant.name());
        return Err(Refused { reason, detail });
    }
    let list: Vec<Endpoint> = offered
        .addresses
        .iter()
        .map(|address| Endpoint {
            address: SocketAddr::new(IpAddr::V4(*address), grant.port()),
            zone: zone_of(IpAddr::V4(*address), zones),
        })
        .collect();
    if list.is_empty() {
        let detail = format!("{by} has no IPv4 address for {}", grant.name());
        return Err(Refused { reason: Reason::ResolveNxdomain, detail });
    }
    let Offered { resolver, ttl, age, last_good, .. } = offered;
    Ok(Endpoints { list, resolver, ttl, age, last_good })
}

/// Whether every address lies in the endpoint's networks.
///
/// # Errors
/// The first address that does not, and what that means.
pub fn check(
    addresses: &[Ipv4Addr],
    endpoint: &[Ipv4Net],
    vpc: &[Ipv4Net],
) -> Result<(), (Reason, Ipv4Addr)> {
    for address in addresses {
        let ip = IpAddr::V4(*address);
        let in_vpc = within(ip, vpc);
        if in_vpc && within(ip, endpoint) {
            continue;
        }
        let public = !in_vpc && !is_private(*address);
        let reason = if public { Reason::AddressPublic } else { Reason::AddressOutsideEndpoint };
        return Err((reason, *address));
    }
    Ok(())
}

/// The availability zone that an address lies in, where it is configured.
pub fn zone_of(address: IpAddr, zones: &[Zone]) -> Option<Arc<str>> {
    let home = zones.iter().find(|zone| within(address, &zone.networks));
    home.map(|zone| Arc::clone(&zone.name))
}
