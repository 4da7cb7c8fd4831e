//! One direction of a flow: what it holds, how it moves bytes, and how far its stream has come.
//!
//! Holds at most one read and does not read again before that is delivered. Knows nothing about the
//! other direction.

use std::io;
use std::task::{Poll, ready};

use rustix::io::Errno;

use super::chunk::{Chunk, Left};
use super::pipe::Pipe;
use super::pool::{RelayPool, add, bump};
use super::socket::{Socket, Way, attempt, finish, receive, send, sent};
use super::{Attention, DirectionBytes, Engine, Onlooker};

/// One direction of a flow.
#[derive(Debug)]
pub(super) struct Half {
    /// What was read and the sink did not take; boxed, because most flows hold nothing.
    chunk: Option<Box<Chunk>>,
    pipe: Option<Box<Pipe>>,
    stage: Stage,
    mode: Mode,
    turn: Turn,
    onlooker: Option<Box<Onlooker>>,
}

/// The two sockets of a direction and what it shares with the others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leg<'a> {
    pub(super) source: Socket<'a>,
    pub(super) sink: Socket<'a>,
    pub(super) pool: &'a RelayPool,
    /// The flow's count.
    pub(super) bytes: &'a DirectionBytes,
    /// That of all flows of the thread.
    pub(super) sum: &'a DirectionBytes,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// Nothing to read; an event of the source says when there is.
    Idle,
    /// The sink takes no more; an event of the sink says when it does.
    Blocked,
    /// It has done its share of work, and is to be asked again.
    Yielded,
    /// Nothing will go this way any more.
    Ended,
    /// Reading failed; everything that came before is delivered.
    SourceFailed,
    /// Writing failed.
    SinkFailed,
}

