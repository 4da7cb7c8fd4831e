//! The tunnels: what answers through each, and how large a packet may be.

use std::net::SocketAddr;
use std::time::Duration;

use super::plant::Links;
use super::query::{self, Answer};
use super::{Chart, Patient};
use crate::config::Site;
use crate::net::socket::Way;

/// The tunnels whose interface is up, best first.
pub(super) fn ways(site: &Site, links: &Links, chart: &mut Chart<'_>) -> Vec<Way> {
    let mut ways = Vec::new();
    for settings in &site.tunnel.each {
        let name = &settings.name;
        match links.find(name) {
            None => {
                let sentence = format!("The tunnel interface {name} does not exist.");
                let remedy = format!(
                    "Start the VPN (`swanctl --list-sas`), or correct [tunnel] interfaces; there \
                     are {}.",
                    links.present()
                );
                chart.failed("tunnel", name, sentence, remedy);
            }
            Some(link) if !link.up => {
                let sentence = format!("The tunnel interface {name} is down.");
                let remedy = format!("Start the VPN, and `ip link set {name} up`.");
                chart.failed("tunnel", name, sentence, remedy);
            }
            Some(link) => ways.push(Way {
                interface: name.clone(),
                index: link.index,
                source: site.tunnel.source,
                mss: settings.mss,
            }),
        }
    }
    ways
}

/// What answers.
#[derive(Clone, Debug)]
pub(super) struct Answering {
    /// The best tunnel through which a resolver does.
    pub(super) way: Way,
    /// The resolvers that do, in the configuration's order.
    pub(super) resolvers: Vec<SocketAddr>,
}

/// Asks every resolver through every tunnel.
pub(super) async fn check(patient: &Patient<'_>, chart: &mut Chart<'_>) -> Option<Answering> {
    let mut answering: Option<Answering> = None;
    for way in &patient.ways {
        let interface = &way.interface;
        let (mut silent, mut resolvers) = (Vec::new(), Vec::new());
        let mut fastest: Option<Duration> = None;
        for resolver in &patient.site.resolver.inbound {
            match query::soa_of_root(way, *resolver).await {
                Ok(Answer { took, .. }) => {
                    resolvers.push(*resolver);
                    fastest = Some(fastest.map_or(took, |fastest| fastest.min(took)));
                }
                Err(error) => silent.push((resolver, error)),
            }
        }
        for (resolver, error) in &silent {
            if fastest.is_some() {
                let sentence = format!("{resolver} does not answer through {interface}: {error}.");
                let remedy = "Check the inbound endpoint of that zone, and its security group: UDP \
                              and TCP 53 from this box.";
                chart.failed("resolver", resolver, sentence, remedy);
            }
        }
        match (fastest, silent.first()) {
            (Some(took), _) => {
                let sentence = format!("Packets come back through {interface} in {}.", ms(took));
                chart.ok("tunnel", interface, sentence);
                answering.get_or_insert_with(|| Answering { way: way.clone(), resolvers });
            }
            (None, Some((_, error))) => {
                let sentence =
                    format!("{interface} is up, and no resolver answers through it: {error}.");
                chart.failed("tunnel", interface, sentence, no_answer(error));
            }
            (None, None) => {}
        }
    }
    answering
}

/// What a question that found no answer says of the way.
fn no_answer(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrNotAvailable => {
            "The box does not have the address tunnel.source: add it to an interface (`lo`)."
        }
        std::io::ErrorKind::NetworkUnreachable | std::io::ErrorKind::HostUnreachable => {
            "Add a route to vpc.networks by this interface."
        }
        std::io::ErrorKind::PermissionDenied => {
            "Run as root; a firewall rule of the box's own may also refuse it (`nft list ruleset`)."
        }
        _ => {
            "Check the VPN (`swanctl --list-sas`), the VPC's route back to this box's address, and \
             the security group of the inbound endpoints: UDP and TCP 53."
        }
    }
}

/// A duration in milliseconds.
pub(super) fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}
