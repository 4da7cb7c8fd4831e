//! What the relays of one thread share: the copy buffer, spare pipes and chunks, counters.
//!
//! Owns the cap on pipes. Never hands out a pipe that has bytes in it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use super::chunk::Chunk;
use super::pipe::Pipe;
use super::{DirectionBytes, Engine};

/// What a thread's relays share: pipes, the copy buffer, counters. One per data thread.
#[derive(Debug)]
pub struct RelayPool {
    engine: Engine,
    pipes: usize,
    pipe_bytes: usize,
    scratch: RefCell<Box<[u8]>>,
    #[expect(clippy::vec_box, reason = "flows have room for a pointer only")]
    spare_pipes: RefCell<Vec<Box<Pipe>>>,
    #[expect(clippy::vec_box, reason = "flows have room for a pointer only")]
    spare_chunks: RefCell<Vec<Box<Chunk>>>,
    pub(super) count: Counts,
    /// How many more requests are refused before the kernel is asked for a pipe again.
    refusals_left: Cell<u32>,
    began: Instant,
    /// Stops the clock at this time.
    #[cfg(test)]
    pub(super) stopped_at: Cell<Option<u16>>,
    #[cfg(test)]
    pub(super) fault: Cell<Option<(super::tests::Fault, rustix::io::Errno)>>,
}

/// What the relays of a thread have done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RelayCounters {
    /// Flows that have one direction over now.
    pub half_closed: u64,
    /// Pipes that flows hold now.
    pub pipes_in_use: u64,
    /// Pipes opened since the start.
    pub pipes_created: u64,
    /// Reads that were copied because there was no pipe to splice them.
    pub pipe_fallbacks: u64,
    /// Directions that turned from copying to splicing.
    pub promotions: u64,
    /// Directions that turned from splicing to copying.
    pub demotions: u64,
    /// Directions that the kernel refused to splice; they copy to their end.
    pub refused: u64,
    /// Bytes that went through user space.
    pub copied: u64,
    /// Bytes that went through a pipe inside the kernel.
    pub spliced: u64,
    /// Of those that were copied, bytes from devices to endpoints.
    pub copied_up: u64,
    /// The same of those that were spliced.
    pub spliced_up: u64,
}

impl RelayCounters {
    /// Adds another thread's.
    pub fn add(&mut self, other: &Self) {
        for (sum, part) in [
            (&mut self.half_closed, other.half_closed),
            (&mut self.pipes_in_use, other.pipes_in_use),
            (&mut self.pipes_created, other.pipes_created),
            (&mut self.pipe_fallbacks, other.pipe_fallbacks),
            (&mut self.promotions, other.promotions),
            (&mut self.demotions, other.demotions),
            (&mut self.refused, other.refused),
            (&mut self.copied, other.copied),
            (&mut self.spliced, other.spliced),
            (&mut self.copied_up, other.copied_up),
            (&mut self.spliced_up, other.spliced_up),
        ] {
            *sum = sum.saturating_add(part);
        }
    }
}

/// The live form of [`RelayCounters`].
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) half_closed: Cell<u64>,
    pub(super) pipes_in_use: Cell<u64>,
    pub(super) pipes_created: Cell<u64>,
    pub(super) pipe_fallbacks: Cell<u64>,
    pub(super) promotions: Cell<u64>,
    pub(super) demotions: Cell<u64>,
    pub(super) refused: Cell<u64>,
    pub(super) up: DirectionBytes,
    pub(super) down: DirectionBytes,
}

impl RelayPool {
    /// A pool that holds at most `pipes` pipes.
    pub fn new(engine: Engine, pipes: usize) -> Rc<Self> {
        Rc::new(Self::with_pipe_bytes(engine, pipes, PIPE_BYTES))
    }

    /// What the relays of this thread have done so far.
    pub fn counters(&self) -> RelayCounters {
        let count = &self.count;
        let (up, down) = (&count.up, &count.down);
        RelayCounters {
            half_closed: count.half_closed.get(),
            pipes_in_use: count.pipes_in_use.get(),
            pipes_created: count.pipes_created.get(),
            pipe_fallbacks: count.pipe_fallbacks.get(),
            promotions: count.promotions.get(),
            demotions: count.demotions.get(),
            refused: count.refused.get(),
            copied: up.copied.get().saturating_add(down.copied.get()),
            spliced: up.spliced.get().saturating_add(down.spliced.get()),
            copied_up: up.copied.get(),
            spliced_up: up.spliced.get(),
        }
    }

