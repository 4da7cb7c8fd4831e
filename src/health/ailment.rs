//! What the examinations say of a name.

use std::net::SocketAddr;

use super::ledger::InterfaceStatus;
use super::standing::Condition;
use super::tls::Certificate;
use super::words::{Subject, Words};

/// Something that is wrong with a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ailment {
    /// For scripts.
    pub code: &'static str,
    /// How bad it is.
    pub weight: Weight,
    /// What it is.
    pub words: Words,
}

/// How bad a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Devices fail by it.
    Problem,
    /// It works, and will not always.
    Notice,
}

impl Ailment {
    /// What is wrong with a name whose interfaces are so; `subject` gives all but the places.
    pub fn all(subject: Subject<'_>, interfaces: &[InterfaceStatus]) -> Vec<Self> {
        let mut ports: Vec<u16> = interfaces.iter().map(|of| of.address.port()).collect();
        ports.sort_unstable();
        ports.dedup();
        let mut all = Vec::new();
        let is_down = |of: &&InterfaceStatus| of.state == Condition::Down;
        // A port at which nothing answers makes flows fail, whatever the others do.
        let (dead, lame): (Vec<u16>, Vec<u16>) = ports.into_iter().partition(|port| {
            let mut of_port = interfaces.iter().filter(|of| of.address.port() == *port);
            of_port.all(|of| is_down(&of))
        });
        for (ports, code, weight) in
            [(dead, "endpoint_down", Weight::Problem), (lame, "endpoint_degraded", Weight::Notice)]
        {
            let down = interfaces.iter().filter(is_down);
            let down: Vec<_> = down.filter(|of| ports.contains(&of.address.port())).collect();
            let Some(failure) = down.iter().find_map(|of| of.failure.as_ref()) else { continue };
            let places: Vec<SocketAddr> = down.iter().map(|of| of.address).collect();
            let mut words = Subject { places: &places, ..subject }.failed(failure);
            if weight == Weight::Notice {
                words.fact.push_str("; flows take the others");
            }
            all.push(Self { code, weight, words });
        }
        all.extend(Self::certificate(subject, interfaces));
        all
    }

    /// The worst certificate is worth a word, and the interfaces that show it.
    fn certificate(subject: Subject<'_>, interfaces: &[InterfaceStatus]) -> Option<Self> {
        let worst = interfaces.iter().filter_map(|of| of.certificate.as_ref()).max_by_key(
            |of| match of {
                Certificate::Good => (0, 0),
                Certificate::Unproven => (1, 0),
                Certificate::Expiring { days } => (2, u64::MAX - days),
                Certificate::Bad(_) => (3, 0),
            },
        )?;
        let (code, weight) = match worst {
            Certificate::Good | Certificate::Unproven => return None,
            Certificate::Expiring { .. } => ("certificate_expiring", Weight::Notice),
            Certificate::Bad(_) => ("certificate_wrong", Weight::Problem),
        };
        let shown = interfaces.iter().filter(|of| of.certificate.as_ref() == Some(worst));
        let places: Vec<SocketAddr> = shown.map(|of| of.address).collect();
        let words = Subject { places: &places, ..subject }.certificate(worst)?;
        Some(Self { code, weight, words })
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::sync::Arc;

    use super::super::standing::{Failure, Stage};
    use super::super::tls::Fault;
    use super::*;
    use crate::policy::{EndpointRule, ExactName, Offered};

    fn interface(place: &str, state: Condition) -> InterfaceStatus {
        let failure = (state == Condition::Down).then(|| Failure {
            stage: Stage::Connect,
            kind: ErrorKind::TimedOut,
            error: "timed out".to_owned(),
        });
        InterfaceStatus {
            address: place.parse().expect("an address"),
            zone: None,
            state,
            since_seconds: 0,
            latency_ms: None,
            certificate: Some(Certificate::Good),
            reason: None,
            failure,
        }
    }

    fn said(interfaces: &[InterfaceStatus]) -> Vec<(&'static str, Weight, String)> {
        let exact = ExactName {
            name: "historian.corp.example".parse().expect("a name"),
            endpoint: Arc::new(EndpointRule {
                id: Arc::from("historian"),
                service: Arc::from("historian"),
                networks: Box::new([]),
            }),
            ports: Box::new([443, 8443]),
            offered: Offered::Always,
        };
        let subject = Subject { exact: &exact, service: None, places: &[], zones: &[] };
        let all = Ailment::all(subject, interfaces).into_iter();
        all.map(|ailment| (ailment.code, ailment.weight, ailment.words.sentence())).collect()
    }

    #[test]
    fn one_zone_is_a_notice_and_all_of_a_port_are_a_problem() {
        use Condition::{Down, Suspect, Up};
        let all = |states: [Condition; 4]| {
            let places = ["10.20.0.9:443", "10.20.0.9:8443", "10.20.1.9:443", "10.20.1.9:8443"];
            let all = places.into_iter().zip(states);
            said(&all.map(|(place, state)| interface(place, state)).collect::<Vec<_>>())
        };
        assert_eq!(all([Up, Suspect, Suspect, Suspect]), []);
        let notice = "10.20.0.9:443 and 10.20.0.9:8443 cannot be reached for \
                      historian.corp.example: timed out; flows take the others.";
        let expected = ("endpoint_degraded", Weight::Notice, notice.to_owned());
        assert_eq!(all([Down, Down, Up, Suspect]), [expected]);
        let codes = |said: Vec<(&'static str, Weight, String)>| {
            said.into_iter().map(|(code, ..)| code).collect::<Vec<_>>()
        };
        assert_eq!(codes(all([Down, Up, Down, Up])), ["endpoint_down"]);
        assert_eq!(codes(all([Down, Down, Down, Up])), ["endpoint_down", "endpoint_degraded"]);
        assert_eq!(codes(all([Down; 4])), ["endpoint_down"]);
    }

    #[test]
    fn the_worst_certificate_is_told_of() {
        let show = |certificates: [Certificate; 3]| {
            let all = certificates.into_iter().zip(["10.20.0.9:1", "10.20.1.9:1", "10.20.2.9:1"]);
            let all = all.map(|(certificate, place)| InterfaceStatus {
                certificate: Some(certificate),
                ..interface(place, Condition::Up)
            });
            said(&all.collect::<Vec<_>>())
        };
        let expiring = |days| Certificate::Expiring { days };
        assert_eq!(show([Certificate::Good, Certificate::Unproven, Certificate::Good]), []);
        let sentence = "The certificate of 10.20.2.9:1 for historian.corp.example expires in fewer \
                        than 7 days.";
        let expected = ("certificate_expiring", Weight::Notice, sentence.to_owned());
        assert_eq!(show([Certificate::Good, expiring(21), expiring(7)]), [expected]);
        let bad = Certificate::Bad(Fault::OtherName);
        let sentence = "The certificate of 10.20.0.9:1 and 10.20.2.9:1 for historian.corp.example \
                        is for other names.";
        let expected = ("certificate_wrong", Weight::Problem, sentence.to_owned());
        assert_eq!(show([bad.clone(), expiring(7), bad]), [expected]);
    }
}
