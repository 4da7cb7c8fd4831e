//! Devices that open flows of every fate, and the endpoint behind them.
//!
//! A device says in the first bytes behind its hello what the endpoint is to do, and from where it
//! comes: so both sides know what became of a flow without asking the log.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sluicegate::lab::device::tls10_hello;
use sluicegate::lab::party::Work;
use sluicegate::lab::services::{HISTORIAN, IOT_DATA, SPARE_OCTET};
use sluicegate::lab::topology::{DEVICES, ZONES};
use sluicegate::lab::{Daemon, Lab};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::gate::{ip, lab, run, start_with};

/// What becomes of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fate {
    ClosedByDevice,
    /// The device closes its half first, and still gets an answer.
    HalfClosed,
    ClosedByEndpoint,
    ResetByDevice,
    ResetByEndpoint,
    NameRefused,
    DeviceRefused,
    PortRefused,
    NotTls,
    NotListening,
}

use Fate::*;

/// In turn, but for those of [`SLOW`].
const FATES: [Fate; 19] = [
    ClosedByDevice,
    NameRefused,
    HalfClosed,
    ResetByDevice,
    ClosedByEndpoint,
    ClosedByDevice,
    NotTls,
    HalfClosed,
    ClosedByDevice,
    DeviceRefused,
    ClosedByEndpoint,
    ResetByEndpoint,
    ClosedByDevice,
    PortRefused,
    HalfClosed,
    ClosedByDevice,
    ResetByDevice,
    NameRefused,
    ClosedByEndpoint,
];

impl Fate {
    pub(crate) fn of(number: u64) -> Self {
        if number % SLOW == SLOW - 1 {
            return NotListening;
        }
        FATES[(number % FATES.len() as u64) as usize]
    }

    /// `activity_id` and `status_code` of its last record.
    pub(crate) fn recorded(self) -> (u64, &'static str) {
        match self {
            ClosedByDevice | HalfClosed => (2, "closed_by_device"),
            ClosedByEndpoint => (2, "closed_by_endpoint"),
            ResetByDevice => (3, "reset_by_device"),
            ResetByEndpoint => (3, "reset_by_endpoint"),
            NameRefused => (5, "name_not_allowed"),
            DeviceRefused => (5, "device_not_allowed"),
            PortRefused => (5, "port_not_allowed"),
            NotTls => (5, "not_tls"),
            NotListening => (4, "endpoint_refused"),
        }
    }

    /// What the endpoint is told.
    fn letter(self) -> u8 {
        match self {
            HalfClosed => b'h',
            ClosedByEndpoint => b'e',
            ResetByEndpoint => b'r',
            _ => b'd',
        }
    }
}

/// What devices and endpoint have seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Flows that went as they should, by fate.
    pub(crate) done: Mutex<HashMap<Fate, u64>>,
    /// Others, by what happened.
    pub(crate) strange: Mutex<HashMap<String, u64>>,
    /// Where the flows came from of which bytes reached the endpoint, and how often.
    pub(crate) reached: Mutex<HashMap<SocketAddrV4, u64>>,
    pub(crate) count: AtomicU64,
    next: AtomicU64,
    stop: AtomicBool,
}

/// A lab with its gate to be, and an endpoint of its own.
pub(crate) struct Plant {
    pub(crate) lab: Lab,
    pub(crate) seen: Arc<Seen>,
    pub(crate) config: String,
}

impl Plant {
    pub(crate) fn up() -> Self {
        let lab = lab();
        lab.zone().set_private(HISTORIAN, &[ENI]);
        // Two records of each flow in the kernel's tables would be too many.
        run(lab.vpc(), "nft", &["flush", "ruleset"]);
        let words = |text: String| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let add = words(format!("route add local {CROWD} dev lo"));
        run(lab.device(ROUTER), "ip", &add.iter().map(String::as_str).collect::<Vec<_>>());
        // The router asks for the gate's hardware address in its own name (arp_announce, ip-sysctl).
        run(lab.device(ROUTER), "sh", &["-c", "echo 2 > /proc/sys/net/ipv4/conf/all/arp_announce"]);
        ip(&lab, &format!("route add {CROWD} via {}", DEVICES[ROUTER].address));
        // Ports towards one endpoint are few: those of ended connections serve again (as in the
        // package's profile).
        let ports = "echo 1 > /proc/sys/net/ipv4/tcp_tw_reuse; \
                     echo '1024 65535' > /proc/sys/net/ipv4/ip_local_port_range";
        run(lab.edge(), "sh", &["-c", ports]);
        let crowd = format!(
            "\n[limits]\nnew-flows = 100000\ndevice-new-flows = 10000\nhellos = 10000\n\
             \n[[device]]\nname = \"crowd\"\naddress = \"{CROWD}\"\nallow = [\"historian\"]\n"
        );
        let config = lab.daemon_config() + &crowd;
        let seen = Arc::<Seen>::default();
        let noted = Arc::clone(&seen);
        lab.vpc().run(async move || {
            let listener = TcpListener::bind((ENI, 443)).await.unwrap();
            tokio::task::spawn_local(serve(listener, noted));
        });
        Self { lab, seen, config }
    }

    pub(crate) fn start(&self) -> Daemon {
        start_with(&self.lab, &self.config)
    }

    /// Opens so many flows, and waits until all have ended.
    pub(crate) fn flows(&self, count: u64) {
        self.load(count, AT_ONCE).join();
    }