    /// Another flow has its first direction over, until [`Self::half_closed_no_more`].
    pub(super) fn half_closed(&self) {
        bump(&self.count.half_closed);
    }

    pub(super) fn half_closed_no_more(&self) {
        let count = &self.count.half_closed;
        count.set(count.get().saturating_sub(1));
    }

    pub(super) fn with_pipe_bytes(engine: Engine, pipes: usize, pipe_bytes: usize) -> Self {
        Self {
            engine,
            pipes,
            pipe_bytes,
            scratch: RefCell::new(vec![0; SCRATCH].into_boxed_slice()),
            spare_pipes: RefCell::default(),
            spare_chunks: RefCell::default(),
            count: Counts::default(),
            refusals_left: Cell::new(0),
            began: Instant::now(),
            #[cfg(test)]
            stopped_at: Cell::new(None),
            #[cfg(test)]
            fault: Cell::new(None),
        }
    }

    pub(super) fn engine(&self) -> Engine {
        self.engine
    }

    /// Milliseconds since the pool was made, modulo 2^16.
    pub(super) fn millis(&self) -> u16 {
        #[cfg(test)]
        if let Some(millis) = self.stopped_at.get() {
            return millis;
        }
        let millis = self.began.elapsed().as_millis() % (1 << 16);
        u16::try_from(millis).unwrap_or_default()
    }

    /// The thread's copy buffer, for the length of one read and its write.
    pub(super) fn with_scratch<T>(&self, job: impl FnOnce(&mut [u8]) -> T) -> T {
        job(&mut self.scratch.borrow_mut())
    }

    /// An empty pipe, unless all are out or the kernel gives none.
    pub(super) fn lend(&self) -> Option<Box<Pipe>> {
        let pipe = self.spare_pipes.borrow_mut().pop().or_else(|| self.open());
        let count =
            if pipe.is_some() { &self.count.pipes_in_use } else { &self.count.pipe_fallbacks };
        bump(count);
        pipe
    }

    /// Takes a pipe back; one with bytes in it is closed, for they belong to a flow that is gone.
    pub(super) fn take_back(&self, pipe: Box<Pipe>) {
        let in_use = &self.count.pipes_in_use;
        in_use.set(in_use.get().saturating_sub(1));
        if pipe.held() == 0 {
            self.spare_pipes.borrow_mut().push(pipe);
        }
    }

    /// A chunk with a copy of `bytes`; none for no bytes.
    pub(super) fn keep(&self, bytes: &[u8]) -> Option<Box<Chunk>> {
        if bytes.is_empty() {
            return None;
        }
        let mut chunk = self.spare_chunks.borrow_mut().pop().unwrap_or_default();
        chunk.fill(bytes);
        Some(chunk)
    }

    /// Takes a chunk back, whatever is left in it.
    pub(super) fn recycle(&self, chunk: Box<Chunk>) {
        let mut spare = self.spare_chunks.borrow_mut();
        if spare.len() < SPARE_CHUNKS {
            spare.push(chunk);
        }
    }

    fn open(&self) -> Option<Box<Pipe>> {
        // No spares are left when this is asked, so all that exist are in use.
        if usize::try_from(self.count.pipes_in_use.get()).is_ok_and(|lent| lent >= self.pipes) {
            return None;
        }
        if let Some(left) = self.refusals_left.get().checked_sub(1) {
            self.refusals_left.set(left);
            return None;
        }
        let pipe = Pipe::open(self.pipe_bytes).map(Box::new);
        match pipe {
            Some(_) => bump(&self.count.pipes_created),
            None => self.refusals_left.set(REFUSALS),
        }
        pipe
    }
}

/// Adds one.
pub(super) fn bump(counter: &Cell<u64>) {
    counter.set(counter.get().saturating_add(1));
}

/// Adds `size` bytes.
pub(super) fn add(counter: &Cell<u64>, size: usize) {
    counter.set(counter.get().saturating_add(u64::try_from(size).unwrap_or(u64::MAX)));
}

/// The most a copy reads at once.
const SCRATCH: usize = 64 * 1024;

/// The size of a pipe: 256 slots, and the most that one splice moves; what an unprivileged user may
/// have (`pipe-max-size`, pipe(7)). With segments of real size 64 slots hold no more than 90 KB.
const PIPE_BYTES: usize = 1024 * 1024;

/// Chunks kept for reuse; more than that are a stall that is over.
const SPARE_CHUNKS: usize = 16;

/// How often a pipe is refused unasked after the kernel gave none: asking costs three system calls.
const REFUSALS: u32 = 1000;
