//! Random flows through one thread's relays: every byte up to the reset, the right end, the right
//! counts, and no descriptor, pipe or byte of memory left over.
//!
//! `SLUICEGATE_FIRE_FLOWS` runs more of them, and `SLUICEGATE_FIRE_SEED` repeats a run: a failure
//! tells its seed.

use std::hash::{BuildHasher, RandomState};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use sluicegate::lab::inside;
use sluicegate::relay::{
    DirectionBytes, Engine, FlowBytes, Legs, Reactor, RelayCounters, RelayEnd, RelayPool,
};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use crate::judge::{Tally, judge};
use crate::peer::{Seen, play, turns};
use crate::plan::{Plan, stock};
use crate::ride::{Ride, Rider};
use crate::sockets::{Pairs, descriptors, reset_on_close, runtime};

/// What became of a flow in the gate.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    /// None when the relay was dropped.
    pub(crate) end: Option<RelayEnd>,
    pub(crate) up: Moved,
    pub(crate) down: Moved,
}

/// Bytes that the relay counted in one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moved {
    pub(crate) copied: u64,
    pub(crate) spliced: u64,
}

/// The pools of the gate's thread: each engine with pipes enough, with few, and with none.
pub(crate) const POOLS: [(Engine, usize); 6] = [
    (Engine::Adaptive, 24),
    (Engine::Splice, 24),
    (Engine::Copy, 24),
    (Engine::Adaptive, 2),
    (Engine::Splice, 2),
    (Engine::Splice, 0),
];

#[test]
fn every_byte_and_every_end_arrives_and_nothing_stays() {
    inside::test("fire::every_byte_and_every_end_arrives_and_nothing_stays", || {
        let seed = number("SLUICEGATE_FIRE_SEED").unwrap_or_else(|| RandomState::new().hash_one(0));
        let flows = number("SLUICEGATE_FIRE_FLOWS").unwrap_or(FLOWS);
        println!("SLUICEGATE_FIRE_SEED={seed} SLUICEGATE_FIRE_FLOWS={flows}");
        // The first runtime leaves a pair of descriptors and some memory to the process.
        drop(runtime());
        let mut run = Run {
            seed,
            stock: Arc::new(stock(seed)),
            pairs: Pairs::new(),
            tally: Tally::default(),
        };
        for batch in 0..flows.div_ceil(BATCH) {
            let first = batch * BATCH;
            run.batch(first..flows.min(first + BATCH), Threads::of(batch));
        }
        println!("{:#?}", run.tally);
        if flows >= FLOWS {
            run.tally.assert_all_was_seen();
        }
    });
}

struct Run {
    seed: u64,
    stock: Arc<Vec<u8>>,
    pairs: Pairs,
    tally: Tally,
}

/// Some flows that are played at the same time.
struct Batch {
    plans: Vec<Plan>,
    stock: Arc<Vec<u8>>,
}

/// The two sockets of each flow, device's and endpoint's; taken when the flow begins.
type Sockets = Vec<Option<[TcpStream; 2]>>;

/// Where the peers live.
#[derive(Clone, Copy, Debug)]
enum Threads {
    /// With the relay: the order of events is nearly the same each time.
    One,
    /// On a thread of their own: events come between any two instructions of the relay.
    Two,
}

impl Threads {
    fn of(batch: u64) -> Self {
        if batch.is_multiple_of(3) { Self::One } else { Self::Two }
    }
}

impl Run {
    /// Plays some flows to their ends and judges them.
    fn batch(&mut self, numbers: std::ops::Range<u64>, threads: Threads) {
        let plans: Vec<_> = numbers.map(|n| Plan::new(self.seed, n, POOLS.len())).collect();
        let before = descriptors().unwrap();
        let (mut gates, mut peers) = self.connect(&plans);
        let mut outcomes = vec![Outcome::default(); plans.len()];
        let mut seen = vec![<[Seen; 2]>::default(); plans.len()];
        let mut counters = [RelayCounters::default(); POOLS.len()];
        let batch = Arc::new(Batch { plans, stock: Arc::clone(&self.stock) });

        let relaying = relay_all(&batch, &mut gates, &mut outcomes, &mut counters);
        let left = match threads {
            Threads::One => allocation_counter::measure(|| {
                let playing = play_all(&batch, &mut peers, &mut seen);
                on_a_runtime(async { tokio::join!(relaying, playing) });
            }),
            Threads::Two => std::thread::scope(|scope| {
                let playing = || on_a_runtime(play_all(&batch, &mut peers, &mut seen));
                let peers = scope.spawn(playing);
                let left = allocation_counter::measure(|| on_a_runtime(relaying));
                peers.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                left
            }),
        };

        let which = format!("SLUICEGATE_FIRE_SEED={}: up to {:?}", self.seed, batch.plans.last());
        assert_eq!((left.count_current, left.bytes_current), (0, 0), "memory is left, {which}");
        assert_eq!(descriptors().unwrap(), before, "descriptors are left, {which}");
        let flows = batch.plans.iter().zip(&outcomes).zip(&seen);
        for ((plan, outcome), seen) in flows {
            let judged = judge(plan, outcome, seen, POOLS[plan.pool].0);
            judged.unwrap_or_else(|wrong| {
                panic!("SLUICEGATE_FIRE_SEED={}: {wrong}: {plan:?} {outcome:?} {seen:?}", self.seed)
            });
            self.tally.add(outcome, seen);
        }
        for (number, counters) in counters.iter().enumerate() {
            let carried = batch.plans.iter().zip(&outcomes).filter(|(plan, _)| plan.pool == number);
            let moved = carried.flat_map(|(_, outcome)| [outcome.up, outcome.down]);
            let (copied, spliced) =
                moved.fold((0, 0), |(copied, spliced), m| (copied + m.copied, spliced + m.spliced));
            assert_eq!((counters.copied, counters.spliced), (copied, spliced), "{which}");
            assert_eq!(counters.pipes_in_use, 0, "{which}");
            self.tally.add_counters(counters);
        }
    }

