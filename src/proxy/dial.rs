//! The connection through the tunnel.
//!
//! [`dial`] is the only function of the program that opens an egress socket for a device, and it
//! takes nothing but [`Endpoints`]. Several addresses are raced (RFC 8305, happy eyeballs): the next
//! one starts a quarter of a second after the last, or at once when one fails.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::net::TcpStream;

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
    pub(super) interface: InterfaceName,
    pub(super) took: Duration,
}

/// Why there is none.
#[derive(Debug)]
pub(super) struct DialFailed {
    pub(super) reason: Reason,
    pub(super) detail: String,
}

/// What a thread remembers of addresses that did not answer, so that not every flow waits for a
/// dead zone anew.
#[derive(Debug, Default)]
pub(super) struct DialMemory {
    failed: RefCell<HashMap<SocketAddr, Instant>>,
}

impl DialMemory {
    fn note(&self, address: SocketAddr, outcome: Outcome) {
        let mut failed = self.failed.borrow_mut();
        match outcome {
            Outcome::Connected => {
                failed.remove(&address);
            }
            Outcome::Failed => {
                if failed.len() >= MOST_REMEMBERED {
                    failed.clear();
                }
                failed.insert(address, Instant::now());
            }
        }
    }

    fn is_doubtful(&self, address: SocketAddr) -> bool {
        let failed = self.failed.borrow();
        failed.get(&address).is_some_and(|at| at.elapsed() < DOUBTFUL_FOR)
    }
}

#[derive(Clone, Copy, Debug)]
enum Outcome {
    Connected,
    Failed,
}

/// Connects to one of the endpoint's ENIs within [`BUDGET`] and before the deadline. `turn` spreads flows over the ENIs.
pub(super) async fn dial(
    endpoints: &Endpoints,
    tunnels: &Tunnels,
    memory: &DialMemory,
    turn: usize,
    deadline: tokio::time::Instant,
) -> Result<Dialed, DialFailed> {
    let ways: Vec<Way> = tunnels.up().cloned().collect();
    if ways.is_empty() {
        let detail = "every tunnel interface is down or missing".to_owned();
        return Err(DialFailed { reason: Reason::TunnelDown, detail });
    }
    let candidates = candidates(endpoints, &ways, memory, turn);
    let began = Instant::now();
    let mut failures = Failures::default();
    let racing = race(candidates, memory, &mut failures);
    let deadline = deadline.min(tokio::time::Instant::now() + BUDGET);
    match tokio::time::timeout_at(deadline, racing).await {
        Ok(Some((endpoint, way, stream))) => {
            let local = stream.local_addr().map_err(|error| failed_local(&error))?;
            let (interface, took) = (way.interface, began.elapsed());
            Ok(Dialed { stream, endpoint, local, interface, took })
        }
        Ok(None) => Err(failures.explain("failed")),
        Err(_) => {
            for endpoint in endpoints.list() {
                memory.note(endpoint.address(), Outcome::Failed);
            }
            Err(failures.explain("did not answer in time"))
        }
    }
}

/// Every address by the best tunnel first, then by the next; addresses that failed lately last.
fn candidates(
    endpoints: &Endpoints,
    ways: &[Way],
    memory: &DialMemory,
    turn: usize,
) -> Vec<(Endpoint, Way)> {
    let list = endpoints.list();
    let mut order: Vec<Endpoint> =
        list.iter().cycle().skip(turn % list.len().max(1)).take(list.len()).cloned().collect();
    order.sort_by_key(|endpoint| memory.is_doubtful(endpoint.address()));
    ways.iter()
        .flat_map(|way| order.iter().map(|endpoint| (endpoint.clone(), way.clone())))
        .collect()
}

async fn race(
    candidates: Vec<(Endpoint, Way)>,
    memory: &DialMemory,
    failures: &mut Failures,
) -> Option<(Endpoint, Way, TcpStream)> {
    let mut waiting = candidates.into_iter();
    let mut attempts = FuturesUnordered::new();
    loop {
        match waiting.next() {
            Some((endpoint, way)) => attempts.push(attempt(endpoint, way)),
            None if attempts.is_empty() => return None,
            None => {}
        }
        let next = async {
            if waiting.len() == 0 {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(STAGGER).await;
        };
        tokio::select! {
            () = next => {}
            Some((endpoint, way, outcome)) = attempts.next() => match outcome {
                Ok(stream) => {
                    memory.note(endpoint.address(), Outcome::Connected);
                    return Some((endpoint, way, stream));
                }
                Err(error) => {
                    memory.note(endpoint.address(), Outcome::Failed);
                    failures.add(endpoint.address(), &way, &error);
                }
            },
        }
    }
}

async fn attempt(endpoint: Endpoint, way: Way) -> (Endpoint, Way, io::Result<TcpStream>) {
    let outcome = match socket::tunnel_tcp(&way) {
        Ok(socket) => socket.connect(endpoint.address()).await,
        Err(error) => Err(error),
    };
    (endpoint, way, outcome)
}

#[derive(Debug, Default)]
struct Failures {
    refused: usize,
    no_way: usize,
    texts: Vec<String>,
}

impl Failures {
    fn add(&mut self, address: SocketAddr, way: &Way, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => self.refused += 1,
            _ if matches!(error.raw_os_error(), Some(ENODEV | ENETDOWN)) => self.no_way += 1,
            _ => {}
        }
        self.texts.push(format!("{address} by {}: {error}", way.interface));
    }

    fn explain(&self, otherwise: &str) -> DialFailed {
        let tried = self.texts.len();
        let reason = if tried > 0 && self.no_way == tried {
            Reason::TunnelDown
        } else if self.refused > 0 {
            Reason::EndpointRefused
        } else {
            Reason::EndpointUnreachable
        };
        let detail = if self.texts.is_empty() {
            format!("no address of the endpoint answered: they {otherwise}")
        } else {
            self.texts.join("; ")
        };
        DialFailed { reason, detail }
    }
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
