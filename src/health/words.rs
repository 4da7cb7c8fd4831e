//! What is wrong with a network interface, in one sentence, and what to do.

use std::io;
use std::net::SocketAddr;

use super::standing::{Failure, Stage};
use super::tls::{Certificate, Fault};
use crate::config::{Service, Zone};
use crate::policy::ExactName;
use crate::resolve;

/// A fact and its remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// What it is: a sentence without its full stop.
    pub fact: String,
    /// What to do, as sentences.
    pub remedy: String,
}

impl Words {
    /// The whole sentence.
    pub fn sentence(&self) -> String {
        format!("{}.", self.fact)
    }
}

/// A network interface in sentences: its address and port, and its zone where that is known.
pub fn place(to: SocketAddr, zones: &[Zone]) -> String {
    match resolve::zone_of(to.ip(), zones) {
        Some(zone) => format!("{to} ({zone})"),
        None => to.to_string(),
    }
}

/// Some network interfaces of a name.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The name.
    pub exact: &'a ExactName,
    /// What its table is.
    pub service: Option<Service>,
    /// The interfaces and ports; at least one.
    pub places: &'a [SocketAddr],
    /// The site's zones.
    pub zones: &'a [Zone],
}

impl Subject<'_> {
    /// What a failure at these interfaces is.
    pub fn failed(&self, failure: &Failure) -> Words {
        let (name, endpoint, error) = (&self.exact.name, &self.exact.endpoint, &failure.error);
        let (places, verb) = (self.places(), self.verb("does", "do"));
        let addresses = listed(self.places.iter().map(|to| to.ip().to_string()));
        let are = self.verb("is a network interface", "are network interfaces");
        let service = &endpoint.service;
        let (fact, remedy) = match (failure.stage, failure.kind) {
            (Stage::Connect, io::ErrorKind::ConnectionRefused) => (
                format!("{places} cannot be reached for {name}: {error}"),
                format!(
                    "Nothing listens there: check that {addresses} {are} of {service}, and ports of \
                     [endpoint.{}].",
                    endpoint.id
                ),
            ),
            (Stage::Connect, _) => (
                format!("{places} cannot be reached for {name}: {error}"),
                format!(
                    "Allow TCP {} from this box in the security group of the endpoint {service}, and \
                     look at its subnet's network ACL and route back.",
                    listed(self.places.iter().map(|to| to.port().to_string()))
                ),
            ),
            (Stage::Handshake, _) if self.service == Some(Service::S3) => (
                format!("{places} {verb} not speak TLS 1.2: {error}"),
                "S3 interface endpoints speak TLS 1.2 alone: check that the address is one."
                    .to_owned(),
            ),
            (Stage::Handshake, _) => (
                format!("{places} {verb} not shake hands for {name}: {error}"),
                format!("Check that {addresses} {are} of {service}."),
            ),
        };
        Words { fact, remedy }
    }

    /// What is to be said of the certificate that these interfaces show; `None` where nothing is.
    pub fn certificate(&self, certificate: &Certificate) -> Option<Words> {
        let (what, remedy) = match certificate {
            Certificate::Good | Certificate::Unproven => return None,
            Certificate::Expiring { days } => (
                format!("expires in fewer than {days} days"),
                "AWS renews its own; renew the certificate of a custom domain.",
            ),
            Certificate::Bad(Fault::Expired) => (
                "has expired".to_owned(),
                "Check this box's clock first; then renew the certificate.",
            ),
            Certificate::Bad(Fault::NotYetValid) => {
                ("is not valid yet".to_owned(), "Check this box's clock.")
            }
            Certificate::Bad(Fault::OtherName) => (
                "is for other names".to_owned(),
                "The record leads to another endpoint: correct the private hosted zone.",
            ),
            Certificate::Bad(Fault::UnknownIssuer) => (
                "comes from no trusted root".to_owned(),
                "Somebody may answer in the endpoint's place; or correct [health] roots.",
            ),
            Certificate::Bad(Fault::Unreadable) => {
                ("cannot be read".to_owned(), "Look at what answers there.")
            }
        };
        let fact = format!("The certificate of {} for {} {what}", self.places(), self.exact.name);
        Some(Words { fact, remedy: remedy.to_owned() })
    }

    fn places(&self) -> String {
        listed(self.places.iter().map(|to| place(*to, self.zones)))
    }

    fn verb(&self, one: &'static str, several: &'static str) -> &'static str {
        if self.places.len() == 1 { one } else { several }
    }
}

/// Each once: `a, b and c`.
fn listed(words: impl Iterator<Item = String>) -> String {
    let mut all: Vec<String> = Vec::new();
    words.for_each(|word| {
        if !all.contains(&word) {
            all.push(word);
        }
    });
    match all.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}
