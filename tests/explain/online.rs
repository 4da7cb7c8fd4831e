//! `sluicegate explain` against a running gate in the lab.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluicegate::lab::{Daemon, Lab, inside, services};

/// Many times the lab's TTL, for a busy machine.
const SOON: Duration = Duration::from_secs(40);

fn explain(daemon: &Daemon, device: &str, name: &str) -> (Option<i32>, Value) {
    let asked = ["explain", "--device", device, "--name", name, "--port", "8883", "--json"];
    let output = daemon.subcommand(&asked).unwrap();
    let document = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output.status.code(), document)
}

/// Asks until the answer has this reason: the gate learns of changes by its own refreshing.
#[track_caller]
fn until(daemon: &Daemon, reason: Value) -> (Option<i32>, Value) {
    let deadline = Instant::now() + SOON;
    loop {
        let (code, document) = explain(daemon, "press-3", services::IOT_DATA);
        if document["reason"] == reason {
            return (code, document);
        }
        assert!(Instant::now() < deadline, "no {reason} yet: {document:#}");
    }
}

fn step<'a>(document: &'a Value, name: &str) -> &'a Value {
    let steps = document["steps"].as_array().unwrap();
    steps.iter().find(|step| step["step"] == name).unwrap_or(&Value::Null)
}

#[test]
fn the_running_gate_explains_the_whole_way() {
    inside::test("online::the_running_gate_explains_the_whole_way", || {
        let lab = Lab::up().unwrap_or_else(|error| panic!("{error}"));
        let binary = env!("CARGO_BIN_EXE_sluicegate");
        let daemon = lab.start_daemon(binary.as_ref(), &lab.daemon_config()).unwrap();

        let (code, document) = until(&daemon, Value::Null);
        assert_eq!((code, &document["verdict"]), (Some(0), &json!("allow")), "{document:#}");
        assert_eq!(document["online"], true);
        let mut addresses = document["addresses"].as_array().unwrap().clone();
        addresses.sort_by_key(|address| address["ip"].to_string());
        let expected = json!([
            { "ip": "10.20.0.11", "zone": "eu-central-1a", "via": "vpn1" },
            { "ip": "10.20.1.11", "zone": "eu-central-1b", "via": "vpn1" },
        ]);
        assert_eq!(Value::Array(addresses), expected);
        assert_eq!(document["endpoint"], "iot-data");
        for name in ["device", "rule", "name", "port", "grant", "resolve", "address", "tunnel"] {
            assert_eq!(step(&document, name)["ok"], true, "{name}: {document:#}");
        }

        let (code, document) = explain(&daemon, "legacy-1", services::BUCKET);
        assert_eq!((code, &document["reason"]), (Some(3), &json!("port_not_allowed")));
        let (code, document) = explain(&daemon, "10.10.0.99", services::IOT_DATA);
        assert_eq!((code, &document["reason"]), (Some(3), &json!("device_unknown")));

        // The private hosted zone is gone: the resolver answers with public addresses.
        lab.zone().remove_private(services::IOT_DATA);
        let (code, document) = until(&daemon, json!("address_public"));
        assert_eq!(code, Some(3));
        assert_eq!(step(&document, "resolve")["ok"], true, "{document:#}");
        assert_eq!(step(&document, "address")["ok"], false, "{document:#}");
        assert!(document["remedy"].as_str().unwrap().contains("private hosted zone"));
        assert_eq!(document["addresses"], json!([]));

        let zones = sluicegate::lab::topology::ZONES.map(|zone| zone.address(11));
        lab.zone().set_private(services::IOT_DATA, &zones);
        until(&daemon, Value::Null);
        lab.tunnel_down(1).unwrap();
        lab.tunnel_down(2).unwrap();
        let (code, document) = until(&daemon, json!("tunnel_down"));
        assert_eq!(code, Some(3));
        assert_eq!(step(&document, "tunnel")["ok"], false, "{document:#}");
    });
}