    /// Opens flows until so many were opened, or [`Plant::stop`].
    pub(crate) fn load(&self, count: u64, at_once: usize) -> Work<()> {
        let seen = Arc::clone(&self.seen);
        self.lab.device(ROUTER).spawn(async move || {
            let hellos = Rc::new([HISTORIAN, "www.example.com", IOT_DATA].map(tls10_hello));
            let mut workers = tokio::task::JoinSet::new();
            for _ in 0..at_once {
                workers.spawn_local(work(Arc::clone(&seen), Rc::clone(&hellos), count));
            }
            workers.join_all().await;
        })
    }

    pub(crate) fn stop(&self) {
        self.seen.stop.store(true, Ordering::Relaxed);
    }
}

async fn work(seen: Arc<Seen>, hellos: Rc<[Vec<u8>; 3]>, count: u64) {
    while !seen.stop.load(Ordering::Relaxed) {
        let number = seen.next.fetch_add(1, Ordering::Relaxed);
        if number >= count {
            return;
        }
        let fate = Fate::of(number);
        let from = Ipv4Addr::from_bits(FIRST + (number % SOURCES) as u32);
        let lived = tokio::time::timeout(PATIENCE, live(from, fate, &hellos)).await;
        let strange = match lived {
            Ok(Ok(())) => {
                *seen.done.lock().unwrap().entry(fate).or_default() += 1;
                continue;
            }
            Ok(Err(error)) => format!("{fate:?}: {error}"),
            Err(_) => format!("{fate:?}: no end"),
        };
        *seen.strange.lock().unwrap().entry(strange).or_default() += 1;
        // The gate may be away.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// One flow, as the device sees it.
async fn live(from: Ipv4Addr, fate: Fate, hellos: &[Vec<u8>; 3]) -> io::Result<()> {
    let [historian, foreign, iot] = hellos;
    let (port, hello): (u16, &[u8]) = match fate {
        NameRefused => (443, foreign),
        DeviceRefused => (443, iot),
        PortRefused => (8883, historian),
        NotTls => (443, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
        NotListening => (8443, historian),
        _ => (443, historian),
    };
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let mut stream = socket.connect(SocketAddr::from((DIALLED, port))).await?;
    let SocketAddr::V4(own) = stream.local_addr()? else { return Err(wrong("an IPv4 address")) };
    let mut said = hello.to_vec();
    if matches!(fate.recorded().0, 2 | 3) {
        said.push(fate.letter());
        said.extend(own.ip().octets());
        said.extend(own.port().to_be_bytes());
    }
    stream.write_all(&said).await?;
    let mut answer = [0; REPLY.len()];
    match fate {
        NameRefused | DeviceRefused | PortRefused | NotTls | NotListening => {
            return match stream.read_to_end(&mut Vec::new()).await {
                Ok(0..=7) => Ok(()),
                Ok(_) => Err(wrong("an answer")),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
                Err(error) => Err(error),
            };
        }
        ResetByEndpoint => {
            return match stream.read_to_end(&mut Vec::new()).await {
                Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
                other => Err(wrong(&format!("{other:?} for a reset"))),
            };
        }
        _ => stream.read_exact(&mut answer).await?,
    };
    if fate == ResetByDevice {
        return stream.set_zero_linger();
    }
    if fate != ClosedByEndpoint {
        stream.shutdown().await?;
    }
    let rest = stream.read_to_end(&mut Vec::new()).await?;
    let expected = if fate == HalfClosed { LATE.len() } else { 0 };
    if rest == expected { Ok(()) } else { Err(wrong("bytes lost or added")) }
}

fn wrong(what: &str) -> io::Error {
    io::Error::other(what.to_owned())
}

async fn serve(listener: TcpListener, seen: Arc<Seen>) {
    loop {
        // One that was reset before it was accepted is none.
        let Ok((stream, _)) = listener.accept().await else { continue };
        tokio::task::spawn_local(answer(stream, Arc::clone(&seen)));
    }
}

/// One flow, as the endpoint sees it. What goes wrong here, the device sees.
async fn answer(mut stream: TcpStream, seen: Arc<Seen>) -> io::Result<()> {
    let mut header = [0; 5];
    stream.read_exact(&mut header).await?;
    let hello = usize::from(u16::from_be_bytes([header[3], header[4]]));
    let mut said = vec![0; hello + 7];
    stream.read_exact(&mut said).await?;
    let [letter, a, b, c, d, high, low] = said[hello..] else { return Ok(()) };
    let from = SocketAddrV4::new([a, b, c, d].into(), u16::from_be_bytes([high, low]));
    *seen.reached.lock().unwrap().entry(from).or_default() += 1;
    seen.count.fetch_add(1, Ordering::Relaxed);
    stream.write_all(REPLY).await?;
    match letter {
        b'r' => return stream.set_zero_linger(),
        b'e' => stream.shutdown().await?,
        _ => {}
    }
    stream.read_to_end(&mut Vec::new()).await?;
    if letter == b'h' {
        stream.write_all(LATE).await?;
    }
    stream.shutdown().await
}

/// One flow of so many finds nobody who listens: the gate tries for seconds.
pub(crate) const SLOW: u64 = 1_000;
/// Devices behind a device that is their router.
const CROWD: &str = "10.10.64.0/18";
const FIRST: u32 = Ipv4Addr::new(10, 10, 64, 1).to_bits();
const SOURCES: u64 = 4_001;
const ROUTER: usize = 1;
const ENI: Ipv4Addr = ZONES[0].address(SPARE_OCTET);
/// What devices dial.
const DIALLED: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 15);
const AT_ONCE: usize = 96;
const PATIENCE: Duration = Duration::from_secs(30);
const REPLY: &[u8] = &[22; 100];
const LATE: &[u8] = &[23; 2_000];
