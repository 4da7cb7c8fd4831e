//! One data thread: its listeners, its flows, and the commands that reach it.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::runtime::{LocalOptions, LocalRuntime};
use tokio::sync::{mpsc, oneshot};

use super::carried::{self, Carried, Look};
use super::dial::DialMemory;
use super::dials::Dials;
use super::fingerprints::Fingerprints;
use super::flow;
use super::ja4_cache::Ja4Cache;
use super::leaving::{self, Leaving};
use super::limits::Limits;
use super::returns::{Origin, Returns};
use super::sightings::Sightings;
use super::stats::Stats;
use super::tracker::{Cut, FlowStates, LOOK_AGAIN, Tracker};
use super::{Rules, RulesInForce};
use crate::audit::{Audit, CommonFacts};
use crate::intercept::{Accepting, Listeners};
use crate::net::neighbour::{Lookup, Neighbours};
use crate::net::pulse::Pulses;
use crate::relay::{Engine, Reactor, RelayCounters, RelayPool};

/// How a data thread is set up.
#[derive(Clone, Debug)]
pub struct ThreadOptions {
    /// The rules of new flows.
    pub rules: RulesInForce,
    /// Where flows are recorded.
    pub audit: Audit,
    /// Who devices are.
    pub neighbours: Arc<Neighbours>,
    /// How bytes are moved.
    pub engine: Engine,
    /// How many pipes the thread may hold.
    pub pipes: usize,
    /// How much devices may take.
    pub limits: Arc<Limits>,
    /// Who may dial, and when.
    pub dials: Arc<Dials>,
    /// How devices say hello.
    pub fingerprints: Arc<Fingerprints>,
    /// Which devices come back.
    pub returns: Arc<Returns>,
}

/// What a thread is told.
#[derive(Debug)]
pub enum Command {
    /// Cut the flows that these rules no longer grant.
    Recheck(Arc<Rules>),
    /// Accept nothing more, and end when the flows have, or at the latest after this time.
    Drain(Duration),
    /// This device has opened another flow to this name.
    DeviceReturned(Origin),
    /// These flows are to leave their tunnel.
    Leave(Leaving),
    /// Say how it is.
    Report(oneshot::Sender<ThreadReport>),
}

/// What a data thread says of itself.
#[derive(Clone, Debug, Default)]
pub struct ThreadReport {
    /// What its relays have done.
    pub relay: RelayCounters,
    /// How its flows are.
    pub flows: FlowStates,
    /// What it has seen lately.
    pub sightings: Sightings,
}

impl ThreadReport {
    /// Adds another thread's.
    pub fn add(&mut self, other: &Self) {
        self.relay.add(&other.relay);
        self.flows.add(&other.flows);
        self.sightings.add(&other.sightings);
    }
}

/// Whether a data thread works.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pulse {
    /// It answers.
    Beats,
    /// It takes no more commands: its flows have ended with it.
    Ended,
    /// It is there, and does not answer.
    Stuck,
}

/// A way to ask a data thread, for whoever does not own it.
#[derive(Clone, Debug)]
pub struct ThreadLink {
    commands: mpsc::UnboundedSender<Command>,
    stats: Arc<Stats>,
}

impl ThreadLink {
    /// Its counts.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// How it is now; `None` when it has ended, or is stuck.
    pub async fn report(&self) -> Option<ThreadReport> {
        self.ask(REPORT_PATIENCE).await.ok()
    }

    /// Whether it still does its work; it has so long to answer.
    pub async fn pulse(&self, patience: Duration) -> Pulse {
        match self.ask(patience).await {
            Ok(_) => Pulse::Beats,
            Err(pulse) => pulse,
        }
    }

    async fn ask(&self, patience: Duration) -> Result<ThreadReport, Pulse> {
        let (answer, waits) = oneshot::channel();
        self.commands.send(Command::Report(answer)).map_err(|_| Pulse::Ended)?;
        let answered = tokio::time::timeout(patience, waits).await;
        answered.map_err(|_| Pulse::Stuck)?.map_err(|_| Pulse::Ended)
    }
}

/// A running data thread.
#[derive(Debug)]
pub struct DataThread {
    commands: mpsc::UnboundedSender<Command>,
    stats: Arc<Stats>,
    thread: JoinHandle<()>,
}

