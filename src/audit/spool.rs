//! The writer: one thread that takes all that waits, writes it once, syncs it once and wakes the
//! waiters (group commit).
//!
//! Only the writer knows the head of the chain, and the head moves only when a batch is durable. A
//! write or sync that failed is never tried again on the same file, because the kernel may have
//! dropped the pages and said so only once: the batch is written again, byte for byte, to a new
//! segment. When that fails too, the log is failing: Opens that wait are told so, ends stay in
//! memory, and a new segment is tried at intervals.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::chain::Head;
use super::inbox::{Entry, Part, Patience, Shared, Unrecorded, Work};
use super::journal::Journal;
use super::read::SegmentName;
use super::storage::{self, SegmentFile, Storage};
use super::{clock, count, record};

/// The sizes and times of the writer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tuning {
    /// A segment is not continued beyond this.
    pub(super) segment_bytes: u64,
    /// A segment is not continued after this.
    pub(super) segment_age: Duration,
    /// Between two attempts while the log is failing.
    pub(super) retry: Duration,
    /// How long refusals without a record are counted before the count is recorded.
    pub(super) gather: Duration,
    /// How long an end may wait for an Open to share its sync with.
    pub(super) linger: Duration,
    /// Between the beginnings of two batches while many flows wait for each.
    pub(super) pace: Duration,
    /// A batch is not filled beyond this.
    pub(super) batch_bytes: usize,
    /// Between two checkpoints, in time.
    pub(super) checkpoint_every: Duration,
    /// Between two checkpoints, in lines.
    pub(super) checkpoint_lines: u64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            segment_age: Duration::from_hours(1),
            retry: Duration::from_secs(1),
            gather: Duration::from_secs(1),
            linger: Duration::from_millis(10),
            pace: Duration::from_millis(1),
            batch_bytes: 4 << 20,
            checkpoint_every: Duration::from_secs(60),
            checkpoint_lines: 1000,
        }
    }
}

/// A segment that is being written.
#[derive(Debug)]
pub(super) struct Segment<F> {
    pub(super) file: F,
    pub(super) path: PathBuf,
    /// Bytes that are durable.
    pub(super) len: u64,
    /// When it was begun.
    pub(super) since: Instant,
}

/// The writer's state; see the module.
pub(super) struct Writer<S: Storage> {
    shared: Arc<Shared>,
    storage: S,
    tuning: Tuning,
    chain: String,
    journal: Journal,
    head: Head,
    segment: Option<Segment<S::File>>,
    inbox: Vec<Entry>,
    pending: VecDeque<Entry>,
    /// Opens whose waiter was told that they failed. Each waits for its flow's end: a refusal
    /// makes it void, anything else proves that the flow went on, and both are written.
    held: HashMap<Uuid, Vec<u8>>,
    /// Flows whose Open is durable and whose end is not.
    open: HashSet<Uuid>,
    counted: Option<Unrecorded>,
    buffer: Vec<u8>,
    retry_at: Option<Instant>,
    /// How many waited for the last batch.
    waiters: usize,
    /// A checkpoint has to be written, whatever else there is.
    checkpoint: bool,
    /// The directory is this process's as long as this is open.
    _lock: File,
}

impl<S: Storage> Writer<S> {
    pub(super) fn new(
        shared: Arc<Shared>,
        storage: S,
        tuning: Tuning,
        chain: String,
        journal: Journal,
        head: Head,
        segment: Option<Segment<S::File>>,
        lock: File,
    ) -> Self {
        Self {
            shared,
            storage,
            tuning,
            chain,
            journal,
            head,
            segment,
            inbox: Vec::new(),
            pending: VecDeque::new(),
            held: HashMap::new(),
            open: HashSet::new(),
            counted: None,
            buffer: Vec::new(),
            retry_at: None,
            waiters: 0,
            checkpoint: false,
            _lock: lock,
        }
    }

