//! The status report: how everything is, and what is wrong in one sentence each.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use futures_util::future::join_all;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::canary::CanaryStatus;
use super::headroom::{self, Headroom, Known};
use super::http::ListenerStatus;
use super::lately::Lately;
use super::packets::Packets;
use crate::app::State;
use crate::audit::{Audit, AuditStatus};
use crate::config::PolicyMode;
use crate::dns::{DnsStats, DnsStatus};
use crate::doctor::Finding;
use crate::health::{Ailment, InterfaceStatus, Subject, Weight};
use crate::intercept::Passage;
use crate::name::ServerName;
use crate::policy::{ExactName, Offered};
use crate::proxy::{
    Dials, DialsStatus, FlowStates, Limits, Rules, RulesInForce, ThreadLink, ThreadReport, Totals,
};
use crate::reason::Reason;
use crate::relay::RelayCounters;
use crate::resolve::{self, NameStatus, ResolverStatus};
use crate::tunnel::{Condition, TunnelStatus};

/// How everything is. The shape of `status --json`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Nothing is wrong.
    pub healthy: bool,
    /// What is wrong, the gravest first.
    pub problems: Vec<Problem>,
    /// What is as it should be, and worth knowing.
    pub notices: Vec<Problem>,
    /// `site.name`.
    pub site: String,
    /// The program's version.
    pub version: &'static str,
    /// When this was so (RFC 3339).
    pub now: String,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// The tunnels, best first.
    pub tunnels: Vec<TunnelStatus>,
    /// The resolver inbound endpoints.
    pub resolvers: Vec<ResolverStatus>,
    /// The names that are resolved ahead.
    pub endpoints: Vec<EndpointStatus>,
    /// The flows.
    pub flows: Totals,
    /// Connections that are being set up, by `[endpoint.*]` table; those without any yet are left
    /// out.
    pub dials: BTreeMap<Arc<str>, DialsStatus>,
    /// Flows by what they are at.
    pub states: FlowStates,
    /// Devices connected to data endpoints of AWS IoT Core, by `[endpoint.*]` table.
    pub iot_devices: BTreeMap<Arc<str>, usize>,
    /// What moved their bytes, of live and ended flows.
    pub relay: RelayCounters,
    /// How far the box is from its limits.
    pub headroom: Vec<Headroom>,
    /// Connections that the kernel dropped since the start, because they came faster than the gate
    /// or any other program on the box accepts them.
    pub listen_overflows: u64,
    /// What devices' DNS has done; absent where `dns.listen` is `off`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsStatus>,
    /// What the leak canary has found; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryStatus>,
    /// Data threads that work.
    pub threads: ThreadsStatus,
    /// The rules in the kernel.
    pub rules: RulesStatus,
    /// The log.
    pub audit: AuditStatus,
    /// The policy.
    pub policy: PolicyStatus,
    /// What was seen lately.
    pub lately: Lately,
    /// Where this is served.
    pub admin: ListenerStatus,
}

/// One thing that is wrong, or worth knowing.
#[derive(Clone, Debug, Serialize)]
pub struct Problem {
    /// For scripts; a [`Reason`]'s code where it is one.
    pub code: String,
    /// What it is.
    pub sentence: String,
    /// What to do.
    pub remedy: String,
}

/// One name of an endpoint.
#[derive(Clone, Debug, Serialize)]
pub struct EndpointStatus {
    /// The `[endpoint.*]` table.
    pub endpoint: Arc<str>,
    /// The name.
    pub name: ServerName,
    /// Its addresses.
    pub addresses: Vec<Ipv4Addr>,
    /// Seconds since they were learnt.
    pub age_seconds: Option<u64>,
    /// They are past their TTL and used because no resolver answers.
    pub last_good: bool,
    /// Why flows to it would be refused now.
    pub reason: Option<Reason>,
    /// Every endpoint of the service has this name, so that it does not resolve is a problem.
    pub required: bool,
    /// The network interfaces behind it, by address and port.
    pub interfaces: Vec<InterfaceStatus>,
    /// What their examination says.
    #[serde(skip)]
    pub ailments: Vec<Ailment>,
}

/// The data threads.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ThreadsStatus {
    /// How many there should be.
    pub all: usize,
    /// How many answer.
    pub working: usize,
}

/// The kernel's rules.
#[derive(Clone, Debug, Serialize)]
pub struct RulesStatus {
    /// They are as they should be.
    pub intact: bool,
    /// How often somebody's damage was repaired.
    pub restored_total: u64,
    /// Packets by counter.
    pub packets: BTreeMap<String, u64>,
}

/// The policy in force.
#[derive(Clone, Debug, Serialize)]
pub struct PolicyStatus {
    /// SHA-256 of the configuration.
    pub hash: Arc<str>,
    /// When it was loaded (RFC 3339).
    pub loaded: String,
    /// Why the last reload was refused.
    pub refused_reload: Option<String>,
}

