//! Thousands of flows of numbered words between devices and one echoing server, in step with a test.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};

use sluicegate::lab::device::{tcp_connect, tls10_hello};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::gate::SOON;

/// What the flows of a test do at the moment. They go from one to the next in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Act {
    /// Each has connected, had its first word echoed, and waits.
    Open,
    /// The talking ones always have words under way, the idle ones say nothing.
    Talk,
    /// Each has one more word echoed, then closes.
    Close,
}

/// Flows of one device to one name.
pub(crate) struct Group {
    pub(crate) to: SocketAddr,
    pub(crate) name: &'static str,
    /// How many; every other one talks.
    pub(crate) flows: usize,
    pub(crate) act: watch::Receiver<Act>,
    /// Hears of each flow that is open, and then of each that has talked.
    pub(crate) progress: Sender<()>,
}

/// A flow when it has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The device's port.
    pub(crate) port: u16,
    /// Bytes that the device sent, with the hello.
    pub(crate) sent: u64,
    /// Bytes that came back, each compared.
    pub(crate) received: u64,
    /// Whether it closed in order, as asked.
    pub(crate) end: Result<(), io::ErrorKind>,
}

impl Group {
    /// Opens the flows, lives them, and returns them when all have ended.
    pub(crate) async fn live(self) -> Vec<Ended> {
        let opening = Arc::new(Semaphore::new(OPENING));
        let hello: Arc<[u8]> = tls10_hello(self.name).into();
        let mut flows = JoinSet::new();
        for number in 0..self.flows {
            let place = Arc::clone(&opening).acquire_owned().await.unwrap();
            let (to, hello) = (self.to, Arc::clone(&hello));
            let (act, progress) = (self.act.clone(), self.progress.clone());
            flows.spawn_local(async move {
                let mut flow = Flow::open(to, &hello).await;
                drop(place);
                progress.send(()).unwrap();
                let end = match number % 2 {
                    0 => flow.talk(act, &progress).await,
                    _ => flow.idle(act).await,
                };
                flow.ended(end)
            });
        }
        flows.join_all().await
    }
}

/// One flow, at the device's end. Its words are numbers one after the other, so that nothing can be
/// missing, twice or elsewhere unnoticed.
struct Flow {
    stream: TcpStream,
    port: u16,
    hello: u64,
    sent: u64,
    received: u64,
}

impl Flow {
    async fn open(to: SocketAddr, hello: &[u8]) -> Self {
        let mut stream = tcp_connect(to, SOON).await.unwrap();
        let port = stream.local_addr().unwrap().port();
        stream.write_all(hello).await.unwrap();
        let mut flow = Self { stream, port, hello: hello.len() as u64, sent: 0, received: 0 };
        flow.word_and_back().await.unwrap_or_else(|error| panic!("port {port}: {error}"));
        flow
    }

    /// Has words under way until it is told to close.
    async fn talk(
        &mut self,
        mut act: watch::Receiver<Act>,
        progress: &Sender<()>,
    ) -> io::Result<()> {
        act.wait_for(|act| *act >= Act::Talk).await.map_err(nobody_left)?;
        self.send(WINDOW).await?;
        self.send(WINDOW).await?;
        self.receive(WINDOW).await?;
        progress.send(()).unwrap();
        while *act.borrow() == Act::Talk {
            self.send(WINDOW).await?;
            self.receive(WINDOW).await?;
        }
        self.receive(WINDOW).await?;
        self.close().await
    }

    /// Says nothing until it is told to close, but notices when the flow ends before.
    async fn idle(&mut self, mut act: watch::Receiver<Act>) -> io::Result<()> {
        tokio::select! {
            told = act.wait_for(|act| *act == Act::Close) => drop(told.map_err(nobody_left)?),
            unasked = self.stream.read_u8() => {
                panic!("port {}: nobody has said {}", self.port, unasked?);
            }
        }
        self.close().await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.word_and_back().await?;
        assert_eq!(self.received, self.sent);
        self.stream.shutdown().await?;
        let rest = soon(self.stream.read(&mut [0])).await?;
        assert_eq!(rest, 0, "more than was said");
        Ok(())
    }

    async fn word_and_back(&mut self) -> io::Result<()> {
        self.send(1).await?;
        self.receive(1).await
    }

    async fn send(&mut self, words: u64) -> io::Result<()> {
        soon(self.stream.write_all(&numbered(self.sent, words))).await?;
        self.sent += words;
        Ok(())
    }

    async fn receive(&mut self, words: u64) -> io::Result<()> {
        let expected = numbered(self.received, words);
        let mut came = vec![0; expected.len()];
        soon(self.stream.read_exact(&mut came)).await?;
        assert!(came == expected, "port {}: other words behind {}", self.port, self.received);
        self.received += words;
        Ok(())
    }

    fn ended(self, end: io::Result<()>) -> Ended {
        Ended {
            port: self.port,
            sent: self.hello + self.sent * WORD,
            received: self.received * WORD,
            end: end.map_err(|error| error.kind()),
        }
    }
}

/// The words behind the first `from`.
fn numbered(from: u64, words: u64) -> Vec<u8> {
    (from..from + words).flat_map(u64::to_le_bytes).collect()
}

/// What the server has met.
#[derive(Clone, Debug, Default)]
pub(crate) struct Met {
    closed: Arc<AtomicUsize>,
    broken: Arc<Mutex<BTreeMap<io::ErrorKind, usize>>>,
}

impl Met {
    /// Connections that were closed in order.
    pub(crate) fn closed(&self) -> usize {
        self.closed.load(Ordering::Relaxed)
    }

    /// Connections that were not, by what became of them.
    pub(crate) fn broken(&self) -> BTreeMap<io::ErrorKind, usize> {
        self.broken.lock().unwrap().clone()
    }

    fn note(&self, end: io::Result<()>) {
        match end {
            Ok(()) => _ = self.closed.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                *self.broken.lock().unwrap().entry(error.kind()).or_default() += 1;
            }
        }
    }
}

/// Listens, and sends back whatever comes behind a hello.
pub(crate) async fn echo_at(at: SocketAddr) -> Met {
    let listener = TcpListener::bind(at).await.unwrap();
    let met = Met::default();
    let noted = met.clone();
    tokio::task::spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let met = noted.clone();
            tokio::task::spawn_local(async move { met.note(echo(stream).await) });
        }
    });
    met
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    // One record: type, version, and the length of the rest (RFC 8446 section 5.1).
    let mut header = [0; 5];
    stream.read_exact(&mut header).await?;
    let rest = usize::from(u16::from_be_bytes([header[3], header[4]]));
    stream.read_exact(&mut vec![0; rest]).await?;
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return stream.shutdown().await,
            size => stream.write_all(&buffer[..size]).await?,
        }
    }
}

/// The test has failed already; thousands of panics on top would hide why.
fn nobody_left(_: watch::error::RecvError) -> io::Error {
    io::ErrorKind::Interrupted.into()
}

/// Lets nothing hang.
async fn soon<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(SOON, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Flows of a group that are being opened at the same time.
const OPENING: usize = 50;
/// Words that a talking flow sends at once; as many or twice as many are under way.
const WINDOW: u64 = 16;
/// The size of a word in bytes.
const WORD: u64 = 8;
