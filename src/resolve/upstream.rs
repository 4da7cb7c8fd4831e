//! The resolver inbound endpoints: one hickory resolver each, fail-over and hedging by us.
//!
//! hickory's own pool gives up when the first of several servers is silent, and takes a SERVFAIL of
//! the first for the answer. Here every endpoint is asked on its own: the one that answered last
//! goes first, the next follows after a short while or a failure, and only a definite answer (an
//! address, or that there is none) ends the search.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_resolver::Resolver;
use hickory_resolver::config::{
    LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ServerOrderingStrategy,
};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::RData;
use tokio::task::JoinSet;

use super::runtime::TunnelRuntime;
use crate::name::ServerName;
use crate::tunnel::Tunnels;

/// All resolver inbound endpoints of a site.
#[derive(Debug)]
pub struct Upstream {
    servers: Vec<Arc<Server>>,
}

struct Server {
    address: SocketAddr,
    resolver: Resolver<TunnelRuntime>,
    healthy: AtomicBool,
    answers: AtomicU64,
    failures: AtomicU64,
    last_error: Mutex<Option<String>>,
    /// When it was last asked only to see whether it answers again.
    probed: Mutex<Option<Instant>>,
}

/// A definite answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The addresses; empty when the name does not exist or has no IPv4 address.
    pub(super) addresses: Vec<Ipv4Addr>,
    /// How long the answer is valid.
    pub(super) ttl: Duration,
    /// Who gave it.
    pub(super) resolver: SocketAddr,
}

/// Why there is no definite answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// Nobody answered in time.
    #[error("no resolver inbound endpoint answered in time")]
    Timeout,
    /// All that answered said that they could not tell.
    #[error("{0}")]
    Failed(String),
    /// A resolver could not be set up.
    #[error("cannot set up the resolver {0}: {1}")]
    SetUp(SocketAddr, String),
}

/// One resolver, for `status`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ResolverStatus {
    /// Its address.
    pub address: SocketAddr,
    /// Whether it answered the last time it was asked.
    pub healthy: bool,
    /// Questions it answered.
    pub answers: u64,
    /// Questions it did not answer, or not definitely.
    pub failures: u64,
    /// What went wrong last, while it is not healthy.
    pub last_error: Option<String>,
}

impl Upstream {
    /// Sets up a resolver for each inbound endpoint. Sends nothing yet.
    ///
    /// # Errors
    /// [`UpstreamError::SetUp`].
    pub fn new(inbound: &[SocketAddr], tunnels: &Arc<Tunnels>) -> Result<Self, UpstreamError> {
        let servers = inbound.iter().map(|address| Server::new(*address, tunnels).map(Arc::new));
        Ok(Self { servers: servers.collect::<Result<_, _>>()? })
    }

    /// Asks for the IPv4 addresses of a name.
    pub(super) async fn ask(&self, name: &ServerName) -> Result<Answer, UpstreamError> {
        let mut waiting: Vec<Arc<Server>> = self.servers.clone();
        // A stable sort: among healthy ones the configured order stays.
        waiting.sort_by_key(|server| !server.healthy.load(Ordering::Relaxed));
        let mut waiting = waiting.into_iter();
        let mut asked: JoinSet<Result<Answer, UpstreamError>> = JoinSet::new();
        let mut last = UpstreamError::Timeout;
        let deadline = tokio::time::sleep(DEADLINE);
        tokio::pin!(deadline);
        loop {
            if let Some(server) = waiting.next() {
                let name = name.clone();
                asked.spawn(async move { server.ask(&name).await });
            } else if asked.is_empty() {
                return Err(last);
            }
            let hedge = async {
                if waiting.len() == 0 {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(HEDGE).await;
            };
            tokio::select! {
                () = &mut deadline => {
                    asked.detach_all();
                    return Err(UpstreamError::Timeout);
                }
                () = hedge => {}
                Some(done) = asked.join_next() => match done {
                    Ok(Ok(answer)) => {
                        waiting.for_each(|server| server.probe_if_due(name));
                        return Ok(answer);
                    }
                    Ok(Err(error)) => last = worse(last, error),
                    Err(_) => {}
                },
            }
        }
    }

    /// Each resolver with its state, in configured order.
    pub fn status(&self) -> Vec<ResolverStatus> {
        self.servers.iter().map(|server| server.status()).collect()
    }
}

impl Server {
    fn new(address: SocketAddr, tunnels: &Arc<Tunnels>) -> Result<Self, UpstreamError> {
        let mut server = NameServerConfig::udp_and_tcp(address.ip());
        for connection in &mut server.connections {
            connection.port = address.port();
        }
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let mut builder =
            Resolver::builder_with_config(config, TunnelRuntime::new(Arc::clone(tunnels)));
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4Only;
        options.use_hosts_file = ResolveHosts::Never;
        options.ndots = 0;
        options.attempts = 1;
        options.timeout = ATTEMPT;
        options.cache_size = 0;
        options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
        let resolver =
            builder.build().map_err(|error| UpstreamError::SetUp(address, error.to_string()))?;
        Ok(Self {
            address,
            resolver,
            healthy: AtomicBool::new(true),
            answers: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            last_error: Mutex::new(None),
            probed: Mutex::new(None),
        })
    }

