//! The routing table of what the program sends towards the VPC: routes by the tunnels, and behind
//! them a route that says "unreachable".
//!
//! The next hop of each tunnel is the configured one, or that of somebody else's route by the same
//! interface (a static one, or BGP's), or none where the interface needs none (XFRM, TUN). Nothing
//! else of other tables plays a part: a default route into the internet leads no packet of the
//! program's astray.

use std::net::Ipv4Addr;

use futures_util::stream::TryStreamExt;
use ipnet::Ipv4Net;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};

use super::{
    EGRESS_TABLE, EXISTS, GONE, Link, Netlink, NetlinkError, accept, failed, is_own_route,
};

/// A way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The tunnel's link.
    pub link: Link,
    /// The next hop, where the configuration has one.
    pub gateway: Option<Ipv4Addr>,
}

/// A route by one link, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Route {
    network: Ipv4Net,
    link: u32,
    gateway: Option<Ipv4Addr>,
    metric: u32,
}

impl Netlink {
    /// Makes the egress table lead to these networks by these links, the first one preferred, and
    /// says by which of them it does.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_ADMIN`.
    pub async fn lead_out(
        &self,
        exits: &[Exit],
        networks: &[Ipv4Net],
    ) -> Result<Vec<Led>, NetlinkError> {
        let query = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let all: Vec<RouteMessage> = self
            .handle
            .route()
            .get(query)
            .execute()
            .try_collect()
            .await
            .map_err(|e| failed("list the routes", e))?;
        let (own, others): (Vec<_>, Vec<_>) = all.iter().partition(|route| is_own_route(route));
        let others: Vec<Route> = others.into_iter().flat_map(routes).collect();
        let plans: Vec<_> = (1..)
            .zip(exits)
            .map(|(place, exit)| plan(exit, place * STEP, networks, &others))
            .collect();
        let wanted: Vec<&Route> = plans.iter().flatten().flatten().collect();
        let present: Vec<(&RouteMessage, Route)> = own
            .into_iter()
            .filter(|message| in_egress_table(message))
            .flat_map(|message| routes(message).into_iter().map(move |route| (message, route)))
            .collect();
        for (message, _) in present.iter().filter(|(_, route)| !wanted.contains(&route)) {
            let deleted = self.handle.route().del((*message).clone()).execute().await;
            accept(deleted, &GONE).map_err(|e| failed("remove a tunnel's route", e))?;
        }
        for route in wanted {
            if !present.iter().any(|(_, known)| known == route) {
                let added = self.handle.route().add(route.message()).execute().await;
                // A link may have gone down meanwhile; the kernel tells about that too.
                let fine = [EXISTS, ENETDOWN, ENODEV];
                accept(added, &fine).map_err(|e| failed("add a tunnel's route", e))?;
            }
        }
        let led = |plan: &Option<Vec<Route>>| if plan.is_some() { Led::Yes } else { Led::No };
        Ok(plans.iter().map(led).collect())
    }
}

/// Whether the egress table leads out by a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Led {
    /// It does, or will when the link is up.
    Yes,
    /// No next hop is known.
    No,
}

/// The links that a route goes by.
pub(super) fn links(message: &RouteMessage) -> Vec<u32> {
    hops(message).into_iter().map(|(link, _)| link).collect()
}

/// The routes for one exit; `None` when no next hop is known.
fn plan(exit: &Exit, metric: u32, networks: &[Ipv4Net], others: &[Route]) -> Option<Vec<Route>> {
    let Exit { link, gateway } = exit;
    if !link.up {
        return Some(Vec::new());
    }
    let route = |network: &Ipv4Net| {
        let known = others.iter().filter(|route| {
            route.link == link.index
                && (route.network.contains(network) || network.contains(&route.network))
        });
        // The route that covers the network closest; of equal ones the one that the kernel prefers.
        let best = known.max_by_key(|route| {
            let covers = route.network.contains(network);
            (covers, route.network.prefix_len(), std::cmp::Reverse(route.metric))
        });
        let gateway = match (gateway, best) {
            (Some(configured), _) => Some(*configured),
            (None, Some(best)) => best.gateway,
            (None, None) if link.has_neighbours => return None,
            (None, None) => None,
        };
        Some(Route { network: *network, link: link.index, gateway, metric })
    };
    let planned: Vec<Route> = networks.iter().filter_map(route).collect();
    (!planned.is_empty() || networks.is_empty()).then_some(planned)
}

