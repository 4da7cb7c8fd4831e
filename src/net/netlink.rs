//! Routing netlink: the policy rule and local route of interception, and the state of links.
//!
//! Wraps `rtnetlink`, whose interface changes often, behind the few operations that the gate needs.
//! Everything here is idempotent: what exists already counts as done.

mod egress;
mod routes;

use std::collections::BTreeMap;
use std::net::IpAddr;

use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{Handle, IpVersion, MulticastGroup};

use super::{
    DEAD_END_PRIORITY, DEAD_END_TABLE, EGRESS_PRIORITY, EGRESS_TABLE, MARK_EGRESS,
    MARK_INTERCEPTED, ROUTE_TABLE, RULE_PRIORITY,
};
use crate::config::{InterfaceName, MacAddr};
pub use egress::{Exit, Led};
use routes::{dead_end_v4, dead_end_v6, local_v4, local_v6, no_way_v4, no_way_v6};

/// What went wrong between the program and the kernel's routing.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}: {source}{}", self.advice())]
pub struct NetlinkError {
    action: &'static str,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl NetlinkError {
    fn advice(&self) -> &'static str {
        let denied = match self.source.downcast_ref::<rtnetlink::Error>() {
            Some(rtnetlink::Error::NetlinkError(message)) => {
                message.raw_code().checked_abs() == Some(NOT_PERMITTED)
            }
            _ => false,
        };
        if denied { "; run as root or with CAP_NET_ADMIN" } else { "" }
    }
}

/// A connection to the kernel's routing. Must be made inside a tokio runtime.
#[derive(Clone, Debug)]
pub struct Netlink {
    handle: Handle,
}

/// One network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name, and its other names (`ip link property add altname`).
    pub names: Vec<String>,
    /// Administratively up, and with a carrier.
    pub up: bool,
    /// Neighbours have to be asked for their hardware addresses, so that a route needs a next hop.
    pub has_neighbours: bool,
}

/// A change that the kernel told about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A link appeared or changed.
    Link(Link),
    /// A link is gone.
    LinkGone(u32),
    /// A policy rule or a route of one of the gate's own tables was deleted.
    RoutingLost,
    /// Somebody else's route by these links has come, changed or gone.
    Routes(Vec<u32>),
    /// A neighbour appeared, changed or went.
    Neighbour(Neighbour),
    /// The kernel had more to tell than there was room for: everything must be read anew.
    Missed,
}

/// An entry of the neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The interface's index.
    pub index: u32,
    /// The neighbour's address.
    pub address: IpAddr,
    /// Its hardware address, while the entry is valid.
    pub mac: Option<MacAddr>,
}

/// What [`Netlink::add_interception`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Everything was there.
    Complete,
    /// Something was missing and has been added.
    Damaged,
}

/// Which families interception needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// IPv4 only.
    V4,
    /// IPv4 and IPv6.
    Both,
}

