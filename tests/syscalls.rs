//! What the gate asks of the kernel, counted: a figure that does not depend on how busy the machine is.
//!
//! `strace` counts the system calls of the gate's one data thread. Waiting is left out: how many events
//! one `epoll_wait` brings, and how often a lock is waited for, depends on the machine.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails must fail")]

#[path = "support/client_hello.rs"]
mod client_hello;
#[path = "support/gate.rs"]
mod gate;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use rustix::process::Signal;
use sluicegate::lab::topology::ZONES;
use sluicegate::lab::{Daemon, Lab, inside};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use client_hello::Builder;
use gate::{lab, start_with, until};

/// System calls by name.
type Calls = BTreeMap<String, u64>;

#[test]
fn a_flow_and_a_message_cost_no_more_system_calls_than_they_did() {
    inside::test("a_flow_and_a_message_cost_no_more_system_calls_than_they_did", || {
        let lab = lab();
        let config = lab.daemon_config().replace("[443, 8443]", "[443, 8443, 7000]");
        let config = format!("{config}\n[intercept]\ndata-threads = 1\n");
        let daemon = start_with(&lab, &config);
        answer(&lab);
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

/// Opens so many flows, one after the other, and sends so many messages by each.
fn flows(lab: &Lab, flows: usize, messages: usize) {
    lab.device(1).run(async move || {
        let hello = Builder::tls13("historian.corp.example").bytes();
        for _ in 0..flows {
            let mut flow = gate_connect().await;
            flow.write_all(&hello).await.unwrap();
            let mut answer = [0; SIZE];
            for _ in 0..messages {
                flow.write_all(&[7; SIZE]).await.unwrap();
                flow.read_exact(&mut answer).await.unwrap();
            }
            flow.shutdown().await.unwrap();
            assert_eq!(flow.read(&mut answer).await.unwrap(), 0);
        }
    });
}

async fn gate_connect() -> TcpStream {
    #[expect(clippy::disallowed_methods, reason = "inside of the lab")]
    TcpStream::connect("198.51.100.15:7000").await.unwrap()
}

/// An endpoint that reads a hello of the same size each time, and then sends every message back.
fn answer(lab: &Lab) {
    let hello = Builder::tls13("historian.corp.example").bytes().len();
    for zone in &ZONES {
        let here = SocketAddr::from((zone.address(15), 7000));
        lab.vpc().run(async move || {
            let listener = TcpListener::bind(here).await.unwrap();
            tokio::task::spawn_local(async move {
                while let Ok((mut flow, _)) = listener.accept().await {
                    tokio::task::spawn_local(async move {
                        let mut bytes = vec![0; hello];
                        flow.read_exact(&mut bytes).await.unwrap();
                        bytes.truncate(SIZE);
                        while flow.read_exact(&mut bytes).await.is_ok() {
                            flow.write_all(&bytes).await.unwrap();
                        }
                    });
                }
            });
        });
    }
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

/// Bytes of a message.
const SIZE: usize = 64;
/// What depends on the machine: waiting and waking, and randomness, which a record's number asks for anew
/// in each millisecond. A debug build checks each descriptor before it closes it (`fcntl`).
const OTHERWISE: [&str; 7] =
    ["epoll_wait", "epoll_pwait", "futex", "restart_syscall", "write", "getrandom", "fcntl"];
/// System calls of a flow with one message.
const FLOW: f64 = 41.0;
/// System calls of one message and its answer: a read and a write each way.
const MESSAGE: f64 = 4.0;
const TOLERANCE: f64 = 1.02;
