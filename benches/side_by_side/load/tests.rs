//! Each workload over loopback, as small as it gets: it does what it counts.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;

use clap::Parser;
use serde_json::Value;
use sluicegate::hello::{HelloReader, Progress};

use super::latency::{Latencies, bucket, largest};
use super::poll::Slab;
use super::server::{self, Serving};
use super::wire::Command;
use super::{Client, client, hellos, wire};

#[test]
fn bulk_data_arrives_down() {
    let report = run(served(), "bulk-down --flows 3 --seconds 0.2", "g");
    assert!(report["bytes"].as_u64() > Some(1 << 20), "{report}");
    assert!(report["seconds"].as_f64() >= Some(0.2), "{report}");
}

#[test]
fn bulk_data_arrives_up() {
    let report = run(served(), "bulk-up --flows 3 --seconds 0.2", "g");
    assert!(report["bytes"].as_u64() > Some(1 << 20), "{report}");
    // Whole blocks: the server has answered each flow's last.
    assert_eq!(report["bytes"].as_u64().unwrap() % wire::BLOCK as u64, 0, "{report}");
}

#[test]
fn nothing_is_over_before_the_last_byte_has_its_answer() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let plan = plan(listener.local_addr().unwrap(), "bulk-up --seconds 0.01");
    let server = thread::spawn(move || {
        let (mut flow, _) = listener.accept().unwrap();
        flow.read_exact(&mut [0; 517]).unwrap();
        flow.write_all(&wire::reply()).unwrap();
        // Every block, the request for an answer, and then none.
        let mut head = [0; wire::COMMAND];
        loop {
            flow.read_exact(&mut head).unwrap();
            match Command::read(head) {
                Some(Command::Up(bytes)) => {
                    io::copy(&mut (&mut flow).take(bytes), &mut io::sink()).unwrap();
                }
                other => break assert_eq!(other, Some(Command::Answer)),
            }
        }
    });
    let error = client::run(&plan, &mut &b"g"[..], &mut Vec::new()).unwrap_err();
    assert!(error.contains("too soon"), "{error}");
    server.join().unwrap();
}

#[test]
fn every_message_has_its_answer() {
    for size in [1, 64, 65_536, 1_000_000] {
        let report = run(served(), &format!("messages --flows 5 --count 50 --size {size}"), "g");
        assert!((50..60).contains(&report["pairs"].as_u64().unwrap()), "{report}");
        assert!(report["latency_us"]["p50"].as_f64() > Some(1.0), "{report}");
    }
}

#[test]
fn flows_come_and_go_however_they_are_closed() {
    for close in ["reset", "client", "server"] {
        let words =
            format!("connect --flows 4 --count 50 --close {close} --from 127.0.0.2,127.0.0.3");
        let report = run(served(), &words, "g");
        assert_eq!(report["flows"], 50, "{report}");
        assert_eq!(report["failed"], 0, "{report}");
    }
}

#[test]
fn failures_are_counted_by_kind() {
    // Nobody listens there any more.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let report = run(free, "connect --count 3", "g");
    assert_eq!(report["flows"], 0, "{report}");
    assert_eq!(report["failures"]["connecting: Connection refused (os error 111)"], 3, "{report}");
}

#[test]
fn a_refusal_is_an_alert_and_an_end() {
    const ALERT: &[u8] = &[21, 3, 3, 0, 2, 2, 112];
    let report = run(refusing(ALERT, Unread(0)), "deny --flows 2 --count 8", "g");
    assert_eq!(report["flows"], 8, "{report}");
    assert_eq!(report["ends"]["alert 112, closed"], 8, "{report}");
    let reset = run(refusing(ALERT, Unread(1)), "deny --flows 2 --count 8", "g");
    assert_eq!(reset["ends"]["alert 112, reset"], 8, "{reset}");
    let silent = run(refusing(b"", Unread(0)), "deny --count 2", "g");
    assert_eq!(silent["failures"]["waiting for the reply: closed"], 2, "{silent}");
    let silent = run(refusing(b"", Unread(0)), "deny --count 2 --refusal any", "g");
    assert_eq!(silent["ends"]["closed"], 2, "{silent}");
    let allowed = run(served(), "deny --count 2", "g");
    assert_eq!(allowed["failures"]["not refused"], 2, "{allowed}");
}

#[test]
fn idle_flows_are_held() {
    let report = run(served(), "idle --flows 100", "gq");
    assert_eq!(report["flows"], 100, "{report}");
    assert_eq!(report["lost"], 0, "{report}");
}

#[test]
fn a_storm_opens_all_flows() {
    let report = run(served(), "storm --flows 300 --hold", "gq");
    assert_eq!(report["flows"], 300, "{report}");
    assert_eq!(report["failed"], 0, "{report}");
    assert!(report["latency_us"]["max"].as_f64() >= report["latency_us"]["p50"].as_f64());
}

