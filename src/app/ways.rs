//! What the control loop does about the tunnels: what answers through them, their routes, their
//! names in the rules, and the flows on one that is lost.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Running;
use crate::audit::TunnelFacts;
use crate::config::InterfaceName;
use crate::health::{self, Offer, Scene, Target};
use crate::intercept::{self, Plan};
use crate::net::netlink::{Exit, Led, Link, Netlink, NetlinkError};
use crate::proxy::{Command, Leaving, Rules, RulesInForce};
use crate::tunnel::{self, Changed, Event, Targets};

/// Flows that were told to leave a tunnel.
#[derive(Debug, Default)]
pub(super) struct Departures {
    told: HashMap<InterfaceName, (Instant, CancellationToken)>,
}

/// Watches the tunnels of these rules.
pub(super) fn watch(rules: &Rules, in_force: &RulesInForce) {
    let in_force = in_force.clone();
    tunnel::watch(&rules.tunnels, move || targets(&in_force.now()));
}

/// Watches the network interfaces of the endpoints of the rules in force.
pub(super) fn watch_endpoints(in_force: &RulesInForce) {
    let (health, in_force) = (Arc::clone(&in_force.now().health), in_force.clone());
    health::watch(&health, move || scene(&in_force.now()));
}

/// What is to be asked of the endpoints.
fn scene(rules: &Rules) -> Scene {
    let guarded = rules.book.guarded(rules.policy.exact_names()).into_iter();
    let targets = guarded.flat_map(|(exact, address)| {
        let offer = Offer::to(rules.site.service(&exact.endpoint.id));
        exact.ports.iter().map(move |port| Target {
            name: exact.name.clone(),
            to: SocketAddr::new(IpAddr::V4(address), *port),
            offer,
        })
    });
    Scene {
        targets: targets.collect(),
        way: rules.tunnels.up().first().cloned(),
        every: rules.site.health.every,
        roots: rules.site.health.roots.clone(),
    }
}

/// The rules in the kernel that rules of the gate need.
pub(super) fn plan_of(rules: &Rules) -> Plan {
    let mut plan = Plan::new(&rules.site, rules.policy.ports());
    plan.tunnel_interfaces = rules.tunnels.first_names();
    plan
}

/// Who proves that a tunnel leads somewhere.
fn targets(rules: &Rules) -> Targets {
    let mut interfaces: Vec<SocketAddr> = Vec::new();
    for (exact, address) in rules.book.guarded(rules.policy.exact_names()) {
        let Some(port) = exact.ports.first() else { continue };
        let interface = SocketAddr::new(IpAddr::V4(address), *port);
        if !interfaces.contains(&interface) {
            interfaces.push(interface);
        }
    }
    Targets { resolvers: rules.site.resolver.inbound.clone(), interfaces }
}

/// Makes the kernel's egress table lead by the tunnels, and tells the tunnels whether it does.
pub(super) async fn lead_out(rules: &Rules) -> Result<(), NetlinkError> {
    let netlink = Netlink::open()?;
    let links = netlink.links().await?;
    let mut names = Vec::new();
    let mut exits = Vec::new();
    for (tunnel, index) in rules.tunnels.indices() {
        if let Some(link) = links.get(&index) {
            names.push((tunnel.name, link.up));
            exits.push(Exit { link: Link::clone(link), gateway: tunnel.gateway });
        }
    }
    let led = netlink.lead_out(&exits, &rules.site.vpc.networks).await?;
    for ((name, _), led) in names.iter().zip(led).filter(|((_, up), _)| *up) {
        rules.tunnels.set_routed(name, led == Led::Yes);
    }
    Ok(())
}

impl Running {
    pub(super) async fn lead_out(&self) {
        if let Err(error) = lead_out(&self.rules.now()).await {
            tracing::error!(%error, "cannot lead the gate's own packets into the tunnels");
        }
    }

    /// Somebody gave a tunnel another name: the rules must know it, and nobody has damaged them.
    pub(super) async fn rename(&self) {
        let plan = self.plan(&self.rules.now());
        if let Err(error) = intercept::set_up(&plan).await {
            tracing::error!(%error, "cannot put a tunnel's name into the rules");
        }
    }

    pub(super) fn tunnel_event(&self, event: &Event, departures: &mut Departures) {
        match event {
            Event::Changed(changed) => self.tunnel_changed(changed, departures),
            Event::Preferred(interface) => {
                match interface {
                    Some(interface) => tracing::info!(%interface, "new flows go by this tunnel"),
                    None => tracing::error!("no tunnel is up: new flows are refused"),
                }
                let interface = interface.as_ref().map(InterfaceName::as_str);
                self.audit.note_tunnel(&TunnelFacts::Preferred(interface));
                // What resolvers could not say by the old way they may say by the new one.
                self.rules.now().book.doubt_all();
            }
        }
    }

    fn tunnel_changed(&self, changed: &Changed, departures: &mut Departures) {
        let Changed { interface, from, to, reason, lasted } = changed;
        let why = reason.as_deref();
        if from.is_usable() == to.is_usable() && to.is_usable() {
            // Suspicions come and go with single packets.
            tracing::debug!(%interface, state = to.as_str(), why, "a tunnel's state");
            return;
        }
        match to.is_usable() {
            true => tracing::info!(%interface, "a tunnel is up"),
            false => tracing::warn!(%interface, state = to.as_str(), why, "a tunnel is lost"),
        }
        let (from, to, interface) = (from.as_str(), to.as_str(), interface.as_str());
        self.audit.note_tunnel(&TunnelFacts::Changed { interface, from, to, why, lasted: *lasted });
        if changed.to.is_usable()
            && let Some((_, stop)) = departures.told.remove(&changed.interface)
        {
            stop.cancel();
        }
    }

    /// Has flows leave tunnels that carry nothing any more, while others can carry them.
    pub(super) fn evacuate(&self, departures: &mut Departures) {
        let now = Instant::now();
        for stranded in self.rules.now().tunnels.stranded(STRANDED_AFTER) {
            let told = departures.told.get(&stranded.interface);
            if told.is_some_and(|(at, _)| now.duration_since(*at) < TELL_AGAIN) {
                continue;
            }
            if let Some((_, stop)) = told {
                stop.cancel();
            }
            let stop = CancellationToken::new();
            let silent = stranded.silent.saturating_sub(BETWEEN_ANSWERS);
            let seconds = u16::try_from(silent.as_secs()).unwrap_or(u16::MAX);
            let interface = stranded.interface.clone();
            self.leave(&Leaving::Silent { interface, seconds, stop: stop.clone() });
            departures.told.insert(stranded.interface, (now, stop));
        }
    }

    /// Ends the flows on a link that was deleted.
    pub(super) fn link_deleted(&self, index: u32) {
        self.leave(&Leaving::Deleted(index));
    }

    fn leave(&self, leaving: &Leaving) {
        for thread in &self.threads {
            thread.tell(Command::Leave(leaving.clone()));
        }
    }
}

/// How often the flows of lost tunnels are looked after.
pub(super) const LOOK_ROUND: Duration = Duration::from_secs(1);
/// A tunnel whose link was down for a moment, or that lost a few packets, keeps its flows.
const STRANDED_AFTER: Duration = Duration::from_secs(4);
/// The path may have died so long after its last answer.
const BETWEEN_ANSWERS: Duration = Duration::from_secs(2);
/// Flows that still moved may have stopped since. Longer than the flows of a tunnel take to leave it.
const TELL_AGAIN: Duration = Duration::from_secs(15);