impl Route {
    fn message(&self) -> RouteMessage {
        let builder = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(self.network.network(), self.network.prefix_len())
            .output_interface(self.link)
            .priority(self.metric)
            .table_id(EGRESS_TABLE);
        match self.gateway {
            // On link: its own route may be in a table that the kernel does not look into here.
            Some(gateway) => builder.gateway(gateway).onlink().build(),
            None => builder.scope(rtnetlink::packet_route::route::RouteScope::Link).build(),
        }
    }
}

fn routes(message: &RouteMessage) -> Vec<Route> {
    if message.header.kind != RouteType::Unicast {
        return Vec::new();
    }
    let (mut address, mut metric) = (Ipv4Addr::UNSPECIFIED, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(v4)) => address = *v4,
            RouteAttribute::Priority(priority) => metric = *priority,
            _ => {}
        }
    }
    let Ok(network) = Ipv4Net::new(address, message.header.destination_prefix_length) else {
        return Vec::new();
    };
    let route = |(link, gateway)| Route { network, link, gateway, metric };
    hops(message).into_iter().map(route).collect()
}

/// Links and next hops; several of a multipath route.
fn hops(message: &RouteMessage) -> Vec<(u32, Option<Ipv4Addr>)> {
    let (mut hops, mut link, mut gateway) = (Vec::new(), None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::Gateway(_) => gateway = gateway_of(attribute),
            RouteAttribute::MultiPath(several) => {
                let hop = |hop: &rtnetlink::packet_route::route::RouteNextHop| {
                    (hop.interface_index, hop.attributes.iter().find_map(gateway_of))
                };
                hops.extend(several.iter().map(hop));
            }
            _ => {}
        }
    }
    hops.extend(link.map(|link| (link, gateway)));
    hops
}

fn gateway_of(attribute: &RouteAttribute) -> Option<Ipv4Addr> {
    match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(v4)) => Some(*v4),
        _ => None,
    }
}

fn in_egress_table(message: &RouteMessage) -> bool {
    message.attributes.contains(&RouteAttribute::Table(EGRESS_TABLE))
}

/// Between the metrics of two tunnels.
const STEP: u32 = 10;
const ENODEV: i32 = 19;
const ENETDOWN: i32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    const VPC: &str = "10.20.0.0/16";

    fn net(text: &str) -> Ipv4Net {
        text.parse().expect("a network")
    }

    fn exit(has_neighbours: bool, gateway: Option<&str>) -> Exit {
        let link = Link { index: 7, names: vec!["vlan100".to_owned()], up: true, has_neighbours };
        Exit { link, gateway: gateway.map(|text| text.parse().expect("an address")) }
    }

    fn other(network: &str, link: u32, gateway: &str, metric: u32) -> Route {
        Route { network: net(network), link, gateway: gateway.parse().ok(), metric }
    }

    fn hop(exit: &Exit, others: &[Route]) -> Option<Option<String>> {
        let planned = plan(exit, 10, &[net(VPC)], others)?;
        let [route] = planned.as_slice() else { panic!("one route: {planned:?}") };
        assert_eq!((route.network, route.link, route.metric), (net(VPC), 7, 10));
        Some(route.gateway.map(|gateway| gateway.to_string()))
    }

    #[test]
    fn the_next_hop_is_that_of_the_closest_route_by_the_same_link() {
        let vlan = exit(true, None);
        assert_eq!(hop(&vlan, &[]), None, "nobody knows whom to ask");
        assert_eq!(hop(&exit(false, None), &[]), Some(None), "a tunnel needs no next hop");
        let elsewhere = other("0.0.0.0/0", 3, "203.0.113.1", 0);
        assert_eq!(hop(&vlan, &[elsewhere]), None, "the internet's default route");
        let default = other("0.0.0.0/0", 7, "192.0.2.1", 0);
        assert_eq!(hop(&vlan, &[elsewhere, default]), Some(Some("192.0.2.1".to_owned())));
        let part = other("10.20.1.0/24", 7, "192.0.2.9", 0);
        assert_eq!(hop(&vlan, &[part]), Some(Some("192.0.2.9".to_owned())), "better than nothing");
        let worse = other("10.0.0.0/8", 7, "192.0.2.3", 200);
        let better = other("10.0.0.0/8", 7, "192.0.2.2", 100);
        let all = [elsewhere, part, worse, default, better];
        assert_eq!(hop(&vlan, &all), Some(Some("192.0.2.2".to_owned())));
        let said = exit(true, Some("192.0.2.254"));
        assert_eq!(hop(&said, &all), Some(Some("192.0.2.254".to_owned())), "the site knows better");
        let down = Exit { link: Link { up: false, ..vlan.link }, gateway: None };
        assert_eq!(plan(&down, 10, &[net(VPC)], &all), Some(Vec::new()));
    }
}
