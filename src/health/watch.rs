//! Asking every network interface in turn.
//!
//! Each is asked once in `health.every`, at a moment of its own, so that an endpoint never sees a
//! crowd; one that failed is asked again at once, to be sure. While no tunnel is up nothing is asked,
//! and what was asked through a tunnel that was left meanwhile says nothing of the interface.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::Mutex;
use tokio::time::{Instant, MissedTickBehavior};

use super::ledger::Health;
use super::standing::{Condition, Failure, Seen};
use super::tls::{Call, Examiner, Offer, Until};
use crate::name::ServerName;
use crate::net::socket::Way;

/// What is to be asked, and how. It may change at any time.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The tunnel that new flows take; `None` while there is none.
    pub way: Option<Way>,
    /// Network interfaces that the address guard has let pass.
    pub targets: Vec<Target>,
    /// `health.every`.
    pub every: Duration,
    /// `health.roots`.
    pub roots: Option<PathBuf>,
}

/// A network interface, and the name to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The name.
    pub name: ServerName,
    /// The interface and port.
    pub to: SocketAddr,
    /// The versions of TLS to offer.
    pub offer: Offer,
}

impl Target {
    pub(super) fn key(&self) -> (ServerName, SocketAddr) {
        (self.name.clone(), self.to)
    }
}

/// One examination.
#[derive(Clone, Debug)]
struct Look {
    way: Way,
    target: Target,
    roots: Option<PathBuf>,
    every: Duration,
}

/// Keeps asking, in a task of the calling runtime, for as long as that works.
pub fn watch(health: &Arc<Health>, scene: impl Fn() -> Scene + Send + 'static) {
    let eye = Arc::new(Eye { health: Arc::clone(health), known: Mutex::default() });
    let look = move |look: Look| {
        let eye = Arc::clone(&eye);
        async move { eye.look(look).await }
    };
    tokio::spawn(keep_looking(Arc::clone(health), scene, look));
}

async fn keep_looking<F: Future<Output = Seen>>(
    health: Arc<Health>,
    scene: impl Fn() -> Scene,
    look: impl Fn(Look) -> F,
) {
    let mut rota = Rota::default();
    let mut under_way = FuturesUnordered::new();
    let mut glances = tokio::time::interval(GLANCE);
    glances.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let done: Option<(Target, Way, Seen)> = tokio::select! {
            _ = glances.tick() => None,
            Some(done) = under_way.next() => Some(done),
        };
        let (now, scene) = (Instant::now(), scene());
        if let Some((target, way, seen)) = done {
            let may_be_the_ways = matches!(seen, Seen::Failed(_)) && scene.way != Some(way);
            let condition =
                if may_be_the_ways { None } else { health.note(&target, seen, now) };
            let sure = matches!(condition, Some(Condition::Up | Condition::Down));
            rota.done(&target, now + if sure { scene.every } else { AGAIN.min(scene.every) });
        }
        health.keep(&scene.targets, now);
        rota.keep(&scene, now);
        let Some(way) = &scene.way else { continue };
        for target in rota.take_due(now, AT_ONCE.saturating_sub(under_way.len())) {
            let look = look(Look {
                way: way.clone(),
                target: target.clone(),
                roots: scene.roots.clone(),
                every: scene.every,
            });
            let way = way.clone();
            under_way.push(async move { (target, way, look.await) });
        }
    }
}

/// Who is asked when.
#[derive(Debug, Default)]
struct Rota {
    turns: BTreeMap<(ServerName, SocketAddr), Turn>,
    spread: RandomState,
}

#[derive(Debug)]
struct Turn {
    target: Target,
    /// `None` while it is asked.
    due: Option<Instant>,
}

impl Rota {
    fn keep(&mut self, scene: &Scene, now: Instant) {
        self.turns.retain(|_, turn| scene.targets.contains(&turn.target));
        for target in &scene.targets {
            let key = target.key();
            let share = self.share(&key);
            let first = || Turn {
                target: target.clone(),
                due: Some(now + scene.every.mul_f64(share)),
            };
            let turn = self.turns.entry(key).or_insert_with(first);
            // The interval may have become shorter.
            turn.due = turn.due.map(|due| due.min(now + scene.every));
        }
    }

    /// A part of the interval, from 0 to 1.
    fn share(&self, key: &(ServerName, SocketAddr)) -> f64 {
        let [high, low, ..] = self.spread.hash_one(key).to_be_bytes();
        f64::from(u16::from_be_bytes([high, low])) / f64::from(u16::MAX)
    }

    fn take_due(&mut self, now: Instant, most: usize) -> Vec<Target> {
        let mut due: Vec<&mut Turn> =
            self.turns.values_mut().filter(|turn| turn.due.is_some_and(|due| due <= now)).collect();
        // Who has waited longest comes first.
        due.sort_by_key(|turn| turn.due);
        let taken = due.into_iter().take(most);
        taken
            .map(|turn| {
                turn.due = None;
                turn.target.clone()
            })
            .collect()
    }

    fn done(&mut self, target: &Target, due: Instant) {
        if let Some(turn) = self.turns.get_mut(&target.key()) {
            turn.due = Some(due);
        }
    }
}

/// Examines as a device would.
struct Eye {
    health: Arc<Health>,
    known: Mutex<Option<Known>>,
}

/// The roots are read again once an interval: their file may change.
struct Known {
    roots: Option<PathBuf>,
    read: Instant,
    examiner: Arc<Examiner>,
}

impl Eye {
    async fn look(&self, look: Look) -> Seen {
        let examiner = self.examiner(&look).await;
        let name = look.target.name.to_string();
        let call = Call {
            way: &look.way,
            to: look.target.to,
            name: &name,
            offer: look.target.offer,
            until: Until::Certificate,
            patience: PATIENCE,
        };
        match examiner.call(call).await {
            Ok(shown) => {
                Seen::Answer { latency: shown.connected, certificate: shown.certificate }
            }
            Err(trouble) => Seen::Failed(Failure::from(&trouble)),
        }
    }

    async fn examiner(&self, look: &Look) -> Arc<Examiner> {
        let mut known = self.known.lock().await;
        let is_fresh =
            |known: &&Known| known.roots == look.roots && known.read.elapsed() < look.every;
        if let Some(known) = known.as_ref().filter(is_fresh) {
            return Arc::clone(&known.examiner);
        }
        let roots = look.roots.clone();
        let read = tokio::task::spawn_blocking(move || Examiner::new(roots.as_deref())).await;
        let (examiner, fault) = match read {
            Ok(Ok(examiner)) => (examiner, None),
            Ok(Err(error)) => (Examiner::without_roots(), Some(error.to_string())),
            // The runtime ends.
            Err(_) => (Examiner::without_roots(), None),
        };
        self.health.set_roots_fault(fault);
        let examiner = Arc::new(examiner);
        let (roots, read) = (look.roots.clone(), Instant::now());
        *known = Some(Known { roots, read, examiner: Arc::clone(&examiner) });
        examiner
    }
}

/// How often it is looked who is due.
const GLANCE: Duration = Duration::from_secs(1);
/// After a first failure.
const AGAIN: Duration = Duration::from_secs(1);
/// Examinations side by side.
const AT_ONCE: usize = 8;
/// For the connection, and then for the certificate: as long as a Greengrass core waits.
const PATIENCE: Duration = Duration::from_secs(3);