    fn connect(&mut self, plans: &[Plan]) -> (Sockets, Sockets) {
        let pairs = plans.iter().map(|plan| {
            let (device, gate_device) = self.pairs.pair(plan.device.shape);
            let (endpoint, gate_endpoint) = self.pairs.pair(plan.endpoint.shape);
            (Some([gate_device, gate_endpoint]), Some([device, endpoint]))
        });
        pairs.unzip()
    }
}

/// Relays a batch as a data thread would.
async fn relay_all(
    batch: &Arc<Batch>,
    gates: &mut Sockets,
    outcomes: &mut [Outcome],
    counters: &mut [RelayCounters],
) {
    let reactors =
        POOLS.map(|(engine, pipes)| Reactor::new(RelayPool::new(engine, pipes)).unwrap());
    let running = reactors.clone().map(|reactor| {
        spawn_local(async move { panic!("a reactor ended: {}", reactor.run().await) })
    });
    let permits = Rc::new(Semaphore::new(AT_ONCE));
    let tasks: Vec<_> = (batch.plans.iter().enumerate())
        .map(|(index, plan)| {
            let (batch, permits) = (Arc::clone(batch), Rc::clone(&permits));
            let (reactor, sockets) =
                (Rc::clone(&reactors[plan.pool]), gates[index].take().unwrap());
            spawn_local(async move {
                let _permit = permits.acquire().await.unwrap();
                in_time(relay_one(&batch.plans[index], sockets, &reactor), &batch.plans[index])
                    .await
            })
        })
        .collect();
    for (task, outcome) in tasks.into_iter().zip(outcomes) {
        *outcome = result(task).await;
    }
    for (reactor, counters) in reactors.iter().zip(counters) {
        *counters = reactor.pool().counters();
    }
    running.iter().for_each(JoinHandle::<()>::abort);
}

async fn relay_one(plan: &Plan, sockets: [TcpStream; 2], reactor: &Rc<Reactor<Rider>>) -> Outcome {
    let [device, endpoint] = sockets.map(OwnedFd::from);
    let bytes = Rc::<FlowBytes>::default();
    let mut flow = Ride::of(reactor, Legs { device, endpoint }, &bytes);
    let end = match plan.dropped_after {
        None => Some((&mut flow).await),
        Some(count) => tokio::select! {
            end = &mut flow => Some(end),
            () = turns(count) => None,
        },
    };
    for leg in flow.part().into_iter().flat_map(|legs| [legs.device, legs.endpoint]) {
        reset_on_close(&leg);
    }
    Outcome { end, up: moved(&bytes.up), down: moved(&bytes.down) }
}

/// Plays both peers of each flow of a batch.
async fn play_all(batch: &Arc<Batch>, peers: &mut Sockets, seen: &mut [[Seen; 2]]) {
    let permits = Rc::new(Semaphore::new(AT_ONCE));
    let tasks: Vec<_> = (0..batch.plans.len())
        .map(|index| {
            let (batch, permits) = (Arc::clone(batch), Rc::clone(&permits));
            let [device, endpoint] = peers[index].take().unwrap();
            spawn_local(async move {
                let _permit = permits.acquire().await.unwrap();
                let (plan, stock) = (&batch.plans[index], &batch.stock);
                let both = async {
                    tokio::join!(
                        play(&plan.device, device, stock, &plan.endpoint),
                        play(&plan.endpoint, endpoint, stock, &plan.device),
                    )
                };
                <[Seen; 2]>::from(in_time(both, plan).await)
            })
        })
        .collect();
    for (task, seen) in tasks.into_iter().zip(seen) {
        *seen = result(task).await;
    }
}

fn on_a_runtime(job: impl Future) {
    let local = LocalSet::new();
    runtime().block_on(local.run_until(job));
}

async fn in_time<T>(job: impl Future<Output = T>, plan: &Plan) -> T {
    let limited = tokio::time::timeout(PATIENCE, job).await;
    limited.unwrap_or_else(|_| panic!("hangs: {plan:?}"))
}

async fn result<T>(task: JoinHandle<T>) -> T {
    task.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

fn moved(bytes: &DirectionBytes) -> Moved {
    Moved { copied: bytes.copied.get(), spliced: bytes.spliced.get() }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

const FLOWS: u64 = 20_000;
/// Flows whose sockets are open at once: below 1,024 descriptors with the pipes.
const BATCH: u64 = 160;
/// Flows that are played at once.
const AT_ONCE: usize = 60;
/// For one flow, on a machine as busy as it likes.
const PATIENCE: Duration = Duration::from_secs(60);