impl Netlink {
    /// Opens a connection.
    ///
    /// # Errors
    /// The kernel refuses a netlink socket.
    pub fn open() -> Result<Self, NetlinkError> {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|e| failed("open a netlink socket", e))?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// All links, by index.
    ///
    /// # Errors
    /// The kernel's answer could not be read.
    pub async fn links(&self) -> Result<BTreeMap<u32, Link>, NetlinkError> {
        let messages: Vec<LinkMessage> = self
            .handle
            .link()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|e| failed("list the network interfaces", e))?;
        Ok(messages.iter().map(link).map(|link| (link.index, link)).collect())
    }

    /// All neighbours on all links.
    ///
    /// # Errors
    /// The kernel's answer could not be read.
    pub async fn neighbours(&self) -> Result<Vec<Neighbour>, NetlinkError> {
        let messages: Vec<NeighbourMessage> = self
            .handle
            .neighbours()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|e| failed("list the neighbours", e))?;
        Ok(messages.iter().filter_map(neighbour).collect())
    }

    /// Makes the kernel deliver marked packets to the box (`ip rule add fwmark …` and
    /// `ip route add local default dev lo table …`, tproxy.rst in the kernel's documentation), and
    /// leads everything else that comes in on the device interfaces nowhere. The dead end holds
    /// without nftables: a box whose rules somebody flushes forwards nothing of a device's. What the
    /// program itself sends towards the VPC finds its tunnels ([`Self::lead_out`]) and nothing else.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_ADMIN`.
    pub async fn add_interception(
        &self,
        families: Families,
        devices: &[InterfaceName],
    ) -> Result<Found, NetlinkError> {
        let lo = self
            .links()
            .await?
            .into_values()
            .find(|link| link.names.iter().any(|name| name == "lo"))
            .map_or(1, |link| link.index);
        let mut added = self
            .add_family(IpVersion::V4, &[local_v4(lo), dead_end_v4(), no_way_v4()], devices)
            .await?;
        if self.has_ipv6(families).await? {
            added += self
                .add_family(IpVersion::V6, &[local_v6(lo), dead_end_v6(), no_way_v6()], devices)
                .await?;
        }
        Ok(if added == 0 { Found::Complete } else { Found::Damaged })
    }

    /// Takes away what [`Self::add_interception`] added, also several times over.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_ADMIN`.
    pub async fn remove_interception(&self) -> Result<(), NetlinkError> {
        for version in [IpVersion::V4, IpVersion::V6] {
            for rule in self.own_rules(version.clone()).await? {
                self.delete_rule(rule).await?;
            }
        }
        self.lead_out(&[], &[]).await?;
        let fixed =
            [local_v4(1), dead_end_v4(), no_way_v4(), local_v6(1), dead_end_v6(), no_way_v6()];
        for route in fixed {
            let deleted = self.handle.route().del(route).execute().await;
            accept(deleted, &GONE).map_err(|e| failed("remove the gate's route", e))?;
        }
        Ok(())
    }

    /// Devices may speak IPv6 that nobody configured; it must not pass either. A kernel without IPv6
    /// lists no rules for it.
    async fn has_ipv6(&self, families: Families) -> Result<bool, NetlinkError> {
        if families == Families::Both {
            return Ok(true);
        }
        let rules = self.handle.rule().get(IpVersion::V6).execute();
        Ok(!rules.try_collect::<Vec<_>>().await.unwrap_or_default().is_empty())
    }

    /// How many routes and rules had to be added. Routes first: a rule must never lead into an empty table, from where lookups go on.
    async fn add_family(
        &self,
        version: IpVersion,
        routes: &[RouteMessage],
        devices: &[InterfaceName],
    ) -> Result<usize, NetlinkError> {
        let mut added = 0;
        for route in routes {
            match self.handle.route().add(route.clone()).execute().await {
                Ok(()) => added += 1,
                other => {
                    accept(other, &[EXISTS]).map_err(|e| failed("add the gate's route", e))?;
                }
            }
        }
        let mut wanted = vec![Rule::Intercepted, Rule::Egress];
        wanted.extend(devices.iter().map(|device| Rule::DeadEnd(device.as_str().to_owned())));
        let mut present = Vec::new();
        for message in self.own_rules(version.clone()).await? {
            match Rule::of(&message) {
                Some(rule) if wanted.contains(&rule) && !present.contains(&rule) => {
                    present.push(rule);
                }
                _ => self.delete_rule(message).await?,
            }
        }
        for rule in wanted.iter().filter(|rule| !present.contains(rule)) {
            self.add_rule(&version, rule).await?;
            added += 1;
        }
        Ok(added)
    }

    async fn add_rule(&self, version: &IpVersion, rule: &Rule) -> Result<(), NetlinkError> {
        let request = self.handle.rule().add().action(RuleAction::ToTable);
        let request = match rule {
            Rule::Intercepted => {
                request.fw_mark(MARK_INTERCEPTED).table_id(ROUTE_TABLE).priority(RULE_PRIORITY)
            }
            Rule::Egress => {
                request.fw_mark(MARK_EGRESS).table_id(EGRESS_TABLE).priority(EGRESS_PRIORITY)
            }
            Rule::DeadEnd(device) => {
                request.input_interface(device).table_id(DEAD_END_TABLE).priority(DEAD_END_PRIORITY)
            }
        };
        let added = match version {
            IpVersion::V4 => request.v4().execute().await,
            IpVersion::V6 => request.v6().execute().await,
        };
        accept(added, &[EXISTS]).map_err(|e| failed("add the gate's routing rule", e))
    }

    async fn delete_rule(&self, rule: RuleMessage) -> Result<(), NetlinkError> {
        let deleted = self.handle.rule().del(rule).execute().await;
        accept(deleted, &GONE).map_err(|e| failed("remove the gate's routing rule", e))
    }

    async fn own_rules(&self, version: IpVersion) -> Result<Vec<RuleMessage>, NetlinkError> {
        let rules: Vec<RuleMessage> = self
            .handle
            .rule()
            .get(version)
            .execute()
            .try_collect()
            .await
            .map_err(|e| failed("list the routing rules", e))?;
        Ok(rules.into_iter().filter(is_own).collect())
    }
}

/// Changes of links and routing as they happen. Must be made inside a tokio runtime.
///
/// # Errors
/// The kernel refuses a netlink socket.
pub fn changes() -> Result<BoxStream<'static, Change>, NetlinkError> {
    let (connection, _, messages) = rtnetlink::new_multicast_connection(&[
        MulticastGroup::Link,
        MulticastGroup::Neigh,
        MulticastGroup::Ipv4Rule,
        MulticastGroup::Ipv6Rule,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
    ])
    .map_err(|e| failed("listen for changes of the network", e))?;
    tokio::spawn(connection);
    Ok(messages.filter_map(async |(message, _)| change(&message)).boxed())
}

