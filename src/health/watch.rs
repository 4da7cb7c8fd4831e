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
            let condition = if may_be_the_ways { None } else { health.note(&target, seen, now) };
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
            let first =
                || Turn { target: target.clone(), due: Some(now + scene.every.mul_f64(share)) };
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
            Ok(shown) => Seen::Answer { latency: shown.connected, certificate: shown.certificate },
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

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::net::Ipv4Addr;

    use super::super::standing::Stage;
    use super::super::tls::Certificate;
    use super::*;
    use crate::config::InterfaceName;

    /// What the watch sees, and what it has asked.
    struct Stand {
        health: Arc<Health>,
        scene: RefCell<Scene>,
        /// How long an answer takes, and whether there is one.
        takes: Cell<Duration>,
        silent: Cell<Option<SocketAddr>>,
        asked: RefCell<Vec<(Instant, SocketAddr)>>,
        at_once: Cell<usize>,
        most_at_once: Cell<usize>,
    }

    impl Stand {
        fn new(targets: u8) -> Self {
            let scene = Scene {
                way: Some(way("xfrm101")),
                targets: (0..targets).map(target).collect(),
                every: EVERY,
                roots: None,
            };
            Self {
                health: Arc::default(),
                scene: RefCell::new(scene),
                takes: Cell::new(Duration::from_millis(5)),
                silent: Cell::new(None),
                asked: RefCell::default(),
                at_once: Cell::new(0),
                most_at_once: Cell::new(0),
            }
        }

        async fn look(&self, look: Look) -> Seen {
            let to = look.target.to;
            self.asked.borrow_mut().push((Instant::now(), to));
            self.at_once.set(self.at_once.get() + 1);
            self.most_at_once.set(self.most_at_once.get().max(self.at_once.get()));
            tokio::time::sleep(self.takes.get()).await;
            self.at_once.set(self.at_once.get() - 1);
            if self.silent.get() == Some(to) {
                let (kind, error) = (std::io::ErrorKind::TimedOut, "timed out".to_owned());
                return Seen::Failed(Failure { stage: Stage::Connect, kind, error });
            }
            Seen::Answer { latency: self.takes.get(), certificate: Certificate::Good }
        }

        /// Watches while `meanwhile` goes on.
        async fn watch(&self, meanwhile: impl Future<Output = ()>) {
            let health = Arc::clone(&self.health);
            let watching =
                keep_looking(health, || self.scene.borrow().clone(), |look| self.look(look));
            tokio::select! {
                () = watching => {}
                () = meanwhile => {}
            }
        }

        fn states(&self) -> Vec<Condition> {
            let name = &target(0).name;
            self.health.of(name, &[]).iter().map(|of| of.state).collect()
        }

        fn asked(&self) -> usize {
            self.asked.borrow().len()
        }
    }

    fn target(number: u8) -> Target {
        Target {
            name: "historian.corp.example".parse().expect("a name"),
            to: (Ipv4Addr::new(10, 20, 0, number), 443).into(),
            offer: Offer::Both,
        }
    }

    fn way(interface: &str) -> Way {
        let interface = InterfaceName::parse(interface).expect("a name");
        Way { interface, index: 7, source: None, mss: 1_360 }
    }

    async fn sleep(time: Duration) {
        tokio::time::sleep(time).await;
    }

    #[tokio::test(start_paused = true)]
    async fn each_is_asked_once_an_interval_and_not_all_at_the_same_time() {
        let stand = Stand::new(40);
        stand.watch(sleep(EVERY * 10)).await;
        for number in 0..40 {
            let asked = stand.asked.borrow();
            let own = asked.iter().filter(|(_, to)| *to == target(number).to);
            let own: Vec<Instant> = own.map(|(at, _)| *at).collect();
            assert!((9..=10).contains(&own.len()), "{}", own.len());
            for pair in own.windows(2) {
                let apart = pair[1] - pair[0];
                assert!((EVERY..EVERY + GLANCE * 2).contains(&apart), "{apart:?}");
            }
        }
        let began = stand.asked.borrow()[0].0;
        let seconds: std::collections::BTreeSet<u64> =
            stand.asked.borrow().iter().map(|(at, _)| (*at - began).as_secs() % 60).collect();
        assert!(seconds.len() > 10, "{seconds:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn never_more_than_eight_side_by_side() {
        let stand = Stand::new(100);
        stand.takes.set(Duration::from_secs(30));
        stand.watch(sleep(EVERY * 5)).await;
        assert_eq!(stand.most_at_once.get(), AT_ONCE);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_is_asked_again_at_once_and_down_when_it_fails_again() {
        let stand = Stand::new(2);
        stand.silent.set(Some(target(1).to));
        stand
            .watch(async {
                sleep(EVERY + GLANCE * 4).await;
                assert_eq!(stand.states(), [Condition::Up, Condition::Down]);
                assert_eq!(stand.health.down().iter().copied().collect::<Vec<_>>(), [target(1).to]);
                stand.silent.set(None);
                sleep(EVERY + GLANCE).await;
                assert_eq!(stand.states(), [Condition::Up, Condition::Up]);
                assert!(stand.health.down().is_empty());
            })
            .await;
        // Twice in the first interval, once in the next.
        let asked = stand.asked.borrow();
        assert_eq!(asked.iter().filter(|(_, to)| *to == target(1).to).count(), 3, "{asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_way_nobody_is_asked_and_one_that_was_left_says_nothing() {
        let stand = Stand::new(1);
        stand.silent.set(Some(target(0).to));
        stand.scene.borrow_mut().way = None;
        stand
            .watch(async {
                sleep(EVERY * 3).await;
                assert_eq!((stand.asked(), stand.states()), (0, vec![Condition::Unknown]));
                // Asked by a tunnel that is not preferred any more when the time is over.
                stand.takes.set(Duration::from_secs(3));
                stand.scene.borrow_mut().way = Some(way("xfrm101"));
                for round in 1..5 {
                    while stand.asked() < round {
                        sleep(GLANCE).await;
                    }
                    let other = if round % 2 == 0 { "xfrm101" } else { "xfrm102" };
                    stand.scene.borrow_mut().way = Some(way(other));
                }
                assert_eq!(stand.states(), [Condition::Unknown]);
                // Now it is the interface.
                sleep(EVERY).await;
                assert_eq!(stand.states(), [Condition::Down]);
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_reload_changes_who_is_asked_and_how_often() {
        let stand = Stand::new(1);
        stand.silent.set(Some(target(0).to));
        stand
            .watch(async {
                sleep(EVERY * 2).await;
                assert_eq!(stand.states(), [Condition::Down]);
                stand.scene.borrow_mut().targets = vec![target(1)];
                stand.scene.borrow_mut().every = Duration::from_secs(2);
                sleep(Duration::from_secs(5)).await;
                assert_eq!(stand.states(), [Condition::Up], "the other is forgotten");
                assert!(stand.health.down().is_empty());
            })
            .await;
    }

    const EVERY: Duration = Duration::from_secs(60);
}