    /// Asks a resolver that was away whether it is back. While another one answers, nobody else
    /// asks it, and it would count as away for ever.
    fn probe_if_due(self: Arc<Self>, name: &ServerName) {
        if self.healthy.load(Ordering::Relaxed) {
            return;
        }
        let mut probed = self.probed.lock().unwrap_or_else(PoisonError::into_inner);
        if probed.is_some_and(|at| at.elapsed() < PROBE_PAUSE) {
            return;
        }
        *probed = Some(Instant::now());
        drop(probed);
        let name = name.clone();
        // The outcome is noted; the answer itself is not needed.
        tokio::spawn(async move { self.ask(&name).await.is_ok() });
    }

    async fn ask(&self, name: &ServerName) -> Result<Answer, UpstreamError> {
        // A final dot keeps search domains out of it.
        let outcome = match self.resolver.lookup_ip(format!("{name}.")).await {
            Ok(found) => Ok(Answer {
                addresses: found
                    .as_lookup()
                    .answers()
                    .iter()
                    .filter_map(|record| match record.data {
                        RData::A(address) => Some(address.0),
                        _ => None,
                    })
                    .collect(),
                ttl: found.valid_until().saturating_duration_since(Instant::now()),
                resolver: self.address,
            }),
            // A definite "there is none": NXDOMAIN, or no record of this type. Anything else that
            // hickory reports so (SERVFAIL, REFUSED) means only that this server cannot tell.
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) if definite(&none) => {
                Ok(Answer { addresses: Vec::new(), ttl: NEGATIVE, resolver: self.address })
            }
            Err(NetError::Timeout) => Err(UpstreamError::Timeout),
            Err(error) => Err(UpstreamError::Failed(format!("{}: {error}", self.address))),
        };
        self.note(&outcome);
        outcome
    }

    fn note(&self, outcome: &Result<Answer, UpstreamError>) {
        let mut last_error = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        let healthy = outcome.is_ok();
        *last_error = outcome.as_ref().err().map(ToString::to_string);
        let counter = if healthy { &self.answers } else { &self.failures };
        counter.fetch_add(1, Ordering::Relaxed);
        if self.healthy.swap(healthy, Ordering::Relaxed) != healthy {
            let resolver = self.address;
            match &*last_error {
                None => tracing::info!(%resolver, "a resolver answers again"),
                Some(error) => tracing::warn!(%resolver, %error, "a resolver does not answer"),
            }
        }
    }

    fn status(&self) -> ResolverStatus {
        let last_error = self.last_error.lock().unwrap_or_else(PoisonError::into_inner);
        ResolverStatus {
            address: self.address,
            healthy: self.healthy.load(Ordering::Relaxed),
            answers: self.answers.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            last_error: last_error.clone(),
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

fn definite(none: &hickory_resolver::net::NoRecords) -> bool {
    use hickory_resolver::proto::op::ResponseCode;
    matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError)
}

/// Keeps the error that says more.
fn worse(first: UpstreamError, second: UpstreamError) -> UpstreamError {
    match second {
        UpstreamError::Timeout => first,
        said => said,
    }
}

/// All resolvers together. Shorter than the 3 s after which Greengrass gives up a connection.
const DEADLINE: Duration = Duration::from_millis(1_500);
/// One resolver's one attempt.
const ATTEMPT: Duration = Duration::from_millis(700);
/// When the next resolver is asked as well.
const HEDGE: Duration = Duration::from_millis(150);
/// How often a resolver that is away is asked beside the others.
const PROBE_PAUSE: Duration = Duration::from_secs(2);
/// How long "there is no such name" is believed.
const NEGATIVE: Duration = Duration::from_secs(5);
