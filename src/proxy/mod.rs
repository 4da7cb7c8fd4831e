//! The life of one flow, from the accepted connection to its end.
//!
//! Each data thread runs its own listeners, flows and tracker; a flow never changes thread. The
//! order of a flow's steps is fixed by types: an Open record needs a grant, a dial needs an
//! `Endpoint`, a relay needs a `Dialed`.

mod busiest;
mod carried;
mod dial;
mod dials;
mod fingerprints;
mod flow;
mod generations;
mod handshake;
mod inferred;
mod ja4_cache;
mod latency;
mod leaving;
mod limits;
mod returns;
mod sightings;
mod stats;
mod thread;
mod tracker;

pub use busiest::{Busiest, Busy};
pub use dials::{Dials, DialsStatus};
pub use fingerprints::Fingerprints;
pub use ja4_cache::Ja4Cache;
pub use latency::{Latency, SetUpStep};
pub use leaving::Leaving;
pub use limits::Limits;
pub use returns::{Origin, Returns};
pub use sightings::{DeviceKey, RefusalBook, Refusals, SeenRefusal, Sightings, Treatment};
pub use stats::{Stats, Totals};
pub use thread::{Command, DataThread, Pulse, ThreadLink, ThreadOptions, ThreadReport};
pub use tracker::FlowStates;

use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use ipnet::Ipv4Net;
use time::OffsetDateTime;

use crate::config::Site;
use crate::health::Health;
use crate::net::neighbour::{CouldNotAsk, Lookup, Neighbours};
use crate::policy::{Asking, Grant, Policy};
use crate::resolve::{self, Book, Synthetic};
use crate::tunnel::Tunnels;
use tracker::By;

/// Everything that follows from the configuration and that a flow asks for. A reload makes a new
/// one; a flow keeps the one it began with.
#[derive(Debug)]
pub struct Rules {
    /// The configuration.
    pub site: Site,
    /// Its policy.
    pub policy: Policy,
    /// Its ways out.
    pub tunnels: Arc<Tunnels>,
    /// Its names.
    pub book: Arc<Book>,
    /// How the network interfaces behind them are.
    pub health: Arc<Health>,
    /// What devices are recognised by.
    pub recognised: Recognised,
    /// The addresses that stand for names; `None` where there are none.
    pub synthetic: Option<Synthetic>,
}

/// What devices are recognised by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recognised {
    /// Some entry has a hardware address: a verdict needs the kernel's word on it.
    ByMac,
    /// No entry has one.
    ByAddress,
}

impl Recognised {
    /// Who asks from an address.
    ///
    /// # Errors
    /// Entries have hardware addresses, and the kernel does not say which one this device has: it could
    /// be the one with an entry, or one that took its address.
    pub fn asking(
        self,
        address: IpAddr,
        neighbours: &Neighbours,
        lookup: Option<&Lookup>,
    ) -> Result<Asking, CouldNotAsk> {
        let mac = match self {
            Self::ByAddress => neighbours.heard(address),
            Self::ByMac => neighbours.ask(address, lookup)?,
        };
        Ok(Asking { address, mac })
    }
}

impl Rules {
    /// Whether a flow may live on under these rules: its permission, the address it was connected to,
    /// and the tunnel it goes by.
    fn hold(&self, asking: Asking, grant: &Grant, by: Option<&By>, now: OffsetDateTime) -> bool {
        if !self.policy.still_grants_at(asking, grant, now) {
            return false;
        }
        let Some(By { address, interface, .. }) = by else { return true };
        let verdict = self.policy.judge_at(asking, grant.name(), grant.port(), now);
        let within = |networks: &[Ipv4Net]| match address {
            IpAddr::V4(v4) => resolve::check(&[*v4], networks, &self.site.vpc.networks).is_ok(),
            IpAddr::V6(_) => false,
        };
        verdict.outcome.is_ok_and(|again| within(&again.endpoint().networks))
            && self.site.tunnel.interfaces.contains(interface)
    }
}

/// The rules in force, shared by all threads.
#[derive(Clone, Debug)]
pub struct RulesInForce(Arc<RwLock<Arc<Rules>>>);

impl RulesInForce {
    /// Puts the first rules in force.
    pub fn new(rules: Rules) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(rules))))
    }

    /// The rules for a flow that begins now.
    pub fn now(&self) -> Arc<Rules> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces them; flows that begin from now on see the new ones.
    pub fn replace(&self, rules: Arc<Rules>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = rules;
    }
}
