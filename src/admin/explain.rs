//! What would happen to a flow, and why, step by step.
//!
//! Goes the way of a flow with the functions of a flow: the policy's own trace and verdict, the
//! book's own search, the tunnels that are up. It opens no connection. Without a running gate the
//! steps behind the policy are left undecided.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::canary::OPEN_AGAIN;
use super::subject::{Heard, Named};
use time::OffsetDateTime;

use crate::app::State;
use crate::config::{LanDns, Site};
use crate::intercept::Passage;
use crate::name::{NameError, ServerName};
use crate::net::neighbour::{Lookup, Neighbours};
use crate::policy::{Asking, Grant, Policy, Step};
use crate::proxy::{Rules, RulesInForce};
use crate::reason::Reason;
use crate::resolve::{Explained, LastAnswer, Refused};
use crate::tunnel::TunnelStatus;

/// The flow that is asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedFlow {
    /// A `[[device]]` name, an IP address or a MAC.
    pub device: String,
    /// The server name the device would send.
    pub name: String,
    /// The port it would dial.
    pub port: u16,
}

/// The answer. The shape of `explain --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// `allow` or `deny`.
    pub verdict: &'static str,
    /// Why it is denied; `None` also where the gate is closed for all.
    pub reason: Option<Reason>,
    /// The verdict in one sentence.
    pub sentence: String,
    /// What to do about a denial.
    pub remedy: Option<String>,
    /// The device's name where it has one, else as asked.
    pub device: String,
    /// The address it was judged by.
    pub address: IpAddr,
    /// The MAC it was judged by.
    pub mac: Option<String>,
    /// The name, canonical where it is a name.
    pub name: String,
    /// As asked.
    pub port: u16,
    /// The rule that decided.
    pub rule: Option<Arc<str>>,
    /// The `[endpoint.*]` table.
    pub endpoint: Option<Arc<str>>,
    /// The endpoint service, where known.
    pub service: Option<Arc<str>>,
    /// Where the flow would go; empty when denied, or without a running gate.
    pub addresses: Vec<Destination>,
    /// How the verdict came about.
    pub steps: Vec<Step>,
    /// Whether a running gate answered.
    pub online: bool,
}

/// One ENI that the flow could go to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Destination {
    /// Its address.
    pub ip: IpAddr,
    /// Its availability zone, where configured.
    pub zone: Option<Arc<str>>,
    /// The tunnel interface that would be tried first.
    pub via: Option<String>,
}

/// Explains flows to whoever asks the running gate.
#[derive(Debug)]
pub struct Explainer {
    rules: RulesInForce,
    neighbours: Arc<Neighbours>,
    state: Arc<State>,
}

impl Explainer {
    /// An explainer for these rules.
    pub fn new(rules: RulesInForce, neighbours: Arc<Neighbours>, state: Arc<State>) -> Self {
        Self { rules, neighbours, state }
    }

    /// What would happen to the flow now.
    ///
    /// # Errors
    /// A sentence, when the device cannot be made out.
    pub async fn explain(&self, flow: &AskedFlow) -> Result<Explanation, String> {
        let rules = self.rules.now();
        let named = Named::read(&flow.device, &rules.site)?;
        let heard = self.heard(&named);
        let (mut explanation, grant) = by_policy(&rules.site, &rules.policy, flow, &named, heard);
        explanation.online = true;
        if let Some(grant) = grant {
            let explained = rules.book.explain(&grant, &rules.site.vpc.zones).await;
            explanation.resolved(&rules, &grant, explained);
        }
        if self.state.passage() == Passage::Closed {
            explanation.closed();
        }
        Ok(explanation)
    }

    fn heard(&self, named: &Named) -> Heard {
        let lookup = Lookup::open().ok();
        let mac = match named.address() {
            Some(address) => self.neighbours.ask(address, lookup.as_ref()).ok().flatten(),
            None => None,
        };
        Heard { mac, address: named.mac().and_then(|mac| self.neighbours.address(mac)) }
    }
}

/// What the policy of a file makes of a flow, without a running gate.
///
/// # Errors
/// A sentence, when the device cannot be made out.
pub fn explain_offline(site: &Site, flow: &AskedFlow) -> Result<Explanation, String> {
    let policy = Policy::compile(site);
    let named = Named::read(&flow.device, site)?;
    let (mut explanation, grant) = by_policy(site, &policy, flow, &named, Heard::default());
    if grant.is_some() {
        for step in ["resolve", "address", "tunnel"] {
            explanation.step(step, None, "Only the running gate knows.".to_owned());
        }
    }
    Ok(explanation)
}

