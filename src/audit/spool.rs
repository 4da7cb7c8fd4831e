//! The writer: one thread that takes all that waits, writes it once, syncs it once and wakes the
//! waiters (group commit).
//!
//! Only the writer knows the head of the chain, and the head moves only when a batch is durable. A
//! write or sync that failed is never tried again on the same file, because the kernel may have
//! dropped the pages and said so only once: the batch is written again, byte for byte, to a new
//! segment. When that fails too, the log is failing: Opens that wait are told so, ends stay in
//! memory, and a new segment is tried at intervals.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use uuid::Uuid;

use super::batch::{Batch, Seal};
use super::chain::Head;
use super::count::Unrecorded;
use super::inbox::{Entry, Part, Patience, Shared, Work};
use super::journal::Journal;
use super::room::{Room, Wanted};
use super::segment::SegmentName;
use super::storage::{self, SegmentFile, Storage};
use super::tuning::Tuning;
use super::writing::Segment;
use super::{count, record, room};

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
    /// Flows whose Open is durable and whose end is not, with the Open's sequence number or an
    /// earlier one.
    open: HashMap<Uuid, u64>,
    counted: Option<Unrecorded>,
    buffer: Vec<u8>,
    retry_at: Option<Instant>,
    room: Room,
    /// How many waited for the last batch.
    waiters: usize,
    /// A checkpoint has to be written, whatever else there is.
    checkpoint: bool,
    /// The directory is this process's as long as this is open.
    _lock: File,
}

/// Where the log goes on.
#[derive(Debug)]
pub(super) struct Place<F> {
    /// The chain's id.
    pub(super) chain: String,
    pub(super) head: Head,
    /// A new one is begun where absent.
    pub(super) segment: Option<Segment<F>>,
    /// The directory is this process's as long as this is open.
    pub(super) lock: File,
}

impl<S: Storage> Writer<S> {
    pub(super) fn new(
        shared: Arc<Shared>,
        storage: S,
        tuning: Tuning,
        journal: Journal,
        place: Place<S::File>,
    ) -> Self {
        let Place { chain, head, segment, lock } = place;
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
            open: HashMap::new(),
            counted: None,
            buffer: Vec::new(),
            retry_at: None,
            room: Room::default(),
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
        self.note_settled();
    }