/// Makes reports.
#[derive(Debug)]
pub struct Reporter {
    sources: Sources,
    started: Instant,
    overflows_before: u64,
    packets: Packets,
}

/// Whom a [`Reporter`] asks.
#[derive(Debug)]
pub struct Sources {
    /// The rules in force.
    pub rules: RulesInForce,
    /// The log.
    pub audit: Audit,
    /// The data threads.
    pub threads: Vec<ThreadLink>,
    /// What devices' DNS counts.
    pub dns: Option<Arc<DnsStats>>,
    /// The queues of dials.
    pub dials: Arc<Dials>,
    /// What devices take.
    pub limits: Arc<Limits>,
    /// What the control loop knows.
    pub state: Arc<State>,
    /// How many pipes all threads together may have.
    pub pipes: usize,
    /// Where this is served.
    pub admin: ListenerStatus,
}

impl Reporter {
    /// A reporter for a gate that starts now.
    pub fn new(sources: Sources) -> Self {
        let overflows_before = overflows();
        let packets = Packets::default();
        Self { sources, started: Instant::now(), overflows_before, packets }
    }

    /// How everything is now.
    pub async fn report(&self) -> Report {
        self.report_with(self.packets.now().await).await
    }

    /// The same for whoever asks often: the counts of packets are some seconds old.
    pub(super) async fn glance(&self) -> Report {
        self.report_with(self.packets.lately().await).await
    }

    async fn report_with(&self, packets: BTreeMap<String, u64>) -> Report {
        let Sources { rules, audit, threads, dns, dials, limits, state, pipes, admin } =
            &self.sources;
        let rules = rules.now();
        let mut flows = Totals::default();
        threads.iter().for_each(|thread| thread.stats().add_to(&mut flows));
        let reports: Vec<_> = join_all(threads.iter().map(ThreadLink::report)).await;
        let working = reports.iter().flatten().count();
        let mut told = ThreadReport::default();
        reports.iter().flatten().for_each(|report| told.add(report));
        let (most_flows, live) = limits.flows();
        let known = Known {
            flows: (u64::from(live), u64::from(most_flows)),
            busiest: told.flows.by_address.values().copied().max().unwrap_or_default(),
            pipes: (told.relay.pipes_in_use, u64::try_from(*pipes).unwrap_or(u64::MAX)),
        };
        told.sightings.refusals.add(&state.refused_packets());
        let mut report = Report {
            healthy: true,
            problems: Vec::new(),
            notices: Vec::new(),
            site: rules.site.name.clone(),
            version: env!("CARGO_PKG_VERSION"),
            now: rfc3339(SystemTime::now()),
            uptime_seconds: self.started.elapsed().as_secs(),
            tunnels: rules.tunnels.status(),
            resolvers: rules.book.resolvers(),
            endpoints: endpoints(&rules),
            flows,
            dials: dials.status(),
            iot_devices: count_devices(&told.flows),
            states: told.flows,
            relay: told.relay,
            // Reading these waits for nobody.
            headroom: headroom::read(Path::new("/"), known),
            listen_overflows: overflows().saturating_sub(self.overflows_before),
            dns: dns.as_ref().map(|stats| stats.status()),
            canary: CanaryStatus::new(rules.site.canary.as_ref(), state.canary(), Instant::now()),
            threads: ThreadsStatus { all: threads.len(), working },
            rules: RulesStatus {
                intact: state.is_intact(),
                restored_total: state.restored(),
                packets,
            },
            audit: audit.status(),
            policy: PolicyStatus {
                hash: Arc::clone(rules.policy.hash()),
                loaded: rfc3339(state.loaded()),
                refused_reload: state.refused_reload(),
            },
            lately: Lately::new(&told.sightings, &rules.policy),
            admin: admin.clone(),
        };
        report.problems = problems(&report);
        report.notices.extend(learning(rules.site.policy.mode, OffsetDateTime::now_utc()));
        report.notices.extend(rules.health.roots_fault().map(unusable_roots));
        let crowded = crowded(&report.iot_devices);
        report.notices.extend(crowded);
        let found = found(state.findings(), &report.audit);
        report.notices.extend(found);
        let ailing = ailing(&report.endpoints, Weight::Notice);
        report.notices.extend(ailing);
        report.healthy = report.problems.is_empty();
        report
    }
}