    /// What data threads share with it.
    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Writes what a start has to say. When it cannot be written, it stays in memory and the log is
    /// failing.
    pub(super) fn write_first(&mut self, entries: Vec<Entry>) {
        self.pending.extend(entries);
        self.checkpoint = true;
        self.commit();
    }

    /// The thread: until the log is closed.
    pub(super) fn run(mut self) {
        let guard = Abandon(Arc::clone(&self.shared));
        let patience = Patience { gather: self.tuning.gather, linger: self.tuning.linger };
        let mut began = Instant::now();
        loop {
            // Each batch costs a sync and wakes every data thread. Where flows come in crowds, more
            // of them share one; a flow that comes alone never waits for others.
            if self.waiters >= CROWD {
                std::thread::sleep(self.tuning.pace.saturating_sub(began.elapsed()));
            }
            let due = self.retry_at.unwrap_or_else(|| self.journal.due_at());
            let work = self.shared.wait(&mut self.inbox, &mut self.counted, patience, due);
            began = Instant::now();
            self.admit_all();
            self.step(work == Work::Last);
            if work == Work::Last {
                self.shared.end_close(&mut self.inbox);
                if self.inbox.is_empty() || self.retry_at.is_some() {
                    break;
                }
            }
        }
        self.finish();
        drop(self);
        drop(guard);
    }

    fn step(&mut self, last: bool) {
        match self.retry_at {
            None => {
                self.change_key();
                self.commit();
            }
            Some(at) => {
                self.refuse_opens();
                if last || Instant::now() >= at {
                    self.heal();
                }
            }
        }
    }

    /// Begins to change the key, when its day is over.
    fn change_key(&mut self) {
        let waits = self.pending.iter().any(|entry| matches!(entry.part, Part::Key(_)));
        if waits {
            return;
        }
        self.commit();
        if self.retry_at.is_some() {
            return;
        }
        if let Some((next, body)) = self.journal.new_key(&self.head) {
            let part = Part::Key(Box::new(next));
            self.pending.push_back(Entry { flow: Uuid::nil(), body, part });
        }
    }

    fn admit_all(&mut self) {
        let mut inbox = std::mem::take(&mut self.inbox);
        for entry in inbox.drain(..) {
            self.admit(entry);
        }
        self.inbox = inbox;
    }

    fn admit(&mut self, entry: Entry) {
        let held = if self.held.is_empty() { None } else { self.held.remove(&entry.flow) };
        if let Some(body) = held
            && matches!(entry.part, Part::End)
        {
            self.pending.push_back(Entry { flow: entry.flow, body, part: Part::LateOpen });
        }
        self.pending.push_back(entry);
    }

    fn refuse_opens(&mut self) {
        let failure = self.shared.unavailable();
        for entry in std::mem::take(&mut self.pending) {
            match entry.part {
                Part::Open(waiter) => {
                    self.held.insert(entry.flow, entry.body);
                    // The waiter may be gone: its flow was dropped, and its end is on the way.
                    let _ = waiter.send(Err(failure.clone()));
                }
                _ => self.admit(entry),
            }
        }
    }

    fn commit(&mut self) {
        self.checkpoint |= Instant::now() >= self.journal.due_at();
        while !self.pending.is_empty() || self.counted.is_some() || self.checkpoint {
            if let Err(error) = self.write_batch() {
                return self.fail(&error);
            }
        }
    }

    fn write_batch(&mut self) -> io::Result<()> {
        let batch = self.fill();
        self.write_out()?;
        let Batch { head, taken, since, checkpoint, logged, full, .. } = batch;
        self.head = head;
        self.counted = None;
        self.checkpoint = false;
        self.retry_at = None;
        self.shared.wrote(&self.head);
        let checkpoint = checkpoint.and_then(|line| self.buffer.get(line));
        self.journal.wrote(since, checkpoint, logged);
        self.settle(taken);
        if full {
            self.segment = None;
        }
        Ok(())
    }

