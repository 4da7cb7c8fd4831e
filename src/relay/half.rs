//! One direction of a flow: what it holds, how it moves bytes, and how far its stream has come.
//!
//! Holds at most one read and does not read again before that is delivered. Knows nothing about the
//! other direction.

use std::io;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use tokio::net::TcpStream;

use super::chunk::{Chunk, Left};
use super::pipe::Pipe;
use super::pool::{RelayPool, add, bump};
use super::socket::{Way, attempt, finish, ready_for, receive, send, sent};
use super::{Attention, DirectionBytes, Engine, Onlooker};

/// One direction of a flow.
#[derive(Debug)]
pub(super) struct Half {
    /// What was read and the sink did not take; boxed, because most flows hold nothing.
    chunk: Option<Box<Chunk>>,
    pipe: Option<Box<Pipe>>,
    stage: Stage,
    mode: Mode,
    onlooker: Option<Box<Onlooker>>,
}

/// The two sockets of a direction and what it shares with the others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leg<'a> {
    pub(super) source: &'a TcpStream,
    pub(super) sink: &'a TcpStream,
    pub(super) pool: &'a RelayPool,
    pub(super) bytes: &'a DirectionBytes,
}

/// How far a direction's stream has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Bytes may come.
    Open,
    /// The source is dead, but what it sent before may still be there; it ends without a FIN.
    Cut,
    /// The source's FIN was read; what is held goes out before it.
    Ending,
    /// Nothing will go this way any more.
    Ended,
}

/// Why a direction stopped for now.
#[derive(Debug)]
pub(super) enum Halt {
    /// Nothing to read; the source will wake the task.
    Idle,
    /// The sink takes no more; it will wake the task, the source will not.
    Blocked,
    /// It has done its share of work; the task has been woken again.
    Yielded,
    /// Nothing will go this way any more.
    Ended,
    /// Reading failed; everything that came before is delivered.
    SourceFailed,
    /// Writing failed.
    SinkFailed,
}

impl Half {
    pub(super) fn new(engine: Engine) -> Self {
        let mode = match engine {
            Engine::Adaptive => Mode::Copying { large: 0 },
            Engine::Copy => Mode::Copy,
            Engine::Splice => Mode::Splice,
        };
        Self { chunk: None, pipe: None, stage: Stage::Open, mode, onlooker: None }
    }

