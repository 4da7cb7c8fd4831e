//! Writes a log to measure with: `cargo run --release --example audit_log -- DIR FLOWS`.
//!
//! As many flows as wanted, two records each, through the real writer; the keys are beside DIR, the
//! public key to verify with is DIR.pub.

#![allow(clippy::unwrap_used, reason = "a measurement that meets the unexpected has to fail")]

use std::path::PathBuf;

use sluicegate::audit::{
    Audit, AuditOptions, DeviceFacts, DialFacts, DnsFacts, FlowEnd, RuleFacts, TrafficFacts,
    pinned_key,
};
use sluicegate::config::{InterfaceName, Retention};
use std::time::Duration;

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
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let tasks = tokio::task::LocalSet::new();
    for done in (0..flows).step_by(AT_ONCE) {
        let count = AT_ONCE.min(flows - done);
        runtime.block_on(tasks.run_until(async {
            let running: Vec<_> =
                (0..count).map(|_| tokio::task::spawn_local(flow(audit.clone()))).collect();
            for flow in running {
                flow.await.unwrap();
            }
        }));
    }
    let key = pinned_key(&directory).unwrap();
    std::fs::write(directory.with_extension("pub"), key.file("augsburg-2")).unwrap();
    println!("{} records", audit.status().seq);
    audit.close();
}

/// An allowed flow with everything in its records.
async fn flow(audit: Audit) {
    // Slots come back when ends are durable.
    let slot = loop {
        match audit.reserve() {
            Ok(slot) => break slot,
            Err(_) => tokio::task::yield_now().await,
        }
    };
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

const AT_ONCE: usize = 1024;