#[test]
fn nothing_is_measured_before_the_flows_are_open() {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let mut output = Vec::new();
    let plan = plan(free, "bulk-down --flows 2 --seconds 1");
    let error = client::run(&plan, &mut &b"g"[..], &mut output).unwrap_err();
    assert!(error.contains("refused"), "{error}");
    assert!(output.is_empty());
}

#[test]
fn the_hello_is_what_the_gate_reads() {
    for name in ["gate.example.com", &["label"; 33].join(".")] {
        let hello = hellos::named(name);
        assert_eq!(hello.len(), 517);
        let mut reader = HelloReader::new();
        let Progress::Hello(hello) = reader.push(&hello) else { panic!("{name}") };
        assert_eq!(hello.name.as_str(), name);
    }
    let mut plan = plan((Ipv4Addr::LOCALHOST, 1).into(), "connect --count 1");
    plan.name = "x".repeat(hellos::LONGEST + 1);
    assert!(client::run(&plan, &mut &b"g"[..], &mut Vec::new()).is_err());
}

#[test]
fn the_reply_is_well_formed() {
    let reply = wire::reply();
    assert_eq!(reply.len(), wire::REPLY);
    let mut rest = &reply[..];
    let mut kinds = Vec::new();
    while let [kind, 3, 3, high, low, content @ ..] = rest {
        kinds.push(*kind);
        rest = &content[u16::from_be_bytes([*high, *low]).into()..];
    }
    assert_eq!((kinds, rest.len()), (vec![22, 23], 0));
    assert_eq!(usize::from(reply[8]), 122 - 4, "the length of the handshake message");
}

#[test]
fn a_token_is_never_given_twice() {
    let mut slab = Slab::new();
    let first = slab.insert("first", |_, _| Ok::<_, ()>(())).unwrap();
    assert_eq!(slab.remove(first), Some("first"));
    assert_eq!(slab.insert("unwanted", |_, _| Err(())), Err(()));
    assert_eq!(slab.len(), 0);
    let second = slab.insert("second", |_, _| Ok::<_, ()>(())).unwrap();
    assert_eq!(slab.find(first), None);
    assert_eq!(slab.find(second), Some(&mut "second"));
}

#[test]
fn a_bucket_holds_its_largest_value_and_is_narrow() {
    for value in (0..5_000).chain([1 << 20, (1 << 33) + 12_345, u64::MAX]) {
        let top = largest(bucket(value));
        assert!(top >= value && top - value <= value / 128, "{value} {top}");
        assert_eq!(bucket(top), bucket(value));
        assert_eq!(bucket(top.saturating_add(1)), bucket(value) + usize::from(top < u64::MAX));
    }
}

#[test]
fn percentiles_are_those_of_the_values() {
    let mut latencies = Latencies::default();
    let mut more = Latencies::default();
    for micros in 1..=100 {
        let half = if micros % 2 == 0 { &mut latencies } else { &mut more };
        half.add(std::time::Duration::from_micros(micros));
    }
    latencies.merge(&more);
    let report = latencies.json();
    assert!((50.0..50.5).contains(&report["p50"].as_f64().unwrap()), "{report}");
    assert!((99.0..100.0).contains(&report["p99"].as_f64().unwrap()), "{report}");
    assert_eq!(report["max"], 100.0);
    assert_eq!(Latencies::default().json()["p50"], Value::Null);
}

/// Runs a workload; the lines before its report are those the caller goes by.
fn run(to: SocketAddr, words: &str, input: &str) -> Value {
    let mut output = Vec::new();
    let plan = plan(to, words);
    client::run(&plan, &mut input.as_bytes(), &mut output).unwrap_or_else(|it| panic!("{it}"));
    let output = String::from_utf8(output).unwrap();
    let (lines, report) = output.trim_end().rsplit_once('\n').unwrap();
    assert!(lines.starts_with("start\nend"), "{output}");
    assert_eq!(lines.contains("\nheld "), input.ends_with('q'), "{output}");
    serde_json::from_str(report).unwrap()
}

fn plan(to: SocketAddr, words: &str) -> Client {
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        client: Client,
    }
    let to = to.to_string();
    let known = ["load", "--to", &to, "--name", "gate.example.com", "--workload"];
    Line::parse_from(known.into_iter().chain(words.split(' '))).client
}

/// A server until the end of the test program.
fn served() -> SocketAddr {
    let serving = Serving::bind(&[(Ipv4Addr::LOCALHOST, 0).into()]).unwrap();
    let address = serving.address().unwrap();
    thread::spawn(|| server::serve(vec![serving]));
    address
}

/// Bytes of a hello that its receiver leaves where they are: closing then resets (RFC 2525 section 2.17).
struct Unread(usize);

/// Says only that to every hello, and closes.
fn refusing(what: &'static [u8], unread: Unread) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for flow in listener.incoming() {
            let mut flow = flow.unwrap();
            let mut hello = [0; 517];
            flow.peek(&mut hello).unwrap();
            flow.read_exact(&mut hello[unread.0..]).unwrap();
            flow.write_all(what).unwrap();
        }
    });
    address
}