    /// Lets an onlooker see what is read from now on.
    pub(super) fn show_to(&mut self, onlooker: Option<Box<Onlooker>>) {
        self.onlooker = onlooker;
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    /// Moves what there is, up to one share of work.
    pub(super) fn pump(&mut self, cx: &mut Context<'_>, leg: Leg<'_>) -> Halt {
        let halt = self.rounds(cx, leg);
        // A pipe is for bytes on their way: a flow that waits for its source must hold none.
        self.release_pipe(leg.pool, Contents::None);
        halt
    }

    /// The source is dead: what it sent before is still to be delivered, its end is no FIN.
    pub(super) fn cut(&mut self) {
        if self.stage == Stage::Open {
            self.stage = Stage::Cut;
        }
    }

    /// Gives everything back, delivered or not.
    pub(super) fn discard(&mut self, pool: &RelayPool) {
        self.stage = Stage::Ended;
        self.keep(pool, &[]);
        self.release_pipe(pool, Contents::Any);
    }

    fn rounds(&mut self, cx: &mut Context<'_>, leg: Leg<'_>) -> Halt {
        let start = total(leg.bytes);
        for _ in 0..ROUNDS {
            match self.flush(cx, leg) {
                Poll::Pending => return Halt::Blocked,
                Poll::Ready(Err(_)) => return Halt::SinkFailed,
                Poll::Ready(Ok(())) => {}
            }
            match self.stage {
                Stage::Ended => return Halt::Ended,
                Stage::Ending => {
                    // Behind a FIN nobody can tell any more whether bytes are unsent, and a reset
                    // that followed would destroy them.
                    if sent(cx, leg.sink).is_pending() {
                        return Halt::Blocked;
                    }
                    self.stage = Stage::Ended;
                    return finish(leg.sink).map_or(Halt::SinkFailed, |()| Halt::Ended);
                }
                Stage::Open | Stage::Cut => {}
            }
            if total(leg.bytes).saturating_sub(start) >= SHARE {
                break;
            }
            // Back-pressure: what nobody takes is not read. A failed sink shows when written to.
            if ready_for(cx, leg.sink, Way::Out).is_pending() {
                return Halt::Blocked;
            }
            match self.fill(cx, leg) {
                Poll::Pending => return Halt::Idle,
                Poll::Ready(Filled::Some) => {}
                Poll::Ready(Filled::SourceFailed) => {
                    self.stage = Stage::Ended;
                    return Halt::SourceFailed;
                }
                Poll::Ready(Filled::SinkFailed) => return Halt::SinkFailed,
                Poll::Ready(Filled::End) => {
                    self.stage = match self.stage {
                        Stage::Cut => Stage::Ended,
                        _ => Stage::Ending,
                    };
                }
            }
        }
        cx.waker().wake_by_ref();
        Halt::Yielded
    }

    /// Delivers what is held: the chunk, then the pipe.
    fn flush(&mut self, cx: &mut Context<'_>, leg: Leg<'_>) -> Poll<io::Result<()>> {
        loop {
            if let Some(chunk) = &mut self.chunk {
                let size = ready!(send(cx, leg.sink, chunk.rest()))?;
                count_copied(leg, size);
                if chunk.advance(size) == Left::Nothing {
                    self.keep(leg.pool, &[]);
                }
                continue;
            }
            let Some(pipe) = self.pipe.as_mut().filter(|pipe| pipe.held() > 0) else {
                return Poll::Ready(Ok(()));
            };
            if self.mode == Mode::Refused {
                self.chunk = leg.pool.with_scratch(|buffer| -> io::Result<_> {
                    let size = pipe.read(buffer)?;
                    Ok(leg.pool.keep(buffer.get(..size).unwrap_or_default()))
                })?;
                continue;
            }
            let held = pipe.held();
            match ready!(attempt(cx, leg.sink, Way::Out, held, || splice_out(pipe, leg))) {
                Ok(size) => {
                    add(&leg.bytes.spliced, size);
                    add(&leg.pool.count.spliced, size);
                }
                Err(error) if is_no_splicing(&error) => self.refuse(leg.pool),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn fill(&mut self, cx: &mut Context<'_>, leg: Leg<'_>) -> Poll<Filled> {
        let chosen = matches!(self.mode, Mode::Splice | Mode::Splicing { .. });
        let splicing = chosen && self.onlooker.is_none();
        if splicing && self.pipe.is_none() {
            self.pipe = leg.pool.lend();
        }
        match self.pipe.take() {
            Some(mut pipe) if splicing => {
                let filled = self.splice_in(cx, leg, &mut pipe);
                self.pipe = Some(pipe);
                filled
            }
            pipe => {
                self.pipe = pipe;
                self.copy(cx, leg)
            }
        }
    }

    /// Fills the empty pipe; the next round empties it.
    fn splice_in(&mut self, cx: &mut Context<'_>, leg: Leg<'_>, pipe: &mut Pipe) -> Poll<Filled> {
        // How much fits is a matter of slots, so a short splice does not say that the socket is empty.
        Poll::Ready(match ready!(attempt(cx, leg.source, Way::In, 0, || splice_in(pipe, leg))) {
            Ok(0) => Filled::End,
            Ok(size) => {
                self.judge(size, leg.pool);
                Filled::Some
            }
            Err(error) if is_no_splicing(&error) => {
                self.refuse(leg.pool);
                Filled::Some
            }
            Err(_) => Filled::SourceFailed,
        })
    }

    /// Reads into the thread's buffer and writes; only what the sink does not take is kept.
    fn copy(&mut self, cx: &mut Context<'_>, leg: Leg<'_>) -> Poll<Filled> {
        leg.pool.with_scratch(|buffer| {
            let size = match ready!(receive(cx, leg.source, buffer)) {
                Ok(0) => return Poll::Ready(Filled::End),
                Ok(size) => size,
                Err(_) => return Poll::Ready(Filled::SourceFailed),
            };
            self.judge(size, leg.pool);
            let read = buffer.get(..size).unwrap_or_default();
            self.onlooker.take_if(|onlooker| onlooker.look(read) == Attention::Goes);
            let written = match send(cx, leg.sink, read) {
                Poll::Ready(Ok(written)) => written,
                Poll::Ready(Err(_)) => return Poll::Ready(Filled::SinkFailed),
                Poll::Pending => 0,
            };
            count_copied(leg, written);
            self.keep(leg.pool, read.get(written..).unwrap_or_default());
            Poll::Ready(Filled::Some)
        })
    }

    /// Chooses between copying and splicing by the size of the last reads.
    ///
    /// There is no clock in it: a direction that rests has given its pipe back already, and small
    /// messages after the rest turn it to copying.
    fn judge(&mut self, size: usize, pool: &RelayPool) {
        self.mode = match self.mode {
            Mode::Copying { .. } if size < LARGE => Mode::Copying { large: 0 },
            Mode::Copying { large } if large + 1 < STREAK => Mode::Copying { large: large + 1 },
            Mode::Copying { .. } => {
                bump(&pool.count.promotions);
                Mode::Splicing { small: 0 }
            }
            Mode::Splicing { .. } if size >= SMALL => Mode::Splicing { small: 0 },
            Mode::Splicing { small } if small + 1 < STREAK => Mode::Splicing { small: small + 1 },
            Mode::Splicing { .. } => {
                bump(&pool.count.demotions);
                Mode::Copying { large: 0 }
            }
            forced => forced,
        };
    }

    /// The kernel does not splice this direction: copy to its end.
    fn refuse(&mut self, pool: &RelayPool) {
        bump(&pool.count.refused);
        self.mode = Mode::Refused;
    }

    /// Holds these bytes, and nothing that was held before.
    fn keep(&mut self, pool: &RelayPool, bytes: &[u8]) {
        if let Some(chunk) = self.chunk.take() {
            pool.recycle(chunk);
        }
        self.chunk = pool.keep(bytes);
    }

    fn release_pipe(&mut self, pool: &RelayPool, contents: Contents) {
        if let Some(pipe) = self.pipe.take_if(|pipe| contents == Contents::Any || pipe.held() == 0)
        {
            pool.take_back(pipe);
        }
    }
}

/// How a direction moves its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Adaptive, copying; so many large reads in a row.
    Copying { large: u8 },
    /// Adaptive, splicing; so many small reads in a row.
    Splicing { small: u8 },
    /// Forced.
    Copy,
    /// Forced.
    Splice,
    /// The kernel does not splice this direction.
    Refused,
}

/// What reading came to.
enum Filled {
    /// Bytes were read, or another way of reading was chosen.
    Some,
    /// The stream is over.
    End,
    /// Reading failed.
    SourceFailed,
    /// Bytes were read, but writing them failed.
    SinkFailed,
}

/// Which pipes are given back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Contents {
    None,
    Any,
}

fn splice_in(pipe: &mut Pipe, leg: Leg<'_>) -> io::Result<usize> {
    #[cfg(test)]
    super::tests::Fault::SpliceIn.strike(leg.pool)?;
    pipe.fill(leg.source)
}

fn splice_out(pipe: &mut Pipe, leg: Leg<'_>) -> io::Result<usize> {
    #[cfg(test)]
    super::tests::Fault::SpliceOut.strike(leg.pool)?;
    pipe.empty(leg.sink)
}

/// Whether an error is about splicing and not about the socket: of its kind (kernel TLS, say), or for
/// want of kernel memory. Copying needs less of it, and fails by itself if even that is not there.
fn is_no_splicing(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::NOBUFS | Errno::NOMEM))
}

fn count_copied(leg: Leg<'_>, size: usize) {
    add(&leg.bytes.copied, size);
    add(&leg.pool.count.copied, size);
}

/// Bytes that a direction has delivered.
pub(super) fn total(bytes: &DirectionBytes) -> u64 {
    bytes.copied.get().saturating_add(bytes.spliced.get())
}

/// A share of work: so many rounds, or so many bytes, whichever comes first. More would let one
/// stream starve the thread's other flows.
const ROUNDS: u32 = 16;
const SHARE: u64 = 1024 * 1024;

/// A read that counts as part of a stream: from here on splicing costs no more than copying.
const LARGE: usize = 32 * 1024;

/// Below this a read counts as a message: splicing it costs more than copying. The gap to `LARGE`
/// keeps a direction between the two from changing its mind all the time.
const SMALL: usize = 16 * 1024;

/// So many reads in a row make a direction change its mind.
const STREAK: u8 = 3;
