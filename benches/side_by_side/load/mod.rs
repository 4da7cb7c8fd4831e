//! The traffic that `compare` sends through each peer, and the server behind it.
//!
//! Both ends share the machine with what is measured, so they do as little as they can: one epoll
//! loop per thread and no runtime, bulk data from a block that is never written to, and `MSG_TRUNC`
//! to receive without a copy (tcp(7)). The sender does copy into the kernel, as a TLS library does:
//! pages lent by `sendfile` would fill a relay's pipe in other portions than real traffic.
//!
//! They speak TLS only as far as a gate looks at it: a ClientHello and a reply shaped like a
//! handshake. What follows is a private protocol, [`wire`].
//!
//! A client prints `start` when it is set up, waits for a byte `g`, and prints `end` when the
//! counted interval is over, before it closes what is open. Between the two the caller measures.
//! One that holds flows then prints `held` with their number and waits for `q`. Last comes one line
//! of JSON: `seconds` of the interval, and `bytes`, `pairs` or `flows` that went as they should;
//! `latency_us` of a pair, or of a flow up to its reply or end; of flows also how many `failed`, the
//! `failures` by kind, and how many were `abandoned` when the time was over; of refused ones their
//! `ends`; of held ones how many were `lost`.
//!
//! The crate root must have a module `client_hello`.

mod bulk;
mod churn;
mod client;
mod hold;
mod latency;
mod messages;
mod open;
mod poll;
mod server;
#[cfg(test)]
#[allow(
    dead_code,
    unused_imports,
    reason = "benches have this cfg too, but no harness that runs tests"
)]
mod tests;
mod wire;

#[allow(dead_code, reason = "only one of these hellos is sent")]
#[path = "../../samples/hellos.rs"]
mod hellos;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// `compare load`.
#[derive(Debug, Args)]
pub(crate) struct Load {
    #[command(subcommand)]
    end: End,
}

#[derive(Debug, Subcommand)]
enum End {
    /// Answer until killed; prints `ready` when it listens
    Server(Server),
    /// Make one kind of traffic and print what became of it
    Client(Client),
}

#[derive(Debug, Args)]
struct Server {
    /// Where to listen; may be given several times
    #[arg(long, required = true, value_name = "ADDR:PORT")]
    listen: Vec<SocketAddr>,
    #[arg(long, default_value = "2")]
    threads: NonZeroUsize,
}

#[derive(Clone, Debug, Args)]
struct Client {
    #[arg(long)]
    workload: Workload,
    #[arg(long, value_name = "ADDR:PORT")]
    to: SocketAddr,
    /// The server name in the ClientHello
    #[arg(long, value_name = "SNI")]
    name: String,
    /// Source addresses, used in turn; the kernel's choice if there are none
    #[arg(long, value_delimiter = ',', value_name = "ADDR")]
    from: Vec<IpAddr>,
    /// Flows in all, or at a time for `connect` and `deny`
    #[arg(long, default_value = "1")]
    flows: NonZeroUsize,
    /// How long to go on
    #[arg(long, value_parser = seconds, value_name = "SECONDS", conflicts_with = "count")]
    seconds: Option<Duration>,
    /// Message pairs, or flows for `connect` and `deny`
    #[arg(long)]
    count: Option<u64>,
    /// Bytes of a message
    #[arg(long, default_value = "64")]
    size: NonZeroUsize,
    /// Threads, at most one per flow
    #[arg(long, default_value = "2")]
    threads: NonZeroUsize,
    /// How a flow ends
    #[arg(long, default_value = "reset")]
    close: Close,
    /// What a refused flow must get
    #[arg(long, default_value = "alert")]
    refusal: Refusal,
    /// How long a flow may take until the reply, and bytes to move on
    #[arg(long, value_parser = seconds, default_value = "10", value_name = "SECONDS")]
    patience: Duration,
    /// Keep the flows of a storm open until `q`, as `idle` always does
    #[arg(long)]
    hold: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Workload {
    /// Receive for so many seconds
    BulkDown,
    /// Send for so many seconds
    BulkUp,
    /// Send a message and wait for one of the same size
    Messages,
    /// Connect, hello, reply, close
    Connect,
    /// Connect, hello, refusal
    Deny,
    /// Open flows, 64 at a time, and hold them
    Idle,
    /// Open all flows at once
    Storm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Close {
    /// With RST by the client: leaves nothing behind
    Reset,
    /// With FIN by the client first: its addresses must have ports enough for `TIME_WAIT`
    Client,
    /// With FIN by the server first
    Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Refusal {
    /// A TLS alert before the end
    Alert,
    /// An end, with or without an alert
    Any,
}

/// Runs one end.
///
/// A client that could do its work leaves with success, also when flows failed: they are in its
/// JSON by kind. Anything else is a sentence on standard error.
pub(crate) fn run(load: &Load) -> ExitCode {
    let done = raise_descriptors().and_then(|()| match &load.end {
        End::Server(server) => server::run(&server.listen, server.threads),
        End::Client(plan) => client::run(plan, &mut io::stdin().lock(), &mut io::stdout()),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("{sentence}");
            ExitCode::FAILURE
        }
    }
}

/// As many descriptors as the process may have.
fn raise_descriptors() -> Result<(), String> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
        .map_err(|error| format!("the limit of descriptors cannot be raised: {error}"))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
