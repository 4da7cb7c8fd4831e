//! Answers a query over all segments, on a few threads.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::Query;
use super::plan::{Piece, Plan};
use super::scan::Search;
use crate::audit::read::ReadError;
use crate::audit::view::View;

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Records that fit.
    pub records: u64,
    /// Lines that cannot be read, of those that were looked at.
    pub unread: u64,
}

/// Why an answer is not whole.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The answer cannot be written.
    #[error("the answer cannot be written: {0}")]
    Write(#[from] io::Error),
}

impl Plan {
    /// Leaves out all but the last `most` records that fit: what is before is neither kept nor parsed
    /// again. Returns how many are in the first segment that are still too many.
    ///
    /// # Errors
    /// A segment cannot be read.
    pub fn keep_last(&mut self, query: &Query, most: u64) -> Result<u64, ReadError> {
        let search = Search::new(query);
        let mut kept = Vec::new();
        let mut found = 0_u64;
        while found < most && !self.pieces.is_empty() {
            let at = self.pieces.len().saturating_sub(threads());
            let newest = self.pieces.split_off(at);
            let count = |piece: &Piece| {
                let mut count = 0_u64;
                search.piece(piece, |_, _| {
                    count += 1;
                    ControlFlow::Continue(())
                })?;
                Ok(count)
            };
            for (piece, count) in newest.iter().zip(each(&newest, count)?).rev() {
                if count > 0 && found < most {
                    found += count;
                    kept.push(piece.clone());
                }
            }
        }
        kept.reverse();
        self.pieces = kept;
        Ok(found.saturating_sub(most))
    }

    /// Writes every record that fits, in the order of the log, but for the first `skip`. What waits
    /// for its turn is bounded.
    ///
    /// # Errors
    /// The log cannot be read, or the answer not written.
    pub fn write(
        &self,
        query: &Query,
        skip: u64,
        render: impl Fn(&mut Vec<u8>, &[u8], &View<'_>) + Sync,
        out: &mut dyn Write,
    ) -> Result<Tally, AnswerError> {
        let search = Search::new(query);
        let work =
            Work { pieces: &self.pieces, next: AtomicUsize::new(0), stop: AtomicBool::new(false) };
        let (senders, receivers): (Vec<_>, Vec<_>) =
            self.pieces.iter().map(|_| sync_channel::<Batch>(WAITING)).unzip();
        let senders = Mutex::new(senders.into_iter().map(Some).collect::<Vec<_>>());
        std::thread::scope(|scope| {
            for _ in 0..threads().min(self.pieces.len()) {
                scope.spawn(|| {
                    while let Some((index, piece)) = work.take() {
                        let mut senders = senders.lock().unwrap_or_else(PoisonError::into_inner);
                        let sender = senders.get_mut(index).and_then(Option::take);
                        drop(senders);
                        let Some(sender) = sender else { return };
                        send(&search, piece, &work.stop, &render, &sender);
                    }
                });
            }
            let written = receive(receivers, skip, out);
            // Threads that find nothing would not see that nobody listens any more.
            work.stop.store(true, Ordering::Relaxed);
            written
        })
    }

    /// Puts every record that fits into one of a few values, one for each thread, in no order.
    ///
    /// # Errors
    /// A segment cannot be read.
    pub fn fold<T: Send>(
        &self,
        query: &Query,
        make: impl Fn() -> T + Sync,
        add: impl Fn(&mut T, &View<'_>) + Sync,
    ) -> Result<(Vec<T>, Tally), ReadError> {
        let search = Search::new(query);
        let work =
            Work { pieces: &self.pieces, next: AtomicUsize::new(0), stop: AtomicBool::new(false) };
        let run = || -> Result<(T, Tally), ReadError> {
            let mut value = make();
            let mut tally = Tally::default();
            while let Some((_, piece)) = work.take() {
                tally.unread += search.piece(piece, |_, view| {
                    tally.records += 1;
                    add(&mut value, view);
                    ControlFlow::Continue(())
                })?;
            }
            Ok((value, tally))
        };
        let results = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads()).map(|_| scope.spawn(run)).collect();
            threads.into_iter().map(join).collect::<Result<Vec<_>, _>>()
        })?;
        let mut sum = Tally::default();
        for (_, tally) in &results {
            sum.records += tally.records;
            sum.unread += tally.unread;
        }
        Ok((results.into_iter().map(|(value, _)| value).collect(), sum))
    }
}