fn by_policy(
    site: &Site,
    policy: &Policy,
    flow: &AskedFlow,
    named: &Named,
    heard: Heard,
) -> (Explanation, Option<Grant>) {
    let subject = named.complete(heard, site, policy);
    let asking = subject.asking;
    let mut explanation = Explanation {
        verdict: "deny",
        reason: None,
        sentence: String::new(),
        remedy: None,
        device: flow.device.clone(),
        address: asking.address,
        mac: asking.mac.map(|mac| mac.to_string()),
        name: flow.name.clone(),
        port: flow.port,
        rule: None,
        endpoint: None,
        service: None,
        addresses: Vec::new(),
        steps: policy.trace(asking, &flow.name, flow.port),
        online: false,
    };
    if let Some(device) = explanation.steps.first_mut() {
        for assumed in &subject.assumed {
            device.fact = format!("{} {assumed}", device.fact);
        }
    }
    let grant = explanation.judged(policy, asking, flow);
    if let (Some(lan), Ok(name)) = (site.dns.lan(), flow.name.parse()) {
        explanation.step("dns", None, dns_fact(lan, policy, asking, &name));
    }
    (explanation, grant)
}

impl Explanation {
    /// Takes in the policy's verdict.
    fn judged(&mut self, policy: &Policy, asking: Asking, flow: &AskedFlow) -> Option<Grant> {
        let name = match flow.name.parse::<ServerName>() {
            Ok(name) => name,
            Err(error) => {
                let reason = match error {
                    NameError::IsAddress => Reason::NameIsAddress,
                    _ => Reason::NameMalformed,
                };
                self.deny(reason, None);
                return None;
            }
        };
        self.name = name.to_string();
        let verdict = policy.judge_at(asking, &name, flow.port, OffsetDateTime::now_utc());
        if let Some(device) = verdict.identity.name {
            self.device = device.to_string();
        }
        match verdict.outcome {
            Ok(grant) => {
                self.verdict = "allow";
                self.rule = Some(Arc::clone(grant.rule()));
                self.endpoint = Some(Arc::clone(&grant.endpoint().id));
                self.service = Some(Arc::clone(&grant.endpoint().service));
                self.sentence = format!(
                    "{} may reach {} on port {}: endpoint {}.",
                    self.device,
                    self.name,
                    self.port,
                    grant.endpoint().id
                );
                if let Some(reason) = grant.would_refuse() {
                    self.sentence = format!(
                        "{} is allowed only while the gate learns; then: {}",
                        self.device,
                        reason.sentence()
                    );
                    self.remedy = Some(reason.remedy().to_owned());
                }
                Some(grant)
            }
            Err(denial) => {
                self.rule = Some(denial.rule());
                self.endpoint = denial.endpoint();
                self.service = denial.service();
                self.deny(denial.reason, denial.remedy());
                None
            }
        }
    }

    /// Takes in what the running gate knows of the way.
    fn resolved(&mut self, rules: &Rules, grant: &Grant, explained: Explained) {
        let Explained { last, outcome } = explained;
        let tunnels = rules.tunnels.status();
        let (resolve, address) = resolution_steps(grant, last.as_ref(), outcome.as_ref().err());
        self.steps.extend([resolve, address]);
        let way = rules.tunnels.up().first().map(|way| way.interface.to_string());
        self.step("tunnel", Some(way.is_some()), tunnel_fact(&tunnels));
        match outcome {
            Err(refused) => {
                self.deny(refused.reason, None);
                let asking_failed =
                    matches!(refused.reason, Reason::ResolveFailed | Reason::ResolveTimeout);
                // Questions leave by the tunnels too.
                if way.is_none() && asking_failed {
                    self.remedy = Some(Reason::TunnelDown.remedy().to_owned());
                }
            }
            Ok(_) if way.is_none() => self.deny(Reason::TunnelDown, None),
            Ok(endpoints) => {
                let destination = |endpoint: &crate::resolve::Endpoint| Destination {
                    ip: endpoint.address().ip(),
                    zone: endpoint.zone().cloned(),
                    via: way.clone(),
                };
                self.addresses = endpoints.list().iter().map(destination).collect();
            }
        }
    }