fn endpoints(rules: &Rules) -> Vec<EndpointStatus> {
    let names = rules.book.names();
    let status = |exact: &ExactName| {
        let known: Option<&NameStatus> = names.iter().find(|known| known.name == exact.name);
        let addresses = known.map(|known| known.addresses.clone()).unwrap_or_default();
        let reason = match known {
            None => Some(Reason::ResolveTimeout),
            Some(known) if addresses.is_empty() && known.error.is_some() => {
                Some(Reason::ResolveFailed)
            }
            Some(known) if known.age_seconds.is_none() => Some(Reason::ResolveTimeout),
            Some(_) if addresses.is_empty() => Some(Reason::ResolveNxdomain),
            Some(_) => {
                let vpc = &rules.site.vpc.networks;
                resolve::check(&addresses, &exact.endpoint.networks, vpc).err().map(|(r, _)| r)
            }
        };
        let zones = &rules.site.vpc.zones;
        let interfaces = rules.health.of(&exact.name, zones);
        let service = rules.site.service(&exact.endpoint.id);
        let subject = Subject { exact, service, places: &[], zones };
        EndpointStatus {
            endpoint: Arc::clone(&exact.endpoint.id),
            name: exact.name.clone(),
            addresses,
            age_seconds: known.and_then(|known| known.age_seconds),
            last_good: known.is_some_and(|known| known.last_good),
            reason,
            required: exact.offered == Offered::Always,
            ailments: Ailment::all(subject, &interfaces),
            interfaces,
        }
    };
    rules.policy.exact_names().iter().map(status).collect()
}

fn problems(report: &Report) -> Vec<Problem> {
    let mut problems = report.canary.iter().flat_map(CanaryStatus::problems).collect::<Vec<_>>();
    let mut add = |code: &str, sentence: String, remedy: &str| {
        problems.push(Problem { code: code.to_owned(), sentence, remedy: remedy.to_owned() });
    };
    if let Some(failure) = &report.audit.failure {
        let sentence =
            format!("The audit log cannot be written ({failure}); new flows are refused.");
        add(Reason::AuditUnavailable.code(), sentence, Reason::AuditUnavailable.remedy());
    }
    if report.audit.full {
        let sentence = "The audit log has no room for further flows; new flows are refused.";
        add("audit_full", sentence.to_owned(), Reason::AuditUnavailable.remedy());
    }
    let audit = &report.audit;
    if audit.used_bytes >= audit.quota_bytes / 10 * 8 {
        let sentence = format!(
            "The audit log uses {} MiB of its quota of {} MiB.",
            audit.used_bytes >> 20,
            audit.quota_bytes >> 20
        );
        add(
            "audit_quota",
            sentence,
            "Raise audit.quota, or limit what is kept with audit.retain; see audit.on-full for \
             what happens at the quota.",
        );
    }
    if !report.rules.intact {
        let sentence =
            "The gate's nftables rules or its routing are damaged and could not be restored."
                .to_owned();
        add(
            "rules_damaged",
            sentence,
            "Look at the log of sluicegate; restore with `sluicegate nft apply`.",
        );
    }
    if !report.tunnels.iter().any(|tunnel| tunnel.up) {
        add(
            Reason::TunnelDown.code(),
            Reason::TunnelDown.sentence().to_owned(),
            Reason::TunnelDown.remedy(),
        );
    }
    for tunnel in report.tunnels.iter().filter(|tunnel| !tunnel.up) {
        let reason = tunnel.reason.as_deref().unwrap_or("unknown");
        let (state, since) = (tunnel.state.as_str(), tunnel.since_seconds);
        let sentence =
            format!("The tunnel {} has been {state} for {since} s ({reason}).", tunnel.interface);
        let (code, remedy) = match tunnel.state {
            Condition::Dead => (
                "tunnel_dead",
                "Look at the VPN: the interface is up, and no resolver or endpoint in the VPC answers \
                 through it. Routes back from the VPC and security groups are the next to look at.",
            ),
            _ => (
                "tunnel_interface_down",
                "Bring the interface up, or correct [tunnel] interfaces; an interface that is no \
                 point-to-point link needs a route into vpc.networks or a gateway.",
            ),
        };
        add(code, sentence, remedy);
    }
    for resolver in report.resolvers.iter().filter(|resolver| !resolver.healthy) {
        let error = resolver.last_error.as_deref().unwrap_or("no answer");
        let sentence = format!("The resolver {} does not answer ({error}).", resolver.address);
        add("resolver_down", sentence, Reason::ResolveTimeout.remedy());
    }
    for endpoint in report.endpoints.iter().filter(|endpoint| endpoint.required) {
        let Some(reason) = endpoint.reason else { continue };
        let sentence = format!("{} ({}): {}", endpoint.name, endpoint.endpoint, reason.sentence());
        add(reason.code(), sentence, reason.remedy());
    }
    for Problem { code, sentence, remedy } in ailing(&report.endpoints, Weight::Problem) {
        add(&code, sentence, &remedy);
    }
    let ThreadsStatus { all, working } = report.threads;
    // A closed gate has ended them itself.
    let closed = report.canary.as_ref().is_some_and(|canary| canary.gate == Passage::Closed);
    if working < all && !closed {
        let sentence = format!(
            "Only {working} of {all} data threads work; flows of the others have ended or stand still."
        );
        add("data_thread_lost", sentence, "Look at the log of sluicegate, and restart it.");
    }
    if let Some(refused) = &report.policy.refused_reload {
        let sentence = format!("The last reload was refused: {refused}");
        add("reload_refused", sentence, "Correct the file (`sluicegate check`) and reload again.");
    }
    problems.extend(report.headroom.iter().filter_map(Headroom::problem));
    problems
}

