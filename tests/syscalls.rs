//! What the gate asks of the kernel, counted: a figure that does not depend on how busy the machine is.
//!
//! `strace` counts the system calls of the gate's one data thread. Waiting is left out: how many events
//! one `epoll_wait` brings, and how often a lock is waited for, depends on the machine.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails must fail")]

#[path = "support/client_hello.rs"]
mod client_hello;
#[path = "support/echo.rs"]
mod echo;
#[path = "support/gate.rs"]
mod gate;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use sluicegate::lab::{Daemon, Lab, inside};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use echo::flows;
use gate::{lab, start_with, until};

/// System calls by name.
type Calls = BTreeMap<String, u64>;

#[test]
fn a_flow_and_a_message_cost_no_more_system_calls_than_they_did() {
    inside::test("a_flow_and_a_message_cost_no_more_system_calls_than_they_did", || {
        let lab = lab();
        let daemon = start_with(&lab, &echo::config(&lab));
        echo::answer(&lab, &Arc::new(Semaphore::new(0)));
        // The first flows open what is opened once.
        flows(&lab, 4, 1);
        let few = counted(&lab, &daemon, |lab| flows(lab, 4, 1));
        let flow = per(&counted(&lab, &daemon, |lab| flows(lab, 24, 1)), &few, 20);
        let message = per(&counted(&lab, &daemon, |lab| flows(lab, 4, 51)), &few, 200);
        println!("for each flow: {flow:?}\nfor each message and its answer: {message:?}");
        within("a flow", &flow, FLOW);
        within("a message and its answer", &message, MESSAGE);
    });
}

#[test]
fn a_stream_costs_no_more_system_calls_than_it_did() {
    inside::test("a_stream_costs_no_more_system_calls_than_it_did", || {
        let lab = lab();
        let daemon = start_with(&lab, &echo::config(&lab));
        let pieces = Arc::new(Semaphore::new(1));
        echo::answer(&lab, &pieces);
        let flow = lab.device(1).run(async || {
            let mut flow = echo::open_to(echo::BULK).await.unwrap();
            flow.read_exact(&mut [0; echo::PIECE]).await.unwrap();
            flow
        });
        // By then the engine knows that this is a stream.
        let flow = stream(&lab, &daemon, &pieces, flow, 16);
        let stream = counted(&lab, &daemon, |lab| {
            drop(stream(lab, &daemon, &pieces, flow, PIECES));
        });
        let none = counted(&lab, &daemon, |_| {});
        let pieces = u64::try_from(PIECES).unwrap();
        let stream: BTreeMap<_, _> = per(&stream, &none, pieces);
        println!("for each piece of a stream: {stream:?}");
        within("a piece of a stream", &stream, PIECE);
    });
}

/// Has the endpoint send so many pieces, and reads them. Each is in the gate's socket as a whole before
/// the gate may touch it: how much one wake-up finds would depend on the machine.
fn stream(
    lab: &Lab,
    daemon: &Daemon,
    pieces: &Semaphore,
    mut flow: TcpStream,
    count: usize,
) -> TcpStream {
    for _ in 0..count {
        until("the gate to rest", || rests(daemon).then_some(()));
        daemon.signal(Signal::STOP).unwrap();
        // `t` where strace looks on.
        until("the gate to stop", || matches!(state(daemon), 'T' | 't').then_some(()));
        pieces.add_permits(1);
        until("a piece in the gate's socket", || (waiting(daemon) == echo::PIECE).then_some(()));
        daemon.signal(Signal::CONT).unwrap();
        flow = lab.device(1).run(async move || {
            flow.read_exact(&mut [0; echo::PIECE]).await.unwrap();
            flow
        });
    }
    flow
}

/// Whether the data thread waits, and goes on waiting.
fn rests(daemon: &Daemon) -> bool {
    (0..4).all(|_| {
        std::thread::sleep(Duration::from_millis(2));
        state(daemon) == 'S'
    })
}