/// What the flows of a thread share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) rules: RulesInForce,
    pub(super) audit: Audit,
    pub(super) common: CommonFacts,
    pub(super) neighbours: Arc<Neighbours>,
    pub(super) lookup: Option<Lookup>,
    pub(super) reactor: Rc<Reactor<Carried>>,
    pub(super) stats: Arc<Stats>,
    pub(super) tracker: Rc<Tracker>,
    pub(super) memory: DialMemory,
    /// One read buffer for all hellos of the thread: a silent connection costs no buffer.
    pub(super) scratch: RefCell<Vec<u8>>,
    pub(super) turn: Cell<usize>,
    pub(super) limits: Arc<Limits>,
    pub(super) dials: Arc<Dials>,
    pub(super) fingerprints: Arc<Fingerprints>,
    pub(super) ja4: RefCell<Ja4Cache>,
    /// `None` where the kernel has no socket diagnosis: keepalive alone then finds silent devices.
    pub(super) pulses: Option<Pulses>,
}

impl DataThread {
    /// Starts a thread.
    ///
    /// # Errors
    /// The system refuses another thread.
    pub fn start(index: usize, listeners: Listeners, options: ThreadOptions) -> io::Result<Self> {
        let (commands, inbox) = mpsc::unbounded_channel();
        let stats = Arc::new(Stats::default());
        let counted = Arc::clone(&stats);
        let thread =
            std::thread::Builder::new().name(format!("data-{index}")).spawn(move || {
                pin(index);
                let outcome = runtime()
                    .and_then(|runtime| runtime.block_on(run(listeners, options, counted, inbox)));
                if let Err(error) = outcome {
                    tracing::error!(thread = index, %error, "a data thread could not work");
                }
            })?;
        Ok(Self { commands, stats, thread })
    }

    /// Its counts.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// A way to ask it.
    pub fn link(&self) -> ThreadLink {
        ThreadLink { commands: self.commands.clone(), stats: Arc::clone(&self.stats) }
    }

    /// Whether it works no more, though nobody has told it to end.
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Tells the thread something; a thread that has ended hears nothing.
    pub fn tell(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    /// Where its commands go, for whoever has something to say while another waits in
    /// [`Self::join`].
    pub fn orders(&self) -> mpsc::UnboundedSender<Command> {
        self.commands.clone()
    }

    /// Waits for the thread's end, which somebody has asked for with [`Command::Drain`].
    pub fn join(self) {
        // The commands stay open until then: closed ones mean that nobody is left who could wait,
        // and the thread would cut its flows instead of letting them end.
        let Self { commands, thread, stats: _ } = self;
        if thread.join().is_err() {
            tracing::error!("a data thread panicked");
        }
        drop(commands);
    }
}

/// Keeps the calling thread on one of the cores that the process may use, so that its flows stay in that
/// core's caches. With more threads than cores, or where the system does not let it, it stays free.
fn pin(index: usize) {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
    let Ok(allowed) = sched_getaffinity(None) else { return };
    let core = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).nth(index);
    let Some(core) = core else { return };
    let mut one = CpuSet::new();
    one.set(core);
    if let Err(error) = sched_setaffinity(None, &one) {
        tracing::warn!(%error, "cannot keep a data thread on its core");
    }
}

/// A runtime for tasks of this thread alone. It is made on the thread: it cannot change it.
fn runtime() -> io::Result<LocalRuntime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default())
}