/// Segments that threads take one after the other.
struct Work<'a> {
    pieces: &'a [Piece],
    next: AtomicUsize,
    stop: AtomicBool,
}

impl Work<'_> {
    fn take(&self) -> Option<(usize, &Piece)> {
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        let piece = self.pieces.get(index)?;
        (!self.stop.load(Ordering::Relaxed)).then_some((index, piece))
    }
}

/// Some of a segment's answer.
enum Batch {
    Records { text: Vec<u8>, ends: Vec<usize> },
    Done(Result<u64, ReadError>),
}

fn send(
    search: &Search<'_>,
    piece: &Piece,
    stop: &AtomicBool,
    render: &(impl Fn(&mut Vec<u8>, &[u8], &View<'_>) + Sync),
    to: &SyncSender<Batch>,
) {
    let (mut text, mut ends) = (Vec::with_capacity(BATCH), Vec::new());
    let unread = search.piece(piece, |line, view| {
        render(&mut text, line, view);
        ends.push(text.len());
        if text.len() < BATCH {
            return ControlFlow::Continue(());
        }
        let full = std::mem::replace(&mut text, Vec::with_capacity(BATCH));
        let batch = Batch::Records { text: full, ends: std::mem::take(&mut ends) };
        let gone = to.send(batch).is_err() || stop.load(Ordering::Relaxed);
        if gone { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    // Where nobody listens any more, nobody misses it.
    let _ = to.send(Batch::Records { text, ends });
    let _ = to.send(Batch::Done(unread));
}

fn receive(
    segments: Vec<Receiver<Batch>>,
    mut skip: u64,
    out: &mut dyn Write,
) -> Result<Tally, AnswerError> {
    let mut tally = Tally::default();
    for segment in segments {
        let mut done = false;
        for batch in segment {
            match batch {
                Batch::Done(unread) => {
                    tally.unread += unread?;
                    done = true;
                }
                Batch::Records { text, ends } => {
                    let left_out = skip.min(ends.len() as u64);
                    skip -= left_out;
                    tally.records += ends.len() as u64 - left_out;
                    let last = usize::try_from(left_out).unwrap_or(usize::MAX).checked_sub(1);
                    let start = last.and_then(|last| ends.get(last)).copied().unwrap_or(0);
                    out.write_all(text.get(start..).unwrap_or_default())?;
                }
            }
        }
        if !done {
            let lost = io::Error::other("a thread that read the log ended");
            return Err(ReadError { path: None, source: lost }.into());
        }
    }
    out.flush()?;
    Ok(tally)
}

fn each<T: Send>(
    pieces: &[Piece],
    work: impl Fn(&Piece) -> Result<T, ReadError> + Sync,
) -> Result<Vec<T>, ReadError> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = pieces.iter().map(|piece| scope.spawn(move || work(piece))).collect();
        threads.into_iter().map(join).collect()
    })
}

fn join<T>(
    thread: std::thread::ScopedJoinHandle<'_, Result<T, ReadError>>,
) -> Result<T, ReadError> {
    let lost = || io::Error::other("a thread that read the log ended");
    thread.join().unwrap_or_else(|_| Err(ReadError { path: None, source: lost() }))
}

/// The box has flows to serve beside.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS)
}

const MOST_THREADS: usize = 4;
/// Bytes of an answer that go together.
const BATCH: usize = 64 << 10;
/// Batches of a segment that wait for their turn.
const WAITING: usize = 8;
