//! Devices' DNS under load: the real daemon, answers from its book, latency as a device sees it.
//!
//! First at a fixed rate, whether or not answers come (5,000 questions a second), then as fast as 64
//! questions at a time are answered.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a benchmark may panic, and its numbers are small"
)]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sluicegate::lab::services::{BUCKET, IOT_DATA, REGISTRY};
use sluicegate::lab::topology::BOX_LAN;
use sluicegate::lab::{Daemon, Lab, inside};

fn main() -> ExitCode {
    if !inside::is_inside() {
        return ExitCode::from(inside::reexec_self(None).unwrap_or_else(|error| panic!("{error}")));
    }
    let lab = Lab::up().unwrap_or_else(|error| panic!("{error}"));
    let further = "listen = \"lan\"\nqueries-per-second = 1000000";
    let config = lab.daemon_config().replace("listen = \"off\"", further);
    let daemon = lab.start_daemon(Path::new(env!("CARGO_BIN_EXE_sluicegate")), &config);
    let daemon = daemon.unwrap_or_else(|error| panic!("{error}"));
    until_answered(&lab);
    report("5,000/s", &daemon, || lab.device(1).run(async || paced(RATE, SECONDS)));
    report("64 at a time", &daemon, || lab.device(1).run(async || closed(64, SECONDS)));
    ExitCode::SUCCESS
}

/// What a run has seen.
struct Seen {
    asked: u64,
    /// Microseconds, sorted.
    latencies: Vec<u64>,
    took: Duration,
}

fn report(what: &str, daemon: &Daemon, run: impl FnOnce() -> Seen) {
    let before = cpu(daemon);
    let seen = run();
    let used = cpu(daemon).saturating_sub(before);
    let answered = seen.latencies.len();
    let at = |per_mille: usize| seen.latencies[(answered * per_mille / 1_000).min(answered - 1)];
    let seconds = seen.took.as_secs_f64();
    println!(
        "{what}: asked {}, answered {answered} ({:.0}/s), p50 {} us, p99 {} us, p99.9 {} us, max {} us; \
         DNS thread {:.0} % of one core, {:.1} us a question",
        seen.asked,
        answered as f64 / seconds,
        at(500),
        at(990),
        at(999),
        at(1_000),
        used.as_secs_f64() / seconds * 100.0,
        used.as_secs_f64() * 1e6 / answered as f64,
    );
}

/// Asks at a fixed rate from one thread, and listens on another.
fn paced(rate: u32, seconds: u32) -> Seen {
    let socket = connected();
    let sent: Arc<Vec<AtomicU64>> = Arc::new((0..=u16::MAX).map(|_| AtomicU64::new(0)).collect());
    let start = Instant::now();
    let (asked, times) = (socket.try_clone().unwrap(), Arc::clone(&sent));
    let total = u64::from(rate) * u64::from(seconds);
    let sender = std::thread::spawn(move || {
        for number in 0..total {
            let due = Duration::from_secs_f64(number as f64 / f64::from(rate));
            std::thread::sleep(due.saturating_sub(start.elapsed()));
            let id = (number % 65_536) as u16;
            times[usize::from(id)].store(micros(start), Ordering::Release);
            asked.send(&question(id)).unwrap();
        }
    });
    let mut latencies = Vec::new();
    let mut buffer = [0; 1_232];
    while let Ok(size) = socket.recv(&mut buffer) {
        assert!(size > 12 && buffer[3] & 0x0f == 0 && buffer[7] >= 2, "an answer with addresses");
        let id = u16::from_be_bytes([buffer[0], buffer[1]]);
        latencies.push(micros(start) - sent[usize::from(id)].load(Ordering::Acquire));
        if latencies.len() as u64 == total {
            break;
        }
    }
    let took = start.elapsed();
    sender.join().unwrap();
    latencies.sort_unstable();
    Seen { asked: total, latencies, took }
}

/// Keeps so many questions under way.
fn closed(depth: u16, seconds: u32) -> Seen {
    let socket = connected();
    let start = Instant::now();
    let mut sent = vec![0; 65_536];
    let mut next = 0_u16;
    let mut ask = |sent: &mut Vec<u64>| {
        sent[usize::from(next)] = micros(start);
        socket.send(&question(next)).unwrap();
        next = next.wrapping_add(1);
    };
    (0..depth).for_each(|_| ask(&mut sent));
    let mut latencies = Vec::new();
    let mut buffer = [0; 1_232];
    while start.elapsed() < Duration::from_secs(u64::from(seconds)) {
        let Ok(_) = socket.recv(&mut buffer) else { break };
        let id = u16::from_be_bytes([buffer[0], buffer[1]]);
        latencies.push(micros(start) - sent[usize::from(id)]);
        ask(&mut sent);
    }
    latencies.sort_unstable();
    let asked = latencies.len() as u64 + u64::from(depth);
    Seen { asked, latencies, took: start.elapsed() }
}

fn connected() -> UdpSocket {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect(SocketAddr::new(IpAddr::V4(BOX_LAN), 53)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    socket
}

/// Asks for one of the device's names with an empty OPT record.
fn question(id: u16) -> Vec<u8> {
    let name = [IOT_DATA, BUCKET, REGISTRY][usize::from(id) % 3];
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    bytes
}

fn until_answered(lab: &Lab) {
    let ready = || lab.device(1).run(async || closed(1, 1)).latencies.len() > 100;
    assert!((0..20).any(|_| ready()), "the box answers");
}

/// What the daemon's DNS thread has used of the processor.
fn cpu(daemon: &Daemon) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    let ticks = tasks.filter_map(|task| {
        let stat = std::fs::read_to_string(task.ok()?.path().join("stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.split_once(") ")?;
        let fields: Vec<u64> = rest.split(' ').map(|field| field.parse().unwrap_or(0)).collect();
        (name == "dns").then(|| fields[11] + fields[12])
    });
    Duration::from_millis(ticks.sum::<u64>() * 1_000 / TICKS_PER_SECOND)
}

fn micros(since: Instant) -> u64 {
    since.elapsed().as_micros() as u64
}

const RATE: u32 = 5_000;
const SECONDS: u32 = 20;
/// `sysconf(_SC_CLK_TCK)` on every Linux.
const TICKS_PER_SECOND: u64 = 100;
