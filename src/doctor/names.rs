//! The names: what each resolver answers, and which private hosted zone is missing.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use hickory_proto::op::ResponseCode;

use super::paths::{Answering, ms};
use super::query::{self, Answer};
use super::{Chart, Patient};
use crate::config::Service;
use crate::name::ServerName;
use crate::policy::{ExactName, Offered};
use crate::reason::Reason;
use crate::resolve;

/// The addresses of each name that may be dialled.
pub(super) type Known = BTreeMap<ServerName, Vec<Ipv4Addr>>;

pub(super) async fn check(
    patient: &Patient<'_>,
    answering: &Answering,
    chart: &mut Chart<'_>,
) -> Known {
    let mut known = Known::new();
    for exact in patient.policy.exact_names() {
        let mut good: Vec<(SocketAddr, Answer)> = Vec::new();
        for resolver in &answering.resolvers {
            match query::addresses(&answering.way, *resolver, &exact.name).await {
                Ok(answer) => {
                    if said(patient, exact, *resolver, &answer, chart) {
                        good.push((*resolver, answer));
                    }
                }
                Err(error) => {
                    let sentence =
                        format!("{resolver} does not answer for {}: {error}.", exact.name);
                    let remedy = "Look at the forwarding rules of the inbound endpoint's VPC: it may \
                                  ask a resolver that is away.";
                    chart.failed("name", &exact.name, sentence, remedy);
                }
            }
        }
        let Some((_, answer)) = good.first() else { continue };
        let sets = good.iter().map(|(_, answer)| sorted(&answer.addresses));
        let all: std::collections::BTreeSet<_> = sets.collect();
        if all.len() > 1 {
            let of: Vec<_> = good.iter().map(|(by, a)| format!("{by}: {}", list(a))).collect();
            let sentence = format!("The resolvers differ about {}: {}.", exact.name, of.join("; "));
            let remedy = "Associate the private hosted zone with the VPC of both inbound \
                          endpoints, and have one record for the name.";
            chart.warning("name", &exact.name, sentence, remedy);
        } else {
            let sentence = format!("{} is {} ({}).", exact.name, list(answer), ms(answer.took));
            chart.ok("name", &exact.name, sentence);
        }
        known.insert(exact.name.clone(), sorted(&answer.addresses));
    }
    known
}

/// Tells what is wrong with an answer; whether it is good.
fn said(
    patient: &Patient<'_>,
    exact: &ExactName,
    resolver: SocketAddr,
    answer: &Answer,
    chart: &mut Chart<'_>,
) -> bool {
    let (name, vpc) = (&exact.name, &patient.site.vpc.networks);
    match answer.code {
        ResponseCode::NoError if !answer.addresses.is_empty() => {}
        ResponseCode::NoError | ResponseCode::NXDomain => {
            if exact.offered == Offered::Always {
                let sentence = format!("{resolver} knows no address of {name}.");
                let remedy = format!(
                    "{} A private hosted zone of a parent name hides every name below it that it \
                     does not have: look for one, and remove it.",
                    make(patient, exact)
                );
                chart.failed("name", name, sentence, remedy);
            }
            return false;
        }
        code => {
            let sentence = format!("{resolver} answers {code} for {name}.");
            let remedy = "Look at the inbound endpoint's VPC: its resolver, forwarding rules, and \
                          DNS firewall.";
            chart.failed("name", name, sentence, remedy);
            return false;
        }
    }
    match resolve::check(&answer.addresses, &exact.endpoint.networks, vpc) {
        Ok(()) => true,
        Err((reason, address)) => {
            let (sentence, remedy) = if reason == Reason::AddressPublic {
                let sentence = format!(
                    "{resolver} answers the public address {address} for {name}: the private zone \
                     for it is missing in the inbound endpoint's VPC."
                );
                (sentence, make(patient, exact))
            } else {
                let sentence = format!(
                    "{resolver} answers {address} for {name}, which is outside of the networks of \
                     [endpoint.{}].",
                    exact.endpoint.id
                );
                let remedy = format!(
                    "Correct networks of [endpoint.{}] or vpc.networks, or the record: it must be \
                     the endpoint's network interface.",
                    exact.endpoint.id
                );
                (sentence, remedy)
            };
            chart.failed("name", name, sentence, remedy);
            false
        }
    }
}

/// How the private name comes to be.
fn make(patient: &Patient<'_>, exact: &ExactName) -> String {
    let (name, service) = (&exact.name, &exact.endpoint.service);
    match patient.site.service(&exact.endpoint.id) {
        // AWS IoT Core makes no private names of its own.
        Some(Service::IotData | Service::IotCredentials | Service::Custom) | None => format!(
            "Make a private hosted zone named exactly {name}, with an alias record to the VPC \
             endpoint ({service}), and associate it with the inbound endpoint's VPC."
        ),
        Some(_) => format!(
            "Enable private DNS names on the interface endpoint {service} in the inbound \
             endpoint's VPC."
        ),
    }
}

fn list(answer: &Answer) -> String {
    let words: Vec<_> = sorted(&answer.addresses).iter().map(ToString::to_string).collect();
    words.join(" and ")
}

fn sorted(addresses: &[Ipv4Addr]) -> Vec<Ipv4Addr> {
    let mut addresses = addresses.to_vec();
    addresses.sort_unstable();
    addresses
}