    /// Serialises the next batch into the buffer.
    fn fill(&mut self) -> Batch {
        self.buffer.clear();
        let mut batch = Batch::behind(&self.head, self.journal.since());
        if let Some(step) = self.journal.clock_step(batch.logged) {
            self.append(&mut batch, &step, Seal::Signed);
        }
        let body = self.counted.map(|counted| count::unrecorded(&self.shared, counted));
        if let Some(body) = body {
            self.append(&mut batch, &body, Seal::Plain);
        }
        let pending = std::mem::take(&mut self.pending);
        let mut new_key = false;
        for entry in &pending {
            if self.buffer.len() >= self.tuning.batch_bytes || new_key {
                break;
            }
            new_key = matches!(entry.part, Part::Key(_));
            let signed = new_key || matches!(entry.part, Part::System);
            self.append(&mut batch, &entry.body, if signed { Seal::Signed } else { Seal::Plain });
            batch.taken += 1;
            if batch.since >= self.tuning.checkpoint_lines && !new_key {
                self.append_checkpoint(&mut batch);
            }
        }
        self.pending = pending;
        batch.full = self.segment.as_ref().is_some_and(|segment| {
            segment.len.saturating_add(self.buffer.len() as u64) >= self.tuning.segment_bytes
                || segment.since.elapsed() >= self.tuning.segment_age
        });
        // Behind a new key nothing may be signed with the old one any more.
        let due = self.checkpoint && batch.checkpoint.is_none();
        if (due || (self.checkpoint || batch.full) && batch.since > 0) && !new_key {
            self.append_checkpoint(&mut batch);
        }
        batch
    }

    fn append_checkpoint(&mut self, batch: &mut Batch) {
        let body = self.journal.checkpoint(&batch.head, batch.since);
        let start = self.append(batch, &body, Seal::Signed);
        batch.checkpoint = Some(start..self.buffer.len().saturating_sub(1));
        batch.since = 0;
    }

    /// Appends a line to the buffer; returns where it begins.
    fn append(&mut self, batch: &mut Batch, body: &[u8], seal: Seal) -> usize {
        let link = batch.head.next();
        let key = (seal == Seal::Signed).then(|| self.journal.key());
        let out = &mut self.buffer;
        let start = record::append_line(out, body, &self.chain, &link, batch.logged, key);
        batch.head = Head::of(link.seq, out.get(start..).unwrap_or_default());
        batch.since = batch.since.saturating_add(1);
        out.push(b'\n');
        start
    }

    fn write_out(&mut self) -> io::Result<()> {
        if let Some(mut segment) = self.segment.take() {
            match write(&mut segment, &self.buffer) {
                Ok(()) => {
                    self.segment = Some(segment);
                    return Ok(());
                }
                Err(error) => {
                    let path = segment.path.display().to_string();
                    tracing::warn!(path, %error, "A segment of the audit log could not be \
                        written; going on in a new one.");
                    self.give_up(segment);
                }
            }
        }
        let mut segment = self.create()?;
        match write(&mut segment, &self.buffer) {
            Ok(()) => {
                self.segment = Some(segment);
                Ok(())
            }
            Err(error) => {
                self.give_up(segment);
                Err(error)
            }
        }
    }

