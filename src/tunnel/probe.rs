//! Asking through a tunnel whether anything answers.
//!
//! Each tunnel has one task. A round asks every resolver inbound endpoint over UDP; when none answers
//! within a quarter of a second, it also opens TCP connections to network interfaces of endpoints.
//! Any answer proves the path, also a refusal: so one resolver, one zone or one service that is down
//! never condemns a tunnel. Every socket is bound to the tunnel like that of a flow.

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::Notify;

use super::Tunnels;
use crate::net::socket::{self, Way};

/// Whom to ask.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    /// The resolver inbound endpoints.
    pub resolvers: Vec<SocketAddr>,
    /// Network interfaces of endpoints that the address guard has let pass.
    pub interfaces: Vec<SocketAddr>,
}

/// Watches every tunnel, in tasks of the calling runtime, for as long as somebody else keeps them.
pub fn watch(tunnels: &Arc<Tunnels>, targets: impl Fn() -> Targets + Clone + Send + 'static) {
    for (place, tunnel) in tunnels.tunnels.iter().enumerate() {
        let (tunnels, doubted) = (Arc::downgrade(tunnels), Arc::clone(&tunnel.doubted));
        tokio::spawn(keep_asking(tunnels, place, doubted, targets.clone()));
    }
}

async fn keep_asking(
    tunnels: Weak<Tunnels>,
    place: usize,
    doubted: Arc<Notify>,
    targets: impl Fn() -> Targets,
) {
    let mut turn = 0_usize;
    let mut asker = None;
    while let Some(way) = tunnels.upgrade().map(|tunnels| tunnels.askable(place)) {
        let mut pause = INTERVAL;
        if let Some(way) = way {
            turn = turn.wrapping_add(KNOCKS);
            let outcome = ask(&way, &mut asker, &targets(), turn).await;
            if outcome.is_err() {
                asker = None;
                pause = RETRY;
            }
            let Some(tunnels) = tunnels.upgrade() else { return };
            tunnels.note(place, &way, outcome);
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = doubted.notified() => tokio::time::sleep(DOUBT_PAUSE).await,
        }
    }
}

impl Tunnels {
    /// The way of a tunnel whose link is up.
    fn askable(&self, place: usize) -> Option<Way> {
        let (tunnel, paths) = (self.tunnels.get(place)?, self.paths());
        paths.get(place).filter(|path| path.may_ask()).map(|path| tunnel.way(path))
    }

    fn note(&self, place: usize, way: &Way, outcome: Result<Duration, Option<String>>) {
        // What was asked through an interface that is gone says nothing of the one in its place.
        let here = |at: usize, paths: &[super::Path]| {
            at == place && paths.get(at).is_some_and(|path| path.index() == way.index)
        };
        self.change(here, |path, _, now| match &outcome {
            Ok(latency) => path.answer(Some(*latency), now),
            Err(error) => path.silence(error.clone(), now),
        });
    }
}

/// One round: how long the first answer took, or that there was none, and what the system said.
async fn ask(
    way: &Way,
    asker: &mut Option<Asker>,
    targets: &Targets,
    turn: usize,
) -> Result<Duration, Option<String>> {
    let began = Instant::now();
    let mut said = None;
    let asking = async {
        let resolvers = query(way, asker, &targets.resolvers);
        let knocking = async {
            if !targets.resolvers.is_empty() {
                tokio::time::sleep(HEDGE).await;
            }
            knock(way, &targets.interfaces, turn).await
        };
        first(resolvers, knocking, &mut said).await
    };
    match tokio::time::timeout(ROUND, asking).await {
        Ok(true) => Ok(began.elapsed()),
        Ok(false) | Err(_) => Err(said.map(|error: io::Error| error.to_string())),
    }
}

/// A tunnel's socket for questions to resolvers. It is kept from round to round: to an answer that
/// comes when its socket is gone the kernel answers with an ICMP error, by whatever route.
struct Asker {
    way: Way,
    socket: tokio::net::UdpSocket,
}

/// Whether one of the two has an answer; errors are kept.
async fn first(
    one: impl Future<Output = io::Result<()>>,
    other: impl Future<Output = io::Result<()>>,
    said: &mut Option<io::Error>,
) -> bool {
    tokio::pin!(one, other);
    let (failed, rest) = tokio::select! {
        done = &mut one => match done {
            Ok(()) => return true,
            Err(error) => (error, other.await),
        },
        done = &mut other => match done {
            Ok(()) => return true,
            Err(error) => (error, one.await),
        },
    };
    if rest.is_ok() {
        return true;
    }
    // Silence says nothing that is worth repeating.
    *said = Some(failed).filter(|error| error.kind() != io::ErrorKind::TimedOut);
    false
}

/// Asks all resolvers the same question; any answer to it counts, whatever it says.
async fn query(way: &Way, asker: &mut Option<Asker>, resolvers: &[SocketAddr]) -> io::Result<()> {
    let kept = asker.take().filter(|asker| asker.way == *way);
    let kept = match kept {
        Some(kept) => kept,
        None => Asker { way: way.clone(), socket: socket::tunnel_udp(way)? },
    };
    let Asker { socket, .. } = asker.insert(kept);
    let number = RandomState::new().hash_one(Instant::now()).to_be_bytes();
    let [high, low, ..] = number;
    let question = question([high, low]);
    let mut failed = None;
    let mut asked = 0_usize;
    for resolver in resolvers {
        match socket.send_to(&question, resolver).await {
            Ok(_) => asked += 1,
            Err(error) => failed = Some(error),
        }
    }
    if asked == 0 {
        return Err(failed.unwrap_or_else(|| io::ErrorKind::TimedOut.into()));
    }
    let mut buffer = [0; LONGEST_ANSWER];
    loop {
        let (_, from) = socket.recv_from(&mut buffer).await?;
        if resolvers.contains(&from) && buffer.starts_with(&[high, low]) {
            return Ok(());
        }
    }
}

/// Opens connections side by side; one that is refused was answered too.
async fn knock(way: &Way, interfaces: &[SocketAddr], turn: usize) -> io::Result<()> {
    let count = interfaces.len();
    let places =
        (0..count.min(KNOCKS)).filter_map(|step| turn.wrapping_add(step).checked_rem(count));
    let mut knocks: FuturesUnordered<_> = places
        .filter_map(|place| interfaces.get(place))
        .map(async |to| socket::tunnel_tcp(way)?.connect(*to).await)
        .collect();
    let mut last = io::Error::from(io::ErrorKind::TimedOut);
    while let Some(outcome) = knocks.next().await {
        match outcome {
            Ok(stream) => {
                socket::reset_on_close(&stream);
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// `. SOA` with this number (RFC 1035 section 4.1): short, and in every resolver's cache.
fn question(number: [u8; 2]) -> Vec<u8> {
    let mut bytes = number.to_vec();
    // Recursion desired; one question.
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    // The root, SOA, IN.
    bytes.extend([0, 0, 6, 0, 1]);
    bytes
}

/// Between rounds while the last one had an answer.
const INTERVAL: Duration = Duration::from_secs(1);
/// And while it had none.
const RETRY: Duration = Duration::from_millis(200);
/// One round.
const ROUND: Duration = Duration::from_secs(1);
/// When network interfaces are asked as well.
const HEDGE: Duration = Duration::from_millis(250);
/// Many flows doubt a tunnel at the same time; one round answers them all.
const DOUBT_PAUSE: Duration = Duration::from_millis(50);
/// How many network interfaces are tried in one round; the next round goes on behind them.
const KNOCKS: usize = 8;
/// The first two bytes are enough.
const LONGEST_ANSWER: usize = 512;
