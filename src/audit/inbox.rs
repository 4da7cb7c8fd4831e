//! What data threads and the writer share: the queue, the slots, and how the log is doing.
//!
//! A slot is room for one flow's records. Nothing is queued without one, so the queue is bounded by
//! the slots, pushing never waits, and no record is lost for want of room.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use uuid::Uuid;

use super::chain::{Head, Hex};
use super::clock;
use super::count::Unrecorded;
use super::errands::Errands;
use super::keys::NextKey;
use super::kind;
use super::lag::Lag;
use super::{AuditStatus, AuditUnavailable};

/// Resolves when an Open is on disk, or cannot be brought there.
pub(super) type Waiter = oneshot::Sender<Result<(), AuditUnavailable>>;

/// A record on its way to the disk.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) flow: Uuid,
    /// From `record::body`.
    pub(super) body: Vec<u8>,
    pub(super) part: Part,
}

impl Entry {
    /// A signed record of the box's own.
    pub(super) fn system(body: Vec<u8>) -> Self {
        Self { flow: Uuid::nil(), body, part: Part::System }
    }
}

/// Which part of a flow's story a record tells.
#[derive(Debug)]
pub(super) enum Part {
    /// An Open that somebody waits for.
    Open(Waiter),
    /// An Open that nobody waits for any more: its waiter was told that it failed.
    LateOpen,
    /// An end that gives the flow's slot back.
    End,
    /// A refusal; it gives the slot back, too.
    Refusal,
    /// A record without a slot: ends found after a crash, counts, what long flows moved.
    Extra,
    /// A signed record of the box's own; without a slot.
    System,
    /// The same, and somebody waits for it.
    Awaited(Waiter),
    /// The record that introduces a key: the last line that the key before it signs.
    Key(Box<NextKey>),
}

/// What data threads and the writer share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) site: String,
    pub(super) region: String,
    pub(super) directory: PathBuf,
    queue: Mutex<Queue>,
    wake: Condvar,
    /// What the writer and the keeper tell each other.
    pub(super) keeper: Errands,
    slots: usize,
    free: AtomicUsize,
    /// Mirrors `health.refusal()`, so that `reserve` takes no lock.
    refusing: AtomicBool,
    health: Mutex<Health>,
    /// Whether the wall clock follows a time server, as it was at the last checkpoint.
    synchronised: AtomicBool,
}

#[derive(Debug, Default)]
struct Queue {
    entries: Vec<Entry>,
    /// Somebody waits for one of the entries, or room is short.
    urgent: bool,
    unrecorded: Option<Unrecorded>,
    state: State,
    writer: Attention,
    /// There may be room on the disk again.
    poked: bool,
    lag: Lag,
    /// Flows that were refused because they could not be recorded.
    unrecorded_total: u64,
    /// Records that were taken and never written.
    lost: u64,
}

impl Queue {
    /// Gives the writer what there is.
    fn give(&mut self, into: &mut Vec<Entry>) {
        self.lag.given(self.entries.len());
        into.append(&mut self.entries);
    }
}

/// What the writer is at, so that nobody calls it in vain: under load that is a system call and two
/// context switches for every record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Attention {
    /// It writes, and takes what there is before it waits.
    #[default]
    Busy,
    /// It waits for something urgent, and looks by itself before long.
    Lingers,
    /// It waits for anything.
    Asleep,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// The writer takes what is there, and then no more.
    Closing,
    Closed,
}

#[derive(Debug)]
struct Health {
    head: Head,
    failure: Option<String>,
    /// The failure is that there is no room.
    full: bool,
    /// The disk is nearly full: what room there is belongs to flows that have a slot.
    short: bool,
    /// The quota, where it is reached.
    over_quota: Option<u64>,
    closed: bool,
}