fn change(message: &NetlinkMessage<RouteNetlinkMessage>) -> Option<Change> {
    let inner = match &message.payload {
        NetlinkPayload::InnerMessage(inner) => inner,
        NetlinkPayload::Overrun(_) => return Some(Change::Missed),
        _ => return None,
    };
    match inner {
        RouteNetlinkMessage::NewNeighbour(message) => neighbour(message).map(Change::Neighbour),
        RouteNetlinkMessage::DelNeighbour(message) => {
            let gone = |neighbour| Neighbour { mac: None, ..neighbour };
            neighbour(message).map(gone).map(Change::Neighbour)
        }
        RouteNetlinkMessage::NewLink(message) => Some(Change::Link(link(message))),
        RouteNetlinkMessage::DelLink(message) => Some(Change::LinkGone(message.header.index)),
        RouteNetlinkMessage::DelRule(rule) if is_own(rule) => Some(Change::RoutingLost),
        RouteNetlinkMessage::NewRoute(route) if !is_own_route(route) => {
            Some(Change::Routes(egress::links(route)))
        }
        RouteNetlinkMessage::DelRoute(route) if is_own_route(route) => Some(Change::RoutingLost),
        RouteNetlinkMessage::DelRoute(route) => Some(Change::Routes(egress::links(route))),
        _ => None,
    }
}

pub(super) fn neighbour(message: &NeighbourMessage) -> Option<Neighbour> {
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    })?;
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => {
            bytes.as_slice().try_into().ok().map(MacAddr)
        }
        _ => None,
    });
    let invalid = matches!(
        message.header.state,
        NeighbourState::Incomplete | NeighbourState::Failed | NeighbourState::Noarp
    );
    let index = message.header.ifindex;
    Some(Neighbour { index, address, mac: mac.filter(|_| !invalid) })
}

fn link(message: &LinkMessage) -> Link {
    let mut names = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => names.insert(0, name.clone()),
            LinkAttribute::PropList(properties) => {
                names.extend(properties.iter().filter_map(|property| match property {
                    rtnetlink::packet_route::link::Prop::AltIfName(name) => Some(name.clone()),
                    _ => None,
                }));
            }
            _ => {}
        }
    }
    let flags = message.header.flags;
    let up = flags.contains(LinkFlags::Up) && flags.contains(LinkFlags::LowerUp);
    let has_neighbours =
        !flags.contains(LinkFlags::Pointopoint) && !flags.contains(LinkFlags::Noarp);
    Link { index: message.header.index, names, up, has_neighbours }
}

/// One of the gate's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    /// What nftables marked is for the box.
    Intercepted,
    /// What the program sends towards the VPC goes by tunnels.
    Egress,
    /// What else comes in on this interface leads nowhere.
    DeadEnd(String),
}

impl Rule {
    fn of(message: &RuleMessage) -> Option<Self> {
        let has = |attribute: RuleAttribute| message.attributes.contains(&attribute);
        let placed = |table, priority| {
            has(RuleAttribute::Table(table)) && has(RuleAttribute::Priority(priority))
        };
        if placed(ROUTE_TABLE, RULE_PRIORITY) && has(RuleAttribute::FwMark(MARK_INTERCEPTED)) {
            return Some(Self::Intercepted);
        }
        if placed(EGRESS_TABLE, EGRESS_PRIORITY) && has(RuleAttribute::FwMark(MARK_EGRESS)) {
            return Some(Self::Egress);
        }
        let interface = message.attributes.iter().find_map(|attribute| match attribute {
            RuleAttribute::Iifname(name) => Some(name.clone()),
            _ => None,
        });
        interface.filter(|_| placed(DEAD_END_TABLE, DEAD_END_PRIORITY)).map(Self::DeadEnd)
    }
}

/// Whether a rule leads to one of the gate's tables by the gate's mark or interface.
fn is_own(rule: &RuleMessage) -> bool {
    let leads_to = |table| rule.attributes.contains(&RuleAttribute::Table(table));
    let marked = rule.attributes.contains(&RuleAttribute::FwMark(MARK_INTERCEPTED));
    (leads_to(ROUTE_TABLE) && marked) || leads_to(DEAD_END_TABLE) || leads_to(EGRESS_TABLE)
}

fn is_own_route(route: &RouteMessage) -> bool {
    let table = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    matches!(table, Some(ROUTE_TABLE | DEAD_END_TABLE | EGRESS_TABLE))
}

fn failed(
    action: &'static str,
    source: impl std::error::Error + Send + Sync + 'static,
) -> NetlinkError {
    NetlinkError { action, source: Box::new(source) }
}

/// Takes some errnos as success: the kernel says that what was asked for is so already.
fn accept(result: Result<(), rtnetlink::Error>, fine: &[i32]) -> Result<(), rtnetlink::Error> {
    match result {
        Err(rtnetlink::Error::NetlinkError(message))
            if message.raw_code().checked_abs().is_some_and(|code| fine.contains(&code)) =>
        {
            Ok(())
        }
        other => other,
    }
}

/// `EPERM`.
const NOT_PERMITTED: i32 = 1;
/// `EEXIST`.
const EXISTS: i32 = 17;
/// `ESRCH` for a route and `ENOENT` for a rule that is not there; a kernel without IPv6 answers
/// `EAFNOSUPPORT` or `EOPNOTSUPP`.
pub(super) const GONE: [i32; 4] = [3, 2, 97, 95];
