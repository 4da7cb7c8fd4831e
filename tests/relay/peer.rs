//! One end of a flow: does what its plan says, and tells what it saw.

use std::cell::Cell;
use std::io;
use std::pin::pin;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::Notify;
use tokio::task::yield_now;

use crate::plan::{End, Pace, Side};
use crate::sockets::{register, reset_on_close};

/// What one end of a flow saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Bytes that its socket took.
    pub(crate) sent: usize,
    /// Bytes that arrived.
    pub(crate) received: usize,
    /// Where the first wrong byte may be found.
    pub(crate) wrong_at: Option<usize>,
    /// The flow was reset under its hands.
    pub(crate) reset: bool,
    /// It reset the flow itself.
    pub(crate) resigned: Option<Resigned>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resigned {
    /// Its own stream had no end yet.
    Open,
    /// It had sent FIN.
    AfterFin,
}

/// Plays one side of a flow to its end. `expected` is what the other side sends.
pub(crate) async fn play(
    side: &Side,
    socket: std::net::TcpStream,
    stock: &[u8],
    expected: &Side,
) -> Seen {
    let mut socket = register(socket);
    let (bytes, expected) = (side.bytes(stock), expected.bytes(stock));
    let talk = Talk::new(side, expected);
    let (wrote, read) = {
        let (mut input, mut output) = socket.split();
        let mut writer = pin!(talk.write(&mut output, bytes));
        let mut reader = pin!(talk.read(&mut input));
        tokio::select! {
            biased;
            wrote = &mut writer => match wrote {
                Ok(Left::Resigned) => (wrote, Ok(Left::Ended)),
                wrote => (wrote, reader.await),
            },
            read = &mut reader => match read {
                Ok(Left::Resigned) => (Ok(Left::Ended), read),
                read => (writer.await, read),
            },
        }
    };
    let resigned = [&wrote, &read].iter().any(|left| matches!(left, Ok(Left::Resigned)));
    if resigned {
        reset_on_close(&socket);
    }
    Seen {
        sent: talk.sent.get(),
        received: talk.received.get(),
        wrong_at: talk.wrong_at.get(),
        // A failed write takes the socket's error away, and reading then looks like an end.
        reset: wrote.is_err() || read.is_err(),
        resigned: resigned.then(|| match talk.finished.get() {
            true => Resigned::AfterFin,
            false => Resigned::Open,
        }),
    }
}

/// Yields to the thread's other tasks so many times.
pub(crate) async fn turns(count: usize) {
    for _ in 0..count {
        yield_now().await;
    }
}

/// How reading or writing was left.
#[derive(Clone, Copy, Debug)]
enum Left {
    Ended,
    /// To reset the flow.
    Resigned,
}

/// What the reading and the writing half of a side have to do with each other.
struct Talk<'a> {
    side: &'a Side,
    expected: &'a [u8],
    sent: Cell<usize>,
    received: Cell<usize>,
    wrong_at: Cell<Option<usize>>,
    finished: Cell<bool>,
    /// The other side's stream is over, in whichever way.
    over: Cell<bool>,
    heard: Notify,
}

impl<'a> Talk<'a> {
    fn new(side: &'a Side, expected: &'a [u8]) -> Self {
        Self {
            side,
            expected,
            sent: Cell::default(),
            received: Cell::default(),
            wrong_at: Cell::default(),
            finished: Cell::default(),
            over: Cell::default(),
            heard: Notify::new(),
        }
    }

    async fn write(&self, output: &mut WriteHalf<'_>, bytes: &[u8]) -> io::Result<Left> {
        let mut dice = self.side.dice.clone();
        let size = match self.side.end {
            End::ResetAfterWriting(size) => size,
            _ => bytes.len(),
        };
        while self.sent.get() < size {
            turns(dice.below(self.side.pause + 1)).await;
            let start = self.sent.get();
            self.turn_to_speak(start, bytes.len()).await;
            let segment = 1 + dice.below(self.side.segment);
            let mut rest = &bytes[start..size.min(start + segment)];
            while !rest.is_empty() {
                let taken = output.write(rest).await?;
                self.sent.set(self.sent.get() + taken);
                rest = &rest[taken..];
            }
        }
        match self.side.end {
            End::ResetAfterWriting(_) => {
                turns(dice.below(50)).await;
                return Ok(Left::Resigned);
            }
            End::FinAfterPeer => self.until(|| self.over.get()).await,
            End::Fin | End::FinThenReset(_) | End::ResetAfterReading(_) => {}
        }
        output.shutdown().await?;
        self.finished.set(true);
        if let End::FinThenReset(count) = self.side.end {
            turns(count).await;
            return Ok(Left::Resigned);
        }
        Ok(Left::Ended)
    }

    async fn read(&self, input: &mut ReadHalf<'_>) -> io::Result<Left> {
        let mut dice = self.side.dice.clone();
        let mut buffer = vec![0; self.side.piece.max(self.expected.len() / 1000)];
        let left = loop {
            let received = self.received.get();
            if matches!(self.side.end, End::ResetAfterReading(size) if received >= size) {
                break Ok(Left::Resigned);
            }
            turns(dice.below(self.side.pause + 1)).await;
            let piece = 1 + dice.below(buffer.len());
            match input.read(&mut buffer[..piece]).await {
                Ok(0) => break Ok(Left::Ended),
                Ok(size) => self.hold_against(received, &buffer[..size]),
                Err(error) => break Err(error),
            }
        };
        self.over.set(true);
        self.heard.notify_one();
        left
    }

    fn hold_against(&self, start: usize, bytes: &[u8]) {
        let end = start + bytes.len();
        if self.expected.get(start..end) != Some(bytes) && self.wrong_at.get().is_none() {
            self.wrong_at.set(Some(start));
        }
        self.received.set(end);
        self.heard.notify_one();
    }

    /// Waits until as big a part has been heard as has been said.
    async fn turn_to_speak(&self, said: usize, of: usize) {
        if self.side.pace == Pace::Answering {
            let due = || self.received.get() * of >= said * self.expected.len();
            self.until(|| self.over.get() || due()).await;
        }
    }

    async fn until(&self, reached: impl Fn() -> bool) {
        while !reached() {
            self.heard.notified().await;
        }
    }
}
