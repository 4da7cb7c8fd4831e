//! Real loopback sockets on a real current-thread runtime; both peers live on the same thread as the
//! relay, so what a test sees depends on the order of events and not on a clock.

use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::Errno;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

use super::{
    End, Engine, FlowBytes, HALF_OPEN, Key, Legs, Onlooker, Onlookers, Owner, Reactor, RelayEnd,
    RelayPool,
};
use ride::relay;

mod ends;
mod onlookers;
mod pipes;
mod reactor;
mod ride;
mod streams;

/// A system call that fails as it does on sockets that cannot be spliced, or without kernel memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    SpliceIn,
    SpliceOut,
}

impl Fault {
    pub(super) fn strike(self, pool: &RelayPool) -> io::Result<()> {
        match pool.fault.get() {
            Some((fault, error)) if fault == self => Err(error.into()),
            _ => Ok(()),
        }
    }
}

const ENGINES: [Engine; 3] = [Engine::Adaptive, Engine::Copy, Engine::Splice];

/// What the relay works on.
struct Gate {
    device: TcpStream,
    endpoint: TcpStream,
    pool: Rc<RelayPool>,
    bytes: Rc<FlowBytes>,
}

/// The far ends of the gate's two sockets.
struct Peers {
    device: TcpStream,
    endpoint: TcpStream,
}

fn rig(pool: &Rc<RelayPool>) -> (Gate, Peers) {
    let (device, gate_device) = pair();
    let (endpoint, gate_endpoint) = pair();
    let bytes = Rc::default();
    let gate = Gate { device: gate_device, endpoint: gate_endpoint, pool: Rc::clone(pool), bytes };
    (gate, Peers { device, endpoint })
}

/// A connected pair of sockets.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    #[expect(clippy::disallowed_methods, reason = "loopback only")]
    let here = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (there, _) = listener.accept().unwrap();
    let ready = |socket: std::net::TcpStream| {
        socket.set_nonblocking(true).unwrap();
        socket.set_nodelay(true).unwrap();
        TcpStream::from_std(socket).unwrap()
    };
    (ready(here), ready(there))
}

impl Gate {
    /// Relays to the end and closes both sockets.
    async fn run(self) -> (RelayEnd, Rc<FlowBytes>) {
        let end = relay(&self.device, &self.endpoint, &self.pool, &self.bytes).await;
        (end, self.bytes)
    }
}

/// Runs a test on its own runtime; one that hangs fails.
fn run<T>(test: impl Future<Output = T>) -> T {
    runtime().block_on(async {
        tokio::time::timeout(Duration::from_secs(60), test).await.expect("the relay hangs")
    })
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Bytes that differ everywhere, so that a lost, doubled or swapped piece shows.
fn pattern(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state >> 7).to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// Reads until the stream ends, whichever way.
async fn read_all(socket: &mut TcpStream) -> (Vec<u8>, io::Result<()>) {
    let mut bytes = Vec::new();
    let end = socket.read_to_end(&mut bytes).await.map(drop);
    (bytes, end)
}

/// Closes with RST.
fn reset(socket: TcpStream) {
    SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Lets everything that is ready run, until nothing moves any more.
async fn settle(gate: impl Fn() -> u64) {
    let mut still = 0;
    let mut last = gate();
    while still < 300 {
        tokio::task::yield_now().await;
        let now = gate();
        still = if now == last { still + 1 } else { 0 };
        last = now;
    }
}

fn was_reset(end: &io::Result<()>) -> bool {
    matches!(end, Err(error) if error.kind() == io::ErrorKind::ConnectionReset)
}

async fn write_and_finish(socket: &mut TcpStream, bytes: &[u8]) {
    socket.write_all(bytes).await.unwrap();
    socket.shutdown().await.unwrap();
}
