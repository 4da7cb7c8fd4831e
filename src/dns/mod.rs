//! DNS for devices: names that policy allows a device, answered from the book that flows use.
//!
//! Questions come by TPROXY, as flows do, whatever resolver the device asks, and the answer comes
//! from the address that it asked. A name is answered where a flow to it would be granted, with the
//! addresses that the guard lets flows go to; all other names are refused. Nothing that a device asks
//! is sent anywhere, but for the plant's own zones to the plant's own servers (`forward`): an allowed
//! name is resolved by the book, which knows it from the policy. hickory gives the wire format; sockets are
//! the gate's own, because no other tells which address a datagram was sent to.
//!
//! One thread of its own, so that neither flows nor the control loop wait for it, or it for them.

mod cookie;
mod forward;
mod handler;
mod ledger;
mod message;
mod rates;
mod serve;
mod stats;

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::net::TcpListener;
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;

use crate::audit::Audit;
use crate::net::datagram::DeviceSocket;
use crate::net::neighbour::Neighbours;
use crate::net::netlink::Families;
use crate::net::socket::{self, DNS_V4, DNS_V6};
use crate::proxy::RulesInForce;

pub use stats::{DnsStats, DnsStatus};

use cookie::Cookies;
use handler::Handler;
use ledger::Due;
use serve::Sockets;

/// How the thread is set up.
#[derive(Clone, Debug)]
pub struct DnsOptions {
    /// What is allowed, and how it is resolved.
    pub rules: RulesInForce,
    /// Where questions are recorded.
    pub audit: Audit,
    /// Who devices are.
    pub neighbours: Arc<Neighbours>,
    /// Which address families devices use.
    pub families: Families,
}

/// The running DNS thread. It ends when this is dropped, or by [`DnsThread::finish`].
#[derive(Debug)]
pub struct DnsThread {
    stop: CancellationToken,
    stats: Arc<DnsStats>,
    thread: Option<JoinHandle<()>>,
}

impl DnsThread {
    /// Binds the sockets and starts the thread.
    ///
    /// # Errors
    /// One sentence: another program has the port, or the process may not.
    pub fn start(options: DnsOptions) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let stats: Arc<DnsStats> = Arc::default();
        let cookies = Cookies::new().map_err(|_| io::Error::other("no random numbers"))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut sockets = Vec::new();
        {
            let _context = runtime.enter();
            let addresses = match options.families {
                Families::V4 => vec![DNS_V4],
                Families::Both => vec![DNS_V4, DNS_V6],
            };
            for address in addresses {
                let address = SocketAddr::new(address, DNS_PORT);
                sockets.push(bind(address).map_err(|error| explain(address, &error))?);
            }
        }
        let (stopped, counted) = (stop.clone(), Arc::clone(&stats));
        let thread = std::thread::Builder::new().name("dns".to_owned()).spawn(move || {
            let DnsOptions { rules, audit, neighbours, .. } = options;
            let handler = Rc::new(Handler::new(rules, neighbours, cookies, counted));
            let work = run(handler, sockets, audit, stopped);
            LocalSet::new().block_on(&runtime, work);
        })?;
        Ok(Self { stop, stats, thread: Some(thread) })
    }

    /// Its counts.
    pub fn stats(&self) -> &Arc<DnsStats> {
        &self.stats
    }

    /// Whether it works no more, though nobody has told it to end.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends it, when what it has counted is with the log.
    pub fn finish(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the DNS thread panicked");
        }
    }
}

impl Drop for DnsThread {
    fn drop(&mut self) {
        self.end();
    }
}

fn bind(address: SocketAddr) -> io::Result<Sockets> {
    let udp = DeviceSocket::bind(address)?;
    socket::probe_port(address)?;
    Ok(Sockets { udp, tcp: TcpListener::from_std(socket::listen(address)?)? })
}

fn explain(address: SocketAddr, error: &io::Error) -> io::Error {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program has the port; have it listen on its own addresses only, or set \
             [dns] listen = \"off\""
        }
        io::ErrorKind::PermissionDenied => {
            "run as root or with CAP_NET_ADMIN and CAP_NET_BIND_SERVICE"
        }
        _ => "devices' DNS needs it",
    };
    io::Error::new(error.kind(), format!("cannot listen on {address}: {error}; {advice}"))
}

async fn run(handler: Rc<Handler>, sockets: Vec<Sockets>, audit: Audit, stop: CancellationToken) {
    for Sockets { udp, tcp } in sockets {
        tokio::task::spawn_local(serve::datagrams(Rc::clone(&handler), Rc::new(udp)));
        tokio::task::spawn_local(serve::connections(Rc::clone(&handler), tcp));
    }
    let mut rounds = tokio::time::interval(ledger::EVERY);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = rounds.tick() => record(&handler, &audit, Due::Ripe),
        }
    }
    record(&handler, &audit, Due::All);
}

/// Hands over to the log what is due.
fn record(handler: &Handler, audit: &Audit, which: Due) {
    let now = Instant::now();
    let mut ledger = handler.ledger.borrow_mut();
    let due = ledger.due(now, which);
    match audit.note_dns(&due) {
        Ok(()) => ledger.recorded(now, which),
        Err(error) => {
            tracing::warn!(kinds = due.len(), %error, "DNS questions are not recorded yet");
        }
    }
}

/// RFC 1035 section 4.2.
const DNS_PORT: u16 = 53;