    /// Whatever the rules say, nothing passes a closed gate.
    fn closed(&mut self) {
        let fact =
            "The gate is closed, because the leak canary got out. Nothing passes.".to_owned();
        self.verdict = "deny";
        self.reason = None;
        self.addresses = Vec::new();
        self.sentence.clone_from(&fact);
        self.remedy = Some(OPEN_AGAIN.to_owned());
        self.step("gate", Some(false), fact);
    }

    fn deny(&mut self, reason: Reason, remedy: Option<String>) {
        self.verdict = "deny";
        self.reason = Some(reason);
        self.sentence = reason.sentence().to_owned();
        self.remedy = Some(remedy.unwrap_or_else(|| reason.remedy().to_owned()));
    }

    fn step(&mut self, step: &'static str, ok: Option<bool>, fact: String) {
        self.steps.push(Step { step, ok, fact });
    }
}

/// What the box's DNS does with the name.
fn dns_fact(lan: &LanDns, policy: &Policy, asking: Asking, name: &ServerName) -> String {
    let verdict = policy.judge_name(asking, name).outcome;
    let forward = lan.forwards.iter().find(|forward| forward.holds(name.as_str()));
    let grant = match (verdict, forward) {
        (Ok(grant), _) => grant,
        (Err(_), Some(forward)) if policy.endpoint_of(name).is_err() => {
            return format!("The box asks the plant's own servers of {} for it.", forward.zone);
        }
        (Err(_), _) => return "The box's DNS refuses the name to the device.".to_owned(),
    };
    let answered = "The box's DNS answers the device with the endpoint's addresses.";
    if lan.synthetic.is_none() || !policy.may_omit_sni(asking) {
        return answered.to_owned();
    }
    let stands = "The box's DNS answers the device with an address that stands for the name";
    if grant.endpoint().requires_server_name() {
        return format!("{stands}, but AWS IoT requires a server name (SNI) all the same.");
    }
    format!("{stands}, so that the device needs to send no server name (SNI).")
}

/// The answer of the resolvers, and what the guard says to it.
fn resolution_steps(
    grant: &Grant,
    last: Option<&LastAnswer>,
    refused: Option<&Refused>,
) -> (Step, Step) {
    let judged = |reason| matches!(reason, Reason::AddressPublic | Reason::AddressOutsideEndpoint);
    let guard_refused = refused.filter(|refused| judged(refused.reason));
    let resolve = match (last, refused) {
        (_, Some(refused)) if guard_refused.is_none() => {
            let fact = format!("{}: {}.", refused.reason, refused.detail);
            Step { step: "resolve", ok: Some(false), fact }
        }
        (Some(last), _) => Step { step: "resolve", ok: Some(true), fact: answer_fact(last) },
        (None, _) => {
            let fact = "The answer is no longer known.".to_owned();
            Step { step: "resolve", ok: None, fact }
        }
    };
    let networks: Vec<_> = grant.endpoint().networks.iter().map(ToString::to_string).collect();
    let networks = networks.join(", ");
    let (ok, fact) = match (guard_refused, refused) {
        (Some(refused), _) => {
            let (reason, detail) = (refused.reason, &refused.detail);
            (Some(false), format!("{reason}: {detail}; allowed is only {networks}."))
        }
        (None, Some(_)) => (None, "There is no address to look at.".to_owned()),
        (None, None) => (Some(true), format!("Every address lies in {networks}.")),
    };
    (resolve, Step { step: "address", ok, fact })
}

fn answer_fact(last: &LastAnswer) -> String {
    let addresses: Vec<_> = last.addresses.iter().map(ToString::to_string).collect();
    let mut fact = format!(
        "{} answered {}; TTL {} s, {} s old.",
        last.resolver,
        addresses.join(", "),
        last.ttl.as_secs(),
        last.age.as_secs()
    );
    if let Some(error) = &last.error {
        fact.push_str(&format!(" It is the last good answer: {error}."));
    }
    fact
}

fn tunnel_fact(tunnels: &[TunnelStatus]) -> String {
    let words = tunnels.iter().map(|tunnel| {
        let state = tunnel.state.as_str();
        let first = if tunnel.preferred { " and tried first" } else { "" };
        let reason = tunnel.reason.as_ref().map(|reason| format!(" ({reason})"));
        format!("{} is {state}{first}{}", tunnel.interface, reason.unwrap_or_default())
    });
    format!("{}.", words.collect::<Vec<_>>().join(", "))
}
