//! What is known of every network interface, shared by all threads.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use serde::Serialize;
use tokio::time::Instant;

use super::standing::{Condition, Failure, Seen, Standing};
use super::tls::Certificate;
use super::watch::Target;
use crate::config::Zone;
use crate::name::ServerName;
use crate::resolve;

/// How the network interfaces of a site's endpoints are.
#[derive(Debug, Default)]
pub struct Health {
    standings: Mutex<Standings>,
    /// What flows read: empty most of the time.
    down: RwLock<Arc<BTreeSet<SocketAddr>>>,
    /// Why `health.roots` cannot be used.
    roots: Mutex<Option<String>>,
}

/// By what is examined: each interface by the names and ports that devices use it with.
type Standings = BTreeMap<(ServerName, SocketAddr), Standing>;

/// One network interface and port of a name, for `status`.
#[derive(Clone, Debug, Serialize)]
pub struct InterfaceStatus {
    /// Its address and port.
    pub address: SocketAddr,
    /// Its availability zone, where configured.
    pub zone: Option<Arc<str>>,
    /// How it is.
    pub state: Condition,
    /// How long it has been so.
    pub since_seconds: u64,
    /// How long TCP took when it last answered, in milliseconds.
    pub latency_ms: Option<f64>,
    /// What is to be said of the certificate that it showed last.
    pub certificate: Option<Certificate>,
    /// Why the last examination failed.
    pub reason: Option<String>,
    /// The same with all that is known.
    #[serde(skip)]
    pub failure: Option<Failure>,
}

impl Health {
    /// The interfaces that flows should try last: nothing that devices ask for answers there.
    pub fn down(&self) -> Arc<BTreeSet<SocketAddr>> {
        Arc::clone(&self.down.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is known of a name's interfaces, by address and port.
    pub fn of(&self, name: &ServerName, zones: &[Zone]) -> Vec<InterfaceStatus> {
        let now = Instant::now();
        let standings = self.standings();
        let own = standings.iter().filter(|((of, _), _)| of == name);
        own.map(|((_, address), standing)| InterfaceStatus {
            address: *address,
            zone: resolve::zone_of(address.ip(), zones),
            state: standing.condition,
            since_seconds: now.saturating_duration_since(standing.since).as_secs(),
            latency_ms: standing.latency.map(|latency| latency.as_secs_f64() * 1e3),
            certificate: standing.certificate.clone(),
            reason: standing.failure.as_ref().map(|failure| failure.error.clone()),
            failure: standing.failure.clone(),
        })
        .collect()
    }

    /// Why the trusted roots cannot be used.
    pub fn roots_fault(&self) -> Option<String> {
        self.roots.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_roots_fault(&self, fault: Option<String>) {
        *self.roots.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// Knows these targets and no others.
    pub(super) fn keep(&self, targets: &[Target], now: Instant) {
        let wanted: BTreeSet<_> = targets.iter().map(Target::key).collect();
        let mut standings = self.standings();
        let before = standings.len();
        standings.retain(|key, _| wanted.contains(key));
        let forgotten = standings.len() < before;
        for key in wanted {
            standings.entry(key).or_insert_with(|| Standing::new(now));
        }
        if forgotten {
            self.publish(&standings);
        }
    }

    /// Takes in what came of an examination; how the interface is now. `None` for one that nobody asks
    /// about any more.
    pub(super) fn note(&self, target: &Target, seen: Seen, now: Instant) -> Option<Condition> {
        let mut standings = self.standings();
        let standing = standings.get_mut(&target.key())?;
        let before = standing.condition;
        standing.note(seen, now);
        let condition = standing.condition;
        let reason = standing.failure.as_ref().map(|failure| failure.error.clone());
        if condition != before {
            let (name, to) = (&target.name, target.to);
            match (before, condition) {
                (_, Condition::Down) => {
                    let reason = reason.unwrap_or_default();
                    tracing::warn!(%name, %to, reason, "a network interface of an endpoint is down");
                }
                (Condition::Down, _) => {
                    tracing::info!(%name, %to, "a network interface of an endpoint is up again");
                }
                _ => {}
            }
            self.publish(&standings);
        }
        Some(condition)
    }

    /// An address is down when every name that was examined there is.
    fn publish(&self, standings: &Standings) {
        let is_down = |standing: &Standing| standing.condition == Condition::Down;
        let mut down: BTreeSet<SocketAddr> = BTreeSet::new();
        down.extend(standings.iter().filter(|(_, of)| is_down(of)).map(|((_, at), _)| *at));
        for ((_, address), _) in standings.iter().filter(|(_, of)| !is_down(of)) {
            down.remove(address);
        }
        *self.down.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(down);
    }

    fn standings(&self) -> MutexGuard<'_, Standings> {
        self.standings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::time::Duration;

    use super::super::standing::Stage;
    use super::super::tls::Offer;
    use super::*;

    fn target(name: &str) -> Target {
        let name = name.parse().expect("a name");
        Target { name, to: ([10, 20, 0, 13], 443).into(), offer: Offer::Tls12 }
    }

    #[test]
    fn an_address_is_down_when_each_of_its_names_is() {
        let (one, two) = (target("one.s3.example"), target("two.s3.example"));
        let (health, now) = (Health::default(), Instant::now());
        let fail = |target: &Target| {
            let (stage, kind) = (Stage::Handshake, ErrorKind::ConnectionReset);
            let failure = Failure { stage, kind, error: "reset".to_owned() };
            health.note(target, Seen::Failed(failure), now)
        };
        assert_eq!(fail(&one), None, "nobody asks about it");
        health.keep(&[one.clone(), two.clone()], now);
        for condition in [Condition::Suspect, Condition::Down] {
            assert_eq!(fail(&one), Some(condition));
        }
        assert!(health.down().is_empty(), "the other name may work there");
        fail(&two);
        fail(&two);
        assert!(health.down().contains(&two.to));
        let (latency, certificate) = (Duration::from_millis(1), Certificate::Good);
        health.note(&two, Seen::Answer { latency, certificate }, now);
        assert!(health.down().is_empty());
        // The good name is no longer the site's.
        health.keep(std::slice::from_ref(&one), now);
        assert!(health.down().contains(&one.to));
        health.keep(&[], now);
        assert!(health.down().is_empty());
    }
}
