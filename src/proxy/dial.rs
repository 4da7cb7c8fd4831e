//! The connection through the tunnel.
//!
//! [`dial`] is the only function of the program that opens an egress socket for a device, and it
//! takes nothing but [`Endpoints`]. Several addresses are raced (RFC 8305, happy eyeballs): the next
//! one starts a quarter of a second after the last, or at once when one fails.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::net::TcpStream;

use super::Rules;
use crate::config::InterfaceName;
use crate::net::socket::{self, Way};
use crate::reason::Reason;
use crate::resolve::{Endpoint, Endpoints};
use crate::tunnel::Tunnels;

/// An established connection to an ENI.
#[derive(Debug)]
pub(super) struct Dialed {
    pub(super) stream: TcpStream,
    pub(super) endpoint: Endpoint,
    pub(super) local: SocketAddr,
    pub(super) way: Way,
    pub(super) took: Duration,
}

/// Why there is none.
#[derive(Debug)]
pub(super) struct DialFailed {
    pub(super) reason: Reason,
    pub(super) detail: String,
}

/// What a thread remembers of ways that did not lead to an address, so that not every flow waits for
/// a dead zone or tunnel anew.
#[derive(Debug, Default)]
pub(super) struct DialMemory {
    failed: RefCell<HashMap<(InterfaceName, SocketAddr), Instant>>,
}

impl DialMemory {
    fn note(&self, candidate: &Candidate, outcome: Outcome) {
        let mut failed = self.failed.borrow_mut();
        match outcome {
            Outcome::Connected if failed.is_empty() => {}
            Outcome::Connected => {
                failed.remove(&candidate.key());
            }
            Outcome::Failed => {
                if failed.len() >= MOST_REMEMBERED {
                    failed.clear();
                }
                failed.insert(candidate.key(), Instant::now());
            }
        }
    }

    fn is_doubtful(&self, candidate: &Candidate) -> bool {
        let failed = self.failed.borrow();
        // Most of the time there is none, and a key is not for nothing.
        if failed.is_empty() {
            return false;
        }
        failed.get(&candidate.key()).is_some_and(|at| at.elapsed() < DOUBTFUL_FOR)
    }
}

#[derive(Clone, Copy, Debug)]
enum Outcome {
    Connected,
    Failed,
}

/// An address, and a tunnel to it.
#[derive(Clone, Debug)]
struct Candidate {
    endpoint: Endpoint,
    way: Way,
}

impl Candidate {
    fn key(&self) -> (InterfaceName, SocketAddr) {
        (self.way.interface.clone(), self.endpoint.address())
    }
}

/// Connects to one of the endpoint's ENIs within [`BUDGET`] and before the deadline. `turn` spreads
/// flows over the ENIs.
pub(super) async fn dial(
    endpoints: &Endpoints,
    rules: &Rules,
    memory: &DialMemory,
    turn: usize,
    deadline: tokio::time::Instant,
) -> Result<Dialed, DialFailed> {
    let tunnels = &*rules.tunnels;
    let ways = tunnels.up();
    if ways.is_empty() {
        return Err(DialFailed { reason: Reason::TunnelDown, detail: tunnels.why_none() });
    }
    let candidates = best_first(endpoints.list(), &ways, memory, turn, &rules.health.down());
    let began = Instant::now();
    let mut race = Race { candidates: &candidates, memory, started: 0, failures: Vec::new() };
    let deadline = deadline.min(tokio::time::Instant::now() + BUDGET);
    match tokio::time::timeout_at(deadline, race.run()).await {
        Ok(Some((Candidate { endpoint, way }, stream))) => {
            let local = stream.local_addr().map_err(|error| failed_local(&error))?;
            race.doubt(tunnels, Some(&way));
            Ok(Dialed { stream, endpoint, local, way, took: began.elapsed() })
        }
        Ok(None) => {
            race.doubt(tunnels, None);
            Err(explain(&race.failures, "failed"))
        }
        Err(_) => {
            race.note_silent(None);
            race.doubt(tunnels, None);
            Err(explain(&race.failures, "did not answer in time"))
        }
    }
}

/// Every address by every tunnel, those last that health calls down. None is left out: health may be
/// wrong, and a flow must not fail by it.
fn best_first(
    list: &[Endpoint],
    ways: &[Way],
    memory: &DialMemory,
    turn: usize,
    down: &BTreeSet<SocketAddr>,
) -> Vec<Candidate> {
    if down.is_empty() {
        return candidates(list, ways, memory, turn);
    }
    // Each part by itself: what answers is tried by the best tunnel first.
    let is_down = |endpoint: &Endpoint| down.contains(&endpoint.address());
    let (last, first): (Vec<_>, Vec<_>) = list.iter().cloned().partition(is_down);
    let mut all = candidates(&first, ways, memory, turn);
    all.extend(candidates(&last, ways, memory, turn));
    all
}