impl Half {
    /// A direction whose bytes are shown to the onlooker as they are read.
    pub(super) fn new(engine: Engine, onlooker: Option<Box<Onlooker>>) -> Self {
        let mode = match engine {
            Engine::Adaptive => Mode::Copying { large: 0 },
            Engine::Copy => Mode::Copy,
            Engine::Splice => Mode::Splice,
        };
        Self { chunk: None, pipe: None, stage: Stage::Open, mode, turn: Turn::default(), onlooker }
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    /// Moves what there is, up to one share of work.
    pub(super) fn pump(&mut self, leg: Leg<'_>) -> Halt {
        let halt = self.rounds(leg);
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

    fn rounds(&mut self, leg: Leg<'_>) -> Halt {
        let start = total(leg.bytes);
        for _ in 0..ROUNDS {
            match self.flush(leg) {
                Poll::Pending => return Halt::Blocked,
                Poll::Ready(Err(_)) => return Halt::SinkFailed,
                Poll::Ready(Ok(())) => {}
            }
            match self.stage {
                Stage::Ended => return Halt::Ended,
                Stage::Ending => {
                    // Behind a FIN nobody can tell any more whether bytes are unsent, and a reset
                    // that followed would destroy them.
                    if sent(leg.sink).is_pending() {
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
            if !leg.sink.is_ready(Way::Out) {
                return Halt::Blocked;
            }
            match self.fill(leg) {
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
        Halt::Yielded
    }

    /// Delivers what is held: the chunk, then the pipe.
    fn flush(&mut self, leg: Leg<'_>) -> Poll<io::Result<()>> {
        loop {
            if let Some(chunk) = &mut self.chunk {
                let size = ready!(send(leg.sink, chunk.rest()))?;
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
            match ready!(attempt(leg.sink, Way::Out, held, || splice_out(pipe, leg))) {
                Ok(size) => {
                    add(&leg.bytes.spliced, size);
                    add(&leg.sum.spliced, size);
                }
                Err(error) if is_no_splicing(&error) => self.refuse(leg.pool),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn fill(&mut self, leg: Leg<'_>) -> Poll<Filled> {
        let chosen = matches!(self.mode, Mode::Splice | Mode::Splicing { .. });
        let splicing = chosen && self.onlooker.is_none();
        if splicing && self.pipe.is_none() {
            self.pipe = leg.pool.lend();
        }
        match self.pipe.take() {
            Some(mut pipe) if splicing => {
                let filled = self.splice_in(leg, &mut pipe);
                self.pipe = Some(pipe);
                filled
            }
            pipe => {
                self.pipe = pipe;
                self.copy(leg)
            }
        }
    }

    /// Fills the empty pipe; the next round empties it.
    fn splice_in(&mut self, leg: Leg<'_>, pipe: &mut Pipe) -> Poll<Filled> {
        // How much fits is a matter of slots, so a short splice does not say that the socket is empty.
        Poll::Ready(match ready!(attempt(leg.source, Way::In, 0, || splice_in(pipe, leg))) {
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
    fn copy(&mut self, leg: Leg<'_>) -> Poll<Filled> {
        leg.pool.with_scratch(|buffer| {
            let size = match ready!(receive(leg.source, buffer)) {
                Ok(0) => return Poll::Ready(Filled::End),
                Ok(size) => size,
                Err(_) => return Poll::Ready(Filled::SourceFailed),
            };
            self.judge(size, leg.pool);
            let read = buffer.get(..size).unwrap_or_default();
            self.onlooker.take_if(|onlooker| onlooker.look(read) == Attention::Goes);
            let written = match send(leg.sink, read) {
                Poll::Ready(Ok(written)) => written,
                Poll::Ready(Err(_)) => return Poll::Ready(Filled::SinkFailed),
                Poll::Pending => 0,
            };
            count_copied(leg, written);
            self.keep(leg.pool, read.get(written..).unwrap_or_default());
            Poll::Ready(Filled::Some)
        })
    }

    /// Chooses between copying and splicing by what a turn brings, however many reads that takes: a
    /// stream whose receiver keeps up comes in small reads as well, and a message does not.
    fn judge(&mut self, size: usize, pool: &RelayPool) {
        if !matches!(self.mode, Mode::Copying { .. } | Mode::Splicing { .. }) {
            return;
        }
        let now = pool.millis();
        if now.wrapping_sub(self.turn.began) >= MOMENT {
            self.turn_over(pool);
        }
        if self.turn.run == 0 {
            self.turn.began = now;
        }
        let units = u16::try_from(size.div_ceil(UNIT)).unwrap_or(u16::MAX);
        self.turn.run = self.turn.run.saturating_add(units);
        if matches!(self.mode, Mode::Copying { .. }) && self.turn.run >= STREAM {
            self.promote(pool);
        }
    }

    /// The other direction has moved something, or time has passed.
    pub(super) fn turn_over(&mut self, pool: &RelayPool) {
        let run = std::mem::take(&mut self.turn.run);
        if run == 0 {
            return;
        }
        self.mode = match self.mode {
            Mode::Copying { .. } if run < LARGE => Mode::Copying { large: 0 },
            Mode::Copying { large } if large + 1 < STREAK => Mode::Copying { large: large + 1 },
            Mode::Copying { .. } => return self.promote(pool),
            Mode::Splicing { .. } if run >= SMALL => Mode::Splicing { small: 0 },
            Mode::Splicing { small } if small + 1 < STREAK => Mode::Splicing { small: small + 1 },
            Mode::Splicing { .. } => {
                bump(&pool.count.demotions);
                Mode::Copying { large: 0 }
            }
            forced => forced,
        };
    }

    fn promote(&mut self, pool: &RelayPool) {
        bump(&pool.count.promotions);
        self.mode = Mode::Splicing { small: 0 };
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

/// What a direction reads between two answers of the other one, in a moment at most: a message, or a
/// piece of a stream.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    /// How much was read, in units of [`UNIT`]; 0 before the first read.
    run: u16,
    /// In milliseconds of the pool's clock.
    began: u16,
}

/// How a direction moves its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Adaptive, copying; so many large turns in a row.
    Copying { large: u8 },
    /// Adaptive, splicing; so many small turns in a row.
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
    pipe.fill(leg.source.fd)
}

fn splice_out(pipe: &mut Pipe, leg: Leg<'_>) -> io::Result<usize> {
    #[cfg(test)]
    super::tests::Fault::SpliceOut.strike(leg.pool)?;
    pipe.empty(leg.sink.fd)
}

/// Whether an error is about splicing and not about the socket: of its kind (kernel TLS, say), or for
/// want of kernel memory. Copying needs less of it, and fails by itself if even that is not there.
fn is_no_splicing(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::INVAL | Errno::NOBUFS | Errno::NOMEM))
}

fn count_copied(leg: Leg<'_>, size: usize) {
    add(&leg.bytes.copied, size);
    add(&leg.sum.copied, size);
}

/// Bytes that a direction has delivered.
pub(super) fn total(bytes: &DirectionBytes) -> u64 {
    bytes.copied.get().saturating_add(bytes.spliced.get())
}

/// A share of work: so many rounds, or so many bytes, whichever comes first. More would let one
/// stream starve the thread's other flows.
const ROUNDS: u32 = 16;
const SHARE: u64 = 1024 * 1024;

/// What turns are counted in: an idle flow has room for few bits.
const UNIT: usize = 16;

/// A turn that counts as part of a stream, in units: from 32 KiB on splicing costs no more than
/// copying.
const LARGE: u16 = 2048;

/// Below this, in units, a turn counts as a message: splicing 16 KiB costs more than copying them. The
/// gap to `LARGE` keeps a direction between the two from changing its mind all the time.
const SMALL: u16 = 1024;

/// So many turns in a row make a direction change its mind.
const STREAK: u8 = 3;

/// A turn that is a stream by itself, in units.
const STREAM: u16 = 3 * LARGE;

/// The longest turn, in milliseconds: messages that nobody answers are no stream.
const MOMENT: u16 = 20;