/// The data thread's state (proc_pid_stat(5)).
fn state(daemon: &Daemon) -> char {
    let stat = format!("/proc/{}/task/{}/stat", daemon.pid(), data_thread(daemon));
    let stat = std::fs::read_to_string(stat).unwrap();
    stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
}

/// Bytes that wait in the gate's sockets to the endpoint of streams (proc_net_tcp.rst: the remote
/// address is the third field, the queues are the fifth).
fn waiting(daemon: &Daemon) -> usize {
    let table = std::fs::read_to_string(format!("/proc/{}/net/tcp", daemon.pid())).unwrap();
    let remote = format!(":{:04X}", echo::BULK);
    let queued = |line: &str| {
        let mut fields = line.split_whitespace().skip(2);
        let is_ours = fields.next()?.ends_with(&remote);
        let (_, received) = fields.nth(1)?.split_once(':')?;
        is_ours.then(|| usize::from_str_radix(received, 16).ok())?
    };
    table.lines().filter_map(queued).sum()
}

/// The system calls of the data thread while `work` is done.
fn counted(lab: &Lab, daemon: &Daemon, work: impl FnOnce(&Lab)) -> Calls {
    let thread = data_thread(daemon).to_string();
    let counts = lab.directory().join("counts");
    let _ = std::fs::remove_file(&counts);
    let args = ["-c", "-U", "calls,name", "-o", counts.to_str().unwrap(), "-p", &thread];
    let strace = lab.start_process(lab.edge(), "strace", &args).unwrap_or_else(|e| panic!("{e}"));
    until("strace to be attached", || strace.said().contains("attached").then_some(()));
    work(lab);
    strace.signal(Signal::INT).unwrap();
    until("strace to end", || strace.ended().unwrap());
    let text = std::fs::read_to_string(&counts).unwrap();
    let line = |line: &str| {
        let (count, name) = line.trim().split_once(char::is_whitespace)?;
        Some((name.trim().to_owned(), count.parse().ok()?))
    };
    let mut calls: Calls = text.lines().filter_map(line).collect();
    calls.retain(|name, _| !OTHERWISE.contains(&name.as_str()));
    calls
}

fn data_thread(daemon: &Daemon) -> u32 {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    let is_data = |task: &std::fs::DirEntry| {
        std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "data-0")
    };
    let task = tasks.flatten().find(is_data).expect("a data thread");
    task.file_name().to_string_lossy().parse().unwrap()
}

/// What one of `times` more adds, rounded to hundredths.
fn per(many: &Calls, few: &Calls, times: u64) -> BTreeMap<String, f64> {
    let more = |(name, count): (&String, &u64)| {
        let more = count.saturating_sub(few.get(name).copied().unwrap_or_default());
        let hundredths = u32::try_from(more * 100 / times).unwrap();
        (hundredths > 0).then(|| (name.clone(), f64::from(hundredths) / 100.0))
    };
    many.iter().filter(|(name, _)| *name != "total").filter_map(more).collect()
}

fn within(what: &str, calls: &BTreeMap<String, f64>, most: f64) {
    let sum: f64 = calls.values().sum();
    assert!(sum <= most * TOLERANCE, "{what} takes {sum} system calls, not {most}: {calls:?}");
}

/// What depends on the machine: waiting and waking, and randomness, which a record's number asks for anew
/// in each millisecond. A debug build checks each descriptor before it closes it (`fcntl`).
const OTHERWISE: [&str; 7] =
    ["epoll_wait", "epoll_pwait", "futex", "restart_syscall", "write", "getrandom", "fcntl"];
/// System calls of a flow with one message.
const FLOW: f64 = 42.0;
/// System calls of one message and its answer: a read and a write each way.
const MESSAGE: f64 = 4.0;
/// System calls of 48 KiB of a stream, so 64 of a MiB that comes in such pieces.
const PIECE: f64 = 3.0;
const PIECES: usize = 100;
const TOLERANCE: f64 = 1.02;