    /// The thread: until the log is closed.
    pub(super) fn run(mut self) {
        let guard = Abandon(Arc::clone(&self.shared));
        let mut began = Instant::now();
        loop {
            // Counts of refused flows must not fill what room there is.
            let tight = self.shared.is_tight();
            let gather = if tight { self.tuning.checkpoint_every } else { self.tuning.gather };
            let patience = Patience { gather, linger: self.tuning.linger };
            // Each batch costs a sync and wakes every data thread. Where flows come in crowds, more
            // of them share one; a flow that comes alone never waits for others.
            if self.waiters >= CROWD {
                std::thread::sleep(self.tuning.pace.saturating_sub(began.elapsed()));
            }
            let due = self.retry_at.unwrap_or_else(|| self.room.due(self.journal.due_at()));
            let work = self.shared.wait(&mut self.inbox, &mut self.counted, patience, due);
            began = Instant::now();
            self.admit_all();
            self.step(&work);
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

    fn step(&mut self, work: &Work) {
        match self.retry_at {
            None => {
                if *work == Work::Room {
                    self.room.look_again();
                }
                self.take_room(0);
                self.change_key();
                self.commit();
            }
            Some(at) => {
                self.refuse_opens();
                if *work != Work::More || Instant::now() >= at {
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
                Part::Awaited(waiter) => {
                    let _ = waiter.send(Err(failure.clone()));
                    self.admit(Entry::system(entry.body));
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
        let before = self.head.seq;
        self.write_out()?;
        let Batch { head, taken, since, checkpoint, logged, full, .. } = batch;
        self.head = head;
        self.counted = None;
        self.checkpoint = false;
        self.retry_at = None;
        self.shared.wrote(&self.head, self.pending.len().saturating_sub(taken));
        let checkpoint = checkpoint.and_then(|line| self.buffer.get(line));
        self.journal.wrote(since, checkpoint, logged);
        self.settle(taken, before);
        if let Some(segment) = &self.segment {
            self.shared.keeper.set_current(segment.name.first);
        }
        if full && let Some(mut segment) = self.segment.take() {
            // Gives back the room that was taken ahead. Nothing depends on it.
            let _ = segment.file.cut(segment.len);
            self.note_settled();
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
        if let Some(outage) = self.journal.outage() {
            self.append(&mut batch, &outage, Seal::Signed);
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
            let signed = new_key || matches!(entry.part, Part::System | Part::Awaited(_));
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
        let key = (seal == Seal::Signed).then(|| self.journal.key().as_ref());
        let out = &mut self.buffer;
        let start = record::append_line(out, body, &self.chain, &link, batch.logged, key);
        batch.head = Head::of(link.seq, out.get(start..).unwrap_or_default());
        batch.since = batch.since.saturating_add(1);
        out.push(b'\n');
        start
    }

    /// Takes room on the disk ahead of the next `bytes`.
    fn take_room(&mut self, bytes: usize) {
        let Some(segment) = self.segment.as_mut() else {
            return self.room.forget(&self.shared);
        };
        let wanted = Wanted {
            needed: segment.len.saturating_add(bytes as u64),
            segment_bytes: self.tuning.segment_bytes,
            taken: segment.taken,
        };
        let reserve = |offset, bytes| segment.file.reserve(offset, bytes);
        segment.taken = self.room.take(wanted, reserve, &self.shared);
    }

    fn write_out(&mut self) -> io::Result<()> {
        if let Some(segment) = &self.segment {
            let path = segment.name.path.display().to_string();
            let Err(error) = self.write_segment() else { return Ok(()) };
            tracing::warn!(path, %error, "A segment of the audit log could not be written; going \
                on in a new one.");
        }
        self.segment = Some(self.create()?);
        self.write_segment()
    }

    /// Writes the buffer to the segment; a segment that fails is given up.
    fn write_segment(&mut self) -> io::Result<()> {
        self.take_room(self.buffer.len());
        let Some(mut segment) = self.segment.take() else { return Ok(()) };
        if let Err(error) = segment.write(&self.buffer) {
            segment.give_up(&self.storage);
            return Err(error);
        }
        self.segment = Some(segment);
        Ok(())
    }

    fn create(&self) -> io::Result<Segment<S::File>> {
        let name = SegmentName::new(&self.shared.directory, self.head.seq + 1);
        Segment::create(&self.storage, name)
    }

    fn settle(&mut self, taken: usize, before: u64) {
        let mut freed = 0;
        self.waiters = 0;
        for entry in self.pending.drain(..taken) {
            match entry.part {
                Part::Open(waiter) => {
                    self.open.insert(entry.flow, before);
                    self.waiters += 1;
                    // The waiter may be gone: a flow that was dropped while it waited.
                    let _ = waiter.send(Ok(()));
                }
                Part::LateOpen => {
                    self.open.insert(entry.flow, before);
                }
                Part::End | Part::Refusal => {
                    self.open.remove(&entry.flow);
                    freed += 1;
                }
                Part::Extra | Part::System => {}
                Part::Awaited(waiter) => {
                    let _ = waiter.send(Ok(()));
                }
                Part::Key(next) => self.journal.adopt(*next, self.head.seq),
            }
        }
        self.shared.free_slots(freed);
    }

    fn fail(&mut self, error: &io::Error) {
        self.journal.failed(error);
        let directory = self.shared.directory.display();
        if storage::is_full(error) {
            self.shared.failed_full();
            self.shared.keeper.want_room();
        } else {
            self.shared.failed(format!(
                "the audit log in {directory} cannot be written: {error}; check the disk"
            ));
        }
        self.retry_at = Some(Instant::now() + self.tuning.retry);
        self.refuse_opens();
    }

    fn heal(&mut self) {
        self.counted = Unrecorded::merge(self.counted, self.shared.take_unrecorded());
        let attempt = self.create().and_then(|mut segment| {
            match segment.file.reserve(0, room::LEAST).and_then(|()| segment.file.sync()) {
                Ok(()) => {
                    segment.taken = room::LEAST;
                    Ok(segment)
                }
                Err(error) => {
                    segment.give_up(&self.storage);
                    Err(error)
                }
            }
        });
        match attempt {
            Err(error) => self.fail(&error),
            Ok(segment) => {
                self.segment = Some(segment);
                self.retry_at = None;
                // Also where nothing waits: that it could not be written has to be signed.
                self.checkpoint = true;
                self.commit();
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
        self.note_settled();
    }

    /// Notes up to where a start need not look for flows without an end.
    fn note_settled(&self) {
        if self.retry_at.is_some() {
            return;
        }
        let settled = self.open.values().min().copied().unwrap_or(self.head.seq);
        let path = self.shared.directory.join(SETTLED);
        if let Err(error) = storage::replace(&path, format!("{settled}\n").as_bytes()) {
            tracing::warn!(%error, "How far the audit log is settled could not be noted; the next \
                start reads more of it.");
        }
    }
}

/// Closes the queue also when the writer panics, so that nobody waits for a writer that is gone.
struct Abandon(Arc<Shared>);

impl Drop for Abandon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.failed("the writer of the audit log has stopped; restart".to_owned());
        }
        self.0.abandon();
    }
}

/// The file that says a sequence number up to which no flow is open any more: a start need not read
/// what is before.
pub(super) const SETTLED: &str = "settled";
/// So many that wait for one batch come in a crowd.
const CROWD: usize = 4;