async fn run(
    listeners: Listeners,
    options: ThreadOptions,
    stats: Arc<Stats>,
    mut inbox: mpsc::UnboundedReceiver<Command>,
) -> io::Result<()> {
    let accepting = listeners.register()?;
    let shared = Rc::new(Shared {
        rules: options.rules,
        audit: options.audit,
        common: CommonFacts::default(),
        neighbours: options.neighbours,
        lookup: Lookup::open().ok(),
        reactor: Reactor::new(RelayPool::new(options.engine, options.pipes))?,
        stats,
        tracker: Tracker::new(options.returns),
        memory: DialMemory::default(),
        scratch: RefCell::new(vec![0; SCRATCH]),
        turn: Cell::new(0),
        limits: options.limits,
        dials: options.dials,
        fingerprints: options.fingerprints,
        ja4: RefCell::default(),
        pulses: Pulses::open().ok(),
    });
    tokio::task::spawn_local(sweep(Rc::clone(&shared)));
    let relaying = Rc::clone(&shared.reactor);
    let mut relaying = pin!(tokio::task::spawn_local(async move { relaying.run().await }));
    let patience = loop {
        tokio::select! {
            // Nothing moves any more, and nothing could.
            failed = &mut relaying => return Err(failed.unwrap_or_else(io::Error::other)),
            command = inbox.recv() => match command {
                Some(Command::Recheck(rules)) => recheck(&shared, &rules),
                Some(Command::Report(answer)) => report(&shared, answer),
                Some(Command::DeviceReturned(origin)) => look(&shared, origin),
                Some(Command::Leave(leaving)) => {
                    tokio::task::spawn_local(leaving::leave(Rc::clone(&shared), leaving));
                }
                Some(Command::Drain(patience)) => break patience,
                None => break Duration::ZERO,
            },
            () = accept(&shared, &accepting) => {}
        }
    };
    for intercepted in accepting.close() {
        flow::turn_away(&shared, intercepted);
    }
    drain(&shared, patience, &mut inbox).await;
    Ok(())
}

async fn accept(shared: &Rc<Shared>, accepting: &Accepting) {
    match accepting.accept().await {
        Ok(intercepted) => flow::begin(shared, intercepted),
        Err(error) => {
            // EMFILE and the like pass when flows end; ECONNABORTED at once.
            if error.kind() != io::ErrorKind::ConnectionAborted {
                tracing::warn!(%error, "cannot accept a device's connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Has every connected flow record what it has moved, once in `audit.report-every`: a part of the flows
/// at a time, so that there is no timer for each and no moment at which all of them report.
async fn sweep(shared: Rc<Shared>) {
    for part in (0..SWEEPS).cycle() {
        let every = shared.rules.now().site.audit.report_every;
        tokio::time::sleep(every / u32::try_from(SWEEPS).unwrap_or(1)).await;
        shared.reactor.each(part, SWEEPS, |carried| carried.report());
    }
}

fn report(shared: &Shared, answer: oneshot::Sender<ThreadReport>) {
    let mut report = ThreadReport {
        relay: shared.reactor.pool().counters(),
        flows: FlowStates::default(),
        sightings: shared.tracker.sightings(|seen| seen.clone()),
    };
    shared.tracker.count(&mut report.flows);
    report.flows.half_closed = report.relay.half_closed;
    // Who asked may not want to know any more.
    let _ = answer.send(report);
}

/// Has flows of one device and name look after it, and those that probe it look again.
fn look(shared: &Rc<Shared>, origin: Origin) {
    let probed: Vec<_> = shared.tracker.device_returned(origin);
    for key in probed {
        carried::look(shared, key, Look::First);
        let shared = Rc::clone(shared);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(LOOK_AGAIN).await;
            carried::look(&shared, key, Look::Again);
        });
    }
}

fn recheck(shared: &Shared, rules: &Rules) {
    let (flows, relayed) = shared.tracker.cut_withdrawn(rules, OffsetDateTime::now_utc());
    carried::cut(shared, relayed, Cut::Withdrawn);
    if flows > 0 {
        tracing::info!(flows, "cut flows whose permission is withdrawn");
    }
}

async fn drain(shared: &Shared, patience: Duration, inbox: &mut mpsc::UnboundedReceiver<Command>) {
    let deadline = tokio::time::sleep(patience);
    tokio::pin!(deadline);
    loop {
        tokio::select! {
            () = shared.tracker.emptied() => return,
            () = &mut deadline => break,
            // A second request is an order to hurry.
            command = inbox.recv() => match command {
                Some(Command::Recheck(rules)) => recheck(shared, &rules),
                Some(Command::Report(answer)) => report(shared, answer),
                Some(Command::DeviceReturned(_) | Command::Leave(_)) => {}
                Some(Command::Drain(_)) | None => break,
            },
        }
    }
    carried::cut(shared, shared.tracker.cut_all(Cut::Drained), Cut::Drained);
    shared.tracker.emptied().await;
}

/// In how many parts flows report.
const SWEEPS: usize = 60;
const SCRATCH: usize = 16 * 1024;
/// A thread that is busy for longer serves no device either.
const REPORT_PATIENCE: Duration = Duration::from_secs(2);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