/// What the examination of endpoints says.
fn ailing(endpoints: &[EndpointStatus], weight: Weight) -> impl Iterator<Item = Problem> {
    let all = endpoints.iter().flat_map(|endpoint| &endpoint.ailments);
    all.filter(move |ailment| ailment.weight == weight).map(|ailment| Problem {
        code: ailment.code.to_owned(),
        sentence: ailment.words.sentence(),
        remedy: ailment.words.remedy.clone(),
    })
}

fn count_devices(flows: &FlowStates) -> BTreeMap<Arc<str>, usize> {
    let tables = flows.iot_devices.iter();
    tables.map(|(table, devices)| (Arc::clone(table), devices.len())).collect()
}

/// Data endpoints of AWS IoT Core that have little room for more devices.
fn crowded(devices: &BTreeMap<Arc<str>, usize>) -> impl Iterator<Item = Problem> {
    let full = devices.iter().filter(|(_, count)| **count >= MOST_IOT_DEVICES / 10 * 8);
    full.map(|(table, count)| Problem {
        code: "iot_device_limit".to_owned(),
        sentence: format!(
            "{count} devices are connected to [endpoint.{table}]; AWS takes {MOST_IOT_DEVICES} by one VPC \
             endpoint."
        ),
        remedy: "Make another VPC endpoint for AWS IoT data, and give the private name records of \
                 equal weight that lead to both."
            .to_owned(),
    })
}

/// What the look at the box has found. A log that cannot be written is a problem of its own.
fn found(findings: Vec<Finding>, audit: &AuditStatus) -> impl Iterator<Item = Problem> {
    let told = audit.full || audit.failure.is_some();
    findings.into_iter().filter(move |of| !told || of.check != "audit").map(|of| Problem {
        code: of.check.to_owned(),
        sentence: of.sentence,
        remedy: of.remedy.unwrap_or_default(),
    })
}

fn unusable_roots(fault: String) -> Problem {
    Problem {
        code: "health_roots".to_owned(),
        sentence: format!("{fault}; certificates are checked in themselves alone."),
        remedy: "Correct [health] roots, or remove it.".to_owned(),
    }
}

/// Learn mode is the site's own choice, but nobody may take it for enforcement.
fn learning(mode: PolicyMode, now: OffsetDateTime) -> Option<Problem> {
    let PolicyMode::Learn { until } = mode else { return None };
    let end = until.format(&Rfc3339).unwrap_or_default();
    let (code, sentence, remedy) = if now < until {
        let sentence = format!(
            "Learn mode until {end}: flows that the rules would refuse reach addresses in \
             vpc.networks, and are recorded as would_refuse."
        );
        ("learning", sentence, "Turn the records into rules with `sluicegate policy learn`.")
    } else {
        let sentence = format!("Learn mode ended at {end}: the rules are enforced.");
        ("learning_ended", sentence, "Write `mode = \"enforce\"` and remove `learn-until`.")
    };
    Some(Problem { code: code.to_owned(), sentence, remedy: remedy.to_owned() })
}

/// So far, since the box started.
fn overflows() -> u64 {
    let netstat = std::fs::read_to_string("/proc/net/netstat").unwrap_or_default();
    headroom::listen_overflows(&netstat).unwrap_or_default()
}

fn rfc3339(at: SystemTime) -> String {
    OffsetDateTime::from(at).format(&Rfc3339).unwrap_or_default()
}

/// Concurrent devices of one VPC endpoint for AWS IoT data (AWS IoT Core Developer Guide, interface
/// VPC endpoints).
const MOST_IOT_DEVICES: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_is_told_of_from_four_fifths_on() {
        let told = |count| {
            let devices = BTreeMap::from([(Arc::from("iot-data"), count)]);
            crowded(&devices).map(|of| of.sentence).collect::<Vec<_>>()
        };
        assert_eq!(told(79_999), [""; 0]);
        let sentence = "80000 devices are connected to [endpoint.iot-data]; AWS takes 100000 by one \
                        VPC endpoint.";
        assert_eq!(told(80_000), [sentence]);
    }
}