impl Health {
    /// Why new flows are refused, where they are.
    fn refusal(&self, directory: &Path) -> Option<String> {
        let directory = directory.display();
        if self.failure.is_some() {
            return self.failure.clone();
        }
        if self.closed {
            return Some(CLOSED.to_owned());
        }
        if self.short {
            return Some(no_room(&directory));
        }
        let quota = self.over_quota?;
        Some(format!(
            "the audit log in {directory} has reached its quota of {quota} bytes; raise \
             audit.quota, or let it delete records with audit.retain or audit.on-full"
        ))
    }
}

/// What is said of a disk without room.
fn no_room(directory: &dyn std::fmt::Display) -> String {
    format!("no space is left for the audit log in {directory}; make room there")
}

/// How long what nobody waits for may lie.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Refusals without a record.
    pub(super) gather: Duration,
    /// Ends.
    pub(super) linger: Duration,
}

/// What the writer has to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// There may be something to write.
    More,
    /// There may be room on the disk again.
    Room,
    /// This was the last.
    Last,
}

impl Shared {
    pub(super) fn new(options: &super::AuditOptions, head: Head) -> Self {
        Self {
            site: options.site.clone(),
            region: options.region.clone(),
            directory: options.directory.clone(),
            queue: Mutex::default(),
            wake: Condvar::new(),
            keeper: Errands::new(options.retention),
            slots: options.slots,
            free: AtomicUsize::new(options.slots),
            refusing: AtomicBool::new(false),
            health: Mutex::new(Health {
                head,
                failure: None,
                full: false,
                short: false,
                over_quota: None,
                closed: false,
            }),
            synchronised: AtomicBool::new(clock::is_synchronised()),
        }
    }