/// Every address by every tunnel. Each attempt differs from the one before in both, so that neither
/// a dead zone nor a dead tunnel costs more than one wait; the best tunnel is tried first. What
/// failed lately comes last.
fn candidates(list: &[Endpoint], ways: &[Way], memory: &DialMemory, turn: usize) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = (0..list.len())
        .flat_map(|round| {
            let from = round.wrapping_add(turn);
            let address = move |shift: usize| list.get(from.wrapping_add(shift) % list.len());
            ways.iter().enumerate().filter_map(move |(shift, way)| {
                Some(Candidate { endpoint: address(shift)?.clone(), way: way.clone() })
            })
        })
        .collect();
    candidates.sort_by_cached_key(|candidate| memory.is_doubtful(candidate));
    candidates
}

/// Attempts side by side: each begins a little after the last, or when one fails.
struct Race<'a> {
    candidates: &'a [Candidate],
    memory: &'a DialMemory,
    /// How many of them have been started, in their order.
    started: usize,
    failures: Vec<(&'a Candidate, io::Error)>,
}

impl<'a> Race<'a> {
    async fn run(&mut self) -> Option<(Candidate, TcpStream)> {
        let mut attempts = FuturesUnordered::new();
        loop {
            match self.candidates.get(self.started) {
                Some(candidate) => {
                    self.started += 1;
                    attempts.push(attempt(candidate));
                }
                None if attempts.is_empty() => return None,
                None => {}
            }
            let is_last = self.started == self.candidates.len();
            let next = async {
                if is_last {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(STAGGER).await;
            };
            tokio::select! {
                () = next => {}
                Some((candidate, outcome)) = attempts.next() => match outcome {
                    Ok(stream) => {
                        self.note_silent(Some(candidate));
                        self.memory.note(candidate, Outcome::Connected);
                        return Some((candidate.clone(), stream));
                    }
                    Err(error) => {
                        self.memory.note(candidate, Outcome::Failed);
                        self.failures.push((candidate, error));
                    }
                },
            }
        }
    }

    /// Has the tunnels looked at that were tried in vain.
    fn doubt(&self, tunnels: &Tunnels, winner: Option<&Way>) {
        for candidate in self.candidates.iter().take(self.started) {
            if winner.is_none_or(|winner| winner.interface != candidate.way.interface) {
                tunnels.doubt(&candidate.way.interface);
            }
        }
    }

    /// Remembers who had at least [`STAGGER`] more time than the winner and did not answer.
    fn note_silent(&self, winner: Option<&Candidate>) {
        let before =
            |candidate: &&Candidate| winner.is_none_or(|winner| !std::ptr::eq(*candidate, winner));
        for candidate in self.candidates.iter().take(self.started).take_while(before) {
            self.memory.note(candidate, Outcome::Failed);
        }
    }
}

async fn attempt(candidate: &Candidate) -> (&Candidate, io::Result<TcpStream>) {
    let outcome = match socket::tunnel_tcp(&candidate.way) {
        Ok(socket) => socket.connect(candidate.endpoint.address()).await,
        Err(error) => Err(error),
    };
    (candidate, outcome)
}

fn explain(failures: &[(&Candidate, io::Error)], otherwise: &str) -> DialFailed {
    let no_way =
        |error: &io::Error| matches!(error.raw_os_error(), Some(ENODEV | ENETDOWN | ENETUNREACH));
    let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    let reason = if failures.is_empty() {
        Reason::EndpointUnreachable
    } else if failures.iter().all(|(_, error)| no_way(error)) {
        Reason::TunnelDown
    } else if failures.iter().any(|(_, error)| refused(error)) {
        Reason::EndpointRefused
    } else {
        Reason::EndpointUnreachable
    };
    let texts: Vec<_> = failures
        .iter()
        .map(|(Candidate { endpoint, way }, error)| {
            format!("{} by {}: {error}", endpoint.address(), way.interface)
        })
        .collect();
    let detail = if texts.is_empty() {
        format!("no address of the endpoint answered: they {otherwise}")
    } else {
        texts.join("; ")
    };
    DialFailed { reason, detail }
}

fn failed_local(error: &io::Error) -> DialFailed {
    DialFailed { reason: Reason::EndpointUnreachable, detail: error.to_string() }
}

/// Below the 3 s after which a Greengrass core gives up.
const BUDGET: Duration = Duration::from_millis(2_500);
/// RFC 8305 section 5.
const STAGGER: Duration = Duration::from_millis(250);
const DOUBTFUL_FOR: Duration = Duration::from_secs(30);
const MOST_REMEMBERED: usize = 1_024;
const ENODEV: i32 = 19;
const ENETDOWN: i32 = 100;
const ENETUNREACH: i32 = 101;