    fn create(&self) -> io::Result<Segment<S::File>> {
        let path = SegmentName::new(&self.shared.directory, self.head.seq + 1).path;
        let file = match self.storage.create(&path) {
            // Nothing from this sequence number on is durable, so what has this name is an earlier
            // attempt that could not be removed, or a file that was put there.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                storage::move_aside(&path)?;
                self.storage.create(&path)?
            }
            other => other?,
        };
        Ok(Segment { file, path, len: 0, since: Instant::now() })
    }

    /// Takes back what a failed batch left behind. When that fails as well, readers leave it out:
    /// the next segment's name says where this one ends.
    fn give_up(&self, mut segment: Segment<S::File>) {
        let _ = if segment.len == 0 {
            self.storage.remove(&segment.path)
        } else {
            segment.file.cut(segment.len)
        };
    }

    fn settle(&mut self, taken: usize) {
        let mut freed = 0;
        self.waiters = 0;
        for entry in self.pending.drain(..taken) {
            match entry.part {
                Part::Open(waiter) => {
                    self.open.insert(entry.flow);
                    self.waiters += 1;
                    // The waiter may be gone: a flow that was dropped while it waited.
                    let _ = waiter.send(Ok(()));
                }
                Part::LateOpen => {
                    self.open.insert(entry.flow);
                }
                Part::End | Part::Refusal => {
                    self.open.remove(&entry.flow);
                    freed += 1;
                }
                Part::Extra | Part::System => {}
                Part::Key(next) => self.journal.adopt(*next, self.head.seq),
            }
        }
        self.shared.free_slots(freed);
    }

    fn fail(&mut self, error: &io::Error) {
        let directory = self.shared.directory.display();
        let full =
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let failure = if full {
            format!("no space is left for the audit log in {directory}; make room there")
        } else {
            format!("the audit log in {directory} cannot be written: {error}; check the disk")
        };
        self.shared.failed(failure, full);
        self.retry_at = Some(Instant::now() + self.tuning.retry);
        self.refuse_opens();
    }

    fn heal(&mut self) {
        self.counted = Unrecorded::merge(self.counted, self.shared.take_unrecorded());
        let attempt = self.create().and_then(|mut segment| {
            match segment.file.reserve(0, HEADROOM).and_then(|()| segment.file.sync()) {
                Ok(()) => Ok(segment),
                Err(error) => {
                    self.give_up(segment);
                    Err(error)
                }
            }
        });
        match attempt {
            Err(error) => self.fail(&error),
            Ok(segment) => {
                self.segment = Some(segment);
                self.retry_at = None;
                if self.pending.is_empty() && self.counted.is_none() {
                    self.shared.wrote(&self.head);
                } else {
                    self.commit();
                }
            }
        }
    }

    fn finish(&mut self) {
        if self.retry_at.is_none() {
            self.pending.push_back(Entry::system(self.journal.stop()));
            self.checkpoint = true;
            self.commit();
        }
        if let Some(counted) = self.counted {
            tracing::error!(
                count = counted.count,
                "Refused flows were not recorded: the audit \
                log could not be written before the end."
            );
        }
        if self.open.is_empty() && self.retry_at.is_none() {
            let path = self.shared.directory.join(SETTLED);
            let content = format!("{}\n", self.head.seq);
            if let Err(error) = storage::replace(&path, content.as_bytes()) {
                tracing::warn!(%error, "The clean end of the audit log could not be noted; the \
                    next start reads more of it.");
            }
        }
    }
}

/// What is in the buffer.
struct Batch {
    /// The head behind it.
    head: Head,
    /// How many entries it holds.
    taken: usize,
    /// Lines behind its last checkpoint, or the last durable one.
    since: u64,
    /// Where its last checkpoint is in the buffer.
    checkpoint: Option<Range<usize>>,
    /// When it was made, Unix time in ms.
    logged: u64,
    /// The segment is full with it.
    full: bool,
}

impl Batch {
    fn behind(head: &Head, since: u64) -> Self {
        let logged = clock::unix_ms();
        Self { head: head.clone(), taken: 0, since, checkpoint: None, logged, full: false }
    }
}

/// Whether a line is signed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seal {
    Plain,
    Signed,
}

/// Closes the queue also when the writer panics, so that nobody waits for a writer that is gone.
struct Abandon(Arc<Shared>);

impl Drop for Abandon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.failed("the writer of the audit log has stopped; restart".to_owned(), false);
        }
        self.0.abandon();
    }
}

fn write<F: SegmentFile>(segment: &mut Segment<F>, bytes: &[u8]) -> io::Result<()> {
    segment.file.append(bytes)?;
    segment.file.sync()?;
    segment.len += bytes.len() as u64;
    Ok(())
}

/// The file that says up to which sequence number no flow was open any more.
pub(super) const SETTLED: &str = "settled";
/// So many that wait for one batch come in a crowd.
const CROWD: usize = 4;
/// What must fit on the disk before flows are allowed again.
const HEADROOM: u64 = 256 << 10;