    /// What records say of the wall clock (`unmapped.egress.clock`).
    pub(super) fn clock(&self) -> &'static str {
        let synchronised = self.synchronised.load(Ordering::Relaxed);
        if synchronised { kind::CLOCK_NTP } else { kind::CLOCK_UNKNOWN }
    }

    /// Looks at the wall clock anew; whether it follows a time server.
    pub(super) fn look_at_clock(&self) -> bool {
        let synchronised = clock::is_synchronised();
        self.synchronised.store(synchronised, Ordering::Relaxed);
        synchronised
    }

    /// Whether there is no room now for anything but what has a slot.
    pub(super) fn is_refusing(&self) -> bool {
        self.refusing.load(Ordering::Acquire)
    }

    /// Takes a slot.
    pub(super) fn take_slot(&self) -> Result<(), AuditUnavailable> {
        if self.is_refusing() {
            return Err(self.unavailable());
        }
        let taken =
            self.free.fetch_update(Ordering::AcqRel, Ordering::Acquire, |free| free.checked_sub(1));
        match taken {
            Ok(_) => Ok(()),
            Err(_) => Err(AuditUnavailable(format!(
                "all {} places for flows' records are taken",
                self.slots
            ))),
        }
    }

    /// Gives slots back.
    pub(super) fn free_slots(&self, count: usize) {
        self.free.fetch_add(count, Ordering::AcqRel);
    }

    /// Why no new flow can be recorded.
    pub(super) fn unavailable(&self) -> AuditUnavailable {
        let refusal = lock(&self.health).refusal(&self.directory);
        AuditUnavailable(refusal.unwrap_or_else(|| CLOSED.to_owned()))
    }

    /// Queues a signed record of the box's own; resolves when it is durable, or when it waits because
    /// the log cannot be written. The sender is dropped when the log is closed.
    pub(super) fn record(&self, body: Vec<u8>) -> oneshot::Receiver<Result<(), AuditUnavailable>> {
        let (waiter, recorded) = oneshot::channel();
        self.push(Entry { flow: Uuid::nil(), body, part: Part::Awaited(waiter) });
        recorded
    }

    /// Lets the writer look for room on the disk at once.
    pub(super) fn poke(&self) {
        lock(&self.queue).poked = true;
        self.wake.notify_one();
    }

    /// Sequence number up to which every sink has taken the records; there is no sink yet.
    pub(super) fn shipped(&self) -> u64 {
        0
    }

    /// Queues a record. Never waits for the disk.
    pub(super) fn push(&self, entry: Entry) {
        let mut queue = lock(&self.queue);
        if queue.state == State::Closed {
            drop(queue);
            if matches!(entry.part, Part::End | Part::Refusal) {
                self.free_slots(1);
                tracing::error!(flow = %entry.flow, "A flow ended after the audit log was closed; \
                    the next start records its end.");
            }
            return;
        }
        // Nobody waits for these; but an end holds its slot until it is durable.
        let scarce = self.free.load(Ordering::Relaxed) < self.slots / SCARCE_PART;
        let unawaited = matches!(entry.part, Part::End | Part::Refusal | Part::Extra);
        let urgent = scarce || !unawaited;
        queue.lag.queued();
        queue.entries.push(entry);
        queue.urgent |= urgent;
        self.call(queue, urgent.then_some(Attention::Lingers));
    }

    /// Calls the writer when it is asleep, or does this.
    fn call(&self, mut queue: MutexGuard<'_, Queue>, or: Option<Attention>) {
        if queue.writer == Attention::Asleep || Some(queue.writer) == or {
            queue.writer = Attention::Busy;
            drop(queue);
            self.wake.notify_one();
        }
    }

    /// Counts a flow that was refused without a slot.
    pub(super) fn count_unrecorded(&self, now: u64) {
        let mut queue = lock(&self.queue);
        let one = Unrecorded { count: 1, first: now, last: now, since: Instant::now() };
        queue.unrecorded = Unrecorded::merge(queue.unrecorded, Some(one));
        queue.unrecorded_total = queue.unrecorded_total.saturating_add(1);
        self.call(queue, None);
    }

    /// Waits for records, for `patience.gather` to pass since the first uncounted refusal, for
    /// `deadline`, or for the end; then moves what is there to `into`. Records that nobody waits for
    /// may lie for `patience.linger`, so that they share a sync with the next Open.
    pub(super) fn wait(
        &self,
        into: &mut Vec<Entry>,
        counted: &mut Option<Unrecorded>,
        patience: Patience,
        deadline: Instant,
    ) -> Work {
        let Patience { gather, linger } = patience;
        let mut queue = lock(&self.queue);
        let mut look_at = Instant::now() + linger;
        let mut slept = false;
        loop {
            let now = Instant::now();
            let counts = queue.unrecorded.as_ref().map(|counted| counted.since + gather);
            let due = counts.map_or(deadline, |counts| counts.min(deadline));
            let closing = queue.state != State::Open;
            if std::mem::take(&mut queue.poked) && !closing {
                queue.give(into);
                queue.urgent = false;
                queue.writer = Attention::Busy;
                return Work::Room;
            }
            let lay = look_at <= now && !slept && !queue.entries.is_empty();
            if queue.urgent || lay || closing || due <= now {
                queue.give(into);
                queue.urgent = false;
                queue.writer = Attention::Busy;
                if closing || counts.is_some_and(|due| due <= now) {
                    *counted = Unrecorded::merge(*counted, queue.unrecorded.take());
                }
                return if closing { Work::Last } else { Work::More };
            }
            if !queue.entries.is_empty() && slept {
                slept = false;
                look_at = now + linger;
            }
            slept |= look_at <= now;
            queue.writer = if slept { Attention::Asleep } else { Attention::Lingers };
            let until = if slept { due } else { due.min(look_at) };
            let wait = self.wake.wait_timeout(queue, until.saturating_duration_since(now));
            queue = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Counted refusals that wait, whether or not they are due.
    pub(super) fn take_unrecorded(&self) -> Option<Unrecorded> {
        lock(&self.queue).unrecorded.take()
    }

    /// Asks the writer to finish.
    pub(super) fn begin_close(&self) {
        let mut queue = lock(&self.queue);
        if queue.state == State::Open {
            queue.state = State::Closing;
        }
        drop(queue);
        self.wake.notify_one();
    }

    /// Takes what came in while the writer wrote its last batch. When that is nothing, the queue is
    /// closed: whoever comes later is told so.
    pub(super) fn end_close(&self, into: &mut Vec<Entry>) {
        let mut queue = lock(&self.queue);
        queue.give(into);
        if into.is_empty() {
            queue.state = State::Closed;
            self.change(|health| health.closed = true);
        }
    }

    /// Closes the queue whatever is in it; waiters learn it from their dropped channel.
    pub(super) fn abandon(&self) {
        let mut queue = lock(&self.queue);
        queue.state = State::Closed;
        let lost = queue.lag.taken().saturating_add(queue.entries.len());
        queue.lost = queue.lost.saturating_add(u64::try_from(lost).unwrap_or(u64::MAX));
        queue.entries.clear();
        self.change(|health| health.closed = true);
    }

    /// A batch is durable, and so many records that the writer took are left.
    pub(super) fn wrote(&self, head: &Head, left: usize) {
        lock(&self.queue).lag.wrote(left);
        let mut healed = false;
        self.change(|health| {
            health.head = head.clone();
            healed = health.failure.take().is_some();
            health.full = false;
        });
        if healed {
            tracing::info!(seq = head.seq, "The audit log can be written again.");
        }
    }

    /// Whether the disk is nearly full.
    pub(super) fn set_short(&self, short: bool) {
        self.change(|health| health.short = short);
    }

    /// The quota, when it is reached.
    pub(super) fn set_over_quota(&self, quota: Option<u64>) {
        self.change(|health| health.over_quota = quota);
    }

    /// Nothing can be written, and more room would not help.
    pub(super) fn is_broken(&self) -> bool {
        let health = lock(&self.health);
        health.failure.is_some() && !health.full
    }

    /// New flows are refused for want of room, though records can be written.
    pub(super) fn is_tight(&self) -> bool {
        let health = lock(&self.health);
        health.short || health.over_quota.is_some()
    }

    fn change(&self, change: impl FnOnce(&mut Health)) {
        let mut health = lock(&self.health);
        change(&mut health);
        let refuses = health.failure.is_some()
            || health.closed
            || health.short
            || health.over_quota.is_some();
        if !self.refusing.swap(refuses, Ordering::AcqRel)
            && let Some(refusal) = health.refusal(&self.directory).filter(|_| !health.closed)
        {
            tracing::error!(refusal, "New flows are refused: they could not be recorded.");
        }
    }

    /// Nothing can be written, for this reason.
    pub(super) fn failed(&self, failure: String) {
        self.change(|health| {
            health.failure = Some(failure);
            health.full = false;
        });
    }

    /// Nothing can be written, because there is no room.
    pub(super) fn failed_full(&self) {
        let failure = no_room(&self.directory.display());
        self.change(|health| {
            health.failure = Some(failure);
            health.full = true;
        });
    }

    pub(super) fn status(&self) -> AuditStatus {
        let queue = lock(&self.queue);
        let waiting = queue.lag.taken().saturating_add(queue.entries.len());
        let lag_seconds = queue.lag.longest().as_secs_f64();
        let (unrecorded_total, lost_total) = (queue.unrecorded_total, queue.lost);
        drop(queue);
        let health = lock(&self.health);
        let no_slot = self.free.load(Ordering::Acquire) == 0;
        let usage = self.keeper.usage();
        let tight = health.short || health.over_quota.is_some();
        AuditStatus {
            seq: health.head.seq,
            head: Hex(&health.head.hash).to_string(),
            unshipped: health.head.seq.saturating_sub(self.shipped()),
            full: health.full || tight || no_slot,
            failure: health.failure.clone(),
            directory: self.directory.clone(),
            used_bytes: usage.bytes,
            quota_bytes: self.keeper.retention().quota,
            oldest: usage.oldest.and_then(clock::rfc3339),
            waiting: u64::try_from(waiting).unwrap_or(u64::MAX),
            lag_seconds,
            unrecorded_total,
            lost_total,
        }
    }
}

/// A panic of another thread leaves plain data behind, which stays usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends are written at once while less than this part of the slots is free.
const SCARCE_PART: usize = 8;
const CLOSED: &str = "the audit log is closed";
