//! Writes a log to measure with: `cargo run --release --example audit_log -- DIR FLOWS`.
//!
//! As many flows as wanted through the real writer: of five, four are allowed (an Open and an end) and one
//! is refused. The keys are beside DIR, the public key to verify with is DIR.pub. Says how many records it
//! wrote in a second, what each cost in CPU time, of it what the writer's own thread took and what the
//! keeper took to list and compress segments meanwhile; and how long an Open alone takes to be durable.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a measurement that meets the unexpected has to fail"
)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use sluicegate::audit::{
    Audit, AuditOptions, DeviceFacts, DialFacts, DnsFacts, FlowEnd, FlowRecord, RuleFacts, Slot,
    TrafficFacts, pinned_key,
};
use sluicegate::config::{InterfaceName, Retention};
use sluicegate::hello::{ClientTraits, HelloFacts};
use sluicegate::reason::Reason;

fn main() {
    let mut args = std::env::args().skip(1);
    let directory = PathBuf::from(args.next().expect("a directory"));
    let flows: usize = args.next().and_then(|flows| flows.parse().ok()).expect("how many flows");
    let audit = Audit::start(AuditOptions {
        directory: directory.clone(),
        retention: Retention::default(),
        site: "augsburg-2".to_owned(),
        region: "eu-central-1".to_owned(),
        slots: AT_ONCE,
        keys: directory.with_extension("keys"),
        root_key: None,
        policy: "0".repeat(64),
    });
    let audit = audit.unwrap();
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let tasks = tokio::task::LocalSet::new();
    for done in (0..flows).step_by(AT_ONCE) {
        let count = AT_ONCE.min(flows - done);
        runtime.block_on(tasks.run_until(async {
            let running: Vec<_> = (0..count)
                .map(|turn| tokio::task::spawn_local(flow(audit.clone(), turn)))
                .collect();
            for flow in running {
                flow.await.unwrap();
            }
        }));
    }
    report(&audit, began);
    alone(&runtime, &audit);
    let key = pinned_key(&directory).unwrap();
    std::fs::write(directory.with_extension("pub"), key.file("augsburg-2")).unwrap();
    audit.close();
}

fn report(audit: &Audit, began: Instant) {
    let (records, took) = (audit.status().seq, began.elapsed());
    let per_record = |cpu: Duration| cpu.as_secs_f64() * 1e6 / records as f64;
    let threads = cpu();
    let of = |name: &str| {
        threads.iter().find(|(thread, _)| thread == name).map_or(0.0, |(_, cpu)| per_record(*cpu))
    };
    let all: Duration = threads.iter().map(|(_, cpu)| *cpu).sum();
    println!(
        "{records} records in {took:.1?}, {:.0} a second; CPU {:.1} µs a record, of it the writer's {:.1} \
         and the keeper's {:.1}",
        records as f64 / took.as_secs_f64(),
        per_record(all),
        of("audit"),
        of("audit-keeper"),
    );
}

/// How long a flow waits for its Open when no other does.
fn alone(runtime: &tokio::runtime::Runtime, audit: &Audit) {
    let mut waits: Vec<Duration> = (0..1_000)
        .map(|_| {
            let mut flow = opening(audit.reserve().unwrap());
            let began = Instant::now();
            runtime.block_on(flow.open()).unwrap();
            let waited = began.elapsed();
            flow.close(FlowEnd::ClosedByDevice, TrafficFacts::default());
            waited
        })
        .collect();
    waits.sort();
    println!("an Open alone: p50 {:.0?}, p99 {:.0?}", waits[500], waits[990]);
}

/// CPU time of each thread of this process (proc(5), schedstat).
fn cpu() -> Vec<(String, Duration)> {
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    tasks
        .map(|task| {
            let stat = read(task.join("schedstat"));
            let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0);
            (read(task.join("comm")).trim().to_owned(), Duration::from_nanos(nanos))
        })
        .collect()
}

/// A flow with everything in its records.
async fn flow(audit: Audit, turn: usize) {
    // Slots come back when ends are durable.
    let slot = loop {
        match audit.reserve() {
            Ok(slot) => break slot,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let mut flow = opening(slot);
    if turn % 5 == 4 {
        flow.refuse(Reason::NameNotAllowed, None, None, Some(112));
        return;
    }
    flow.set_dns(DnsFacts {
        resolver: "10.20.0.53:53".parse().unwrap(),
        ttl: 60,
        age: Duration::from_millis(8123),
        last_good: false,
        addresses: vec!["10.20.0.44".parse().unwrap()],
    });
    flow.open().await.unwrap();
    flow.set_dial(DialFacts {
        endpoint: "10.20.0.44:443".parse().unwrap(),
        zone: Some("eu-central-1a".into()),
        local: "10.99.0.7:40312".parse().unwrap(),
        interface: InterfaceName::parse("xfrm101").unwrap(),
        connect: Duration::from_micros(8241),
    });
    flow.close(FlowEnd::ClosedByEndpoint, TrafficFacts { up: 2048, down: 8192, spliced: 0 });
}

/// A flow whose hello was read and judged.
fn opening(slot: Slot) -> FlowRecord {
    let device = DeviceFacts {
        address: "10.10.3.7:51522".parse().unwrap(),
        mac: Some("00:1b:1b:2c:3d:4e".parse().unwrap()),
        name: Some("press-3".into()),
        identity: "mac",
    };
    let mut flow = slot.begin(device, "203.0.113.80:443".parse().unwrap());
    flow.set_rule(RuleFacts {
        policy: "9b2f0c7a4f0e1d6f".repeat(4).into(),
        rule: "device press-3".into(),
        endpoint: Some("iot-data".into()),
        service: Some("com.amazonaws.eu-central-1.iot.data".into()),
    });
    let facts = hello();
    let name = "a1b2c3d4e5f6g7-ats.iot.eu-central-1.amazonaws.com".parse().unwrap();
    flow.set_hello(Some(&name), &facts, facts.ja4());
    flow.set_heard(facts.bytes);
    flow
}

fn hello() -> HelloFacts {
    HelloFacts {
        legacy_version: 0x0303,
        versions: [0x0304, 0x0303].into_iter().collect(),
        alpn: [&b"x-amzn-mqtt-ca"[..]].into_iter().collect(),
        ech: false,
        traits: ClientTraits::default(),
        records: 1,
        bytes: 517,
        trailing_bytes: 0,
        notes: Vec::new(),
    }
}

const AT_ONCE: usize = 1024;
