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
        for (ports, code, weight) in [
            (dead, "endpoint_down", Weight::Problem),
            (lame, "endpoint_degraded", Weight::Notice),
        ] {
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
        let worst = interfaces.iter().filter_map(|of| of.certificate.as_ref()).max_by_key(|of| {
            match of {
                Certificate::Good => (0, 0),
                Certificate::Unproven => (1, 0),
                Certificate::Expiring { days } => (2, u64::MAX - days),
                Certificate::Bad(_) => (3, 0),
            }
        })?;
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
