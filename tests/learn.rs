//! Learn mode with real flows: what gets through, what never does, and that it ends.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use sluicegate::audit::read;
use sluicegate::lab::device::{Call, Failure, Session, tls_connect};
use sluicegate::lab::services::{FOREIGN, HISTORIAN, PUBLIC_OCTET};
use sluicegate::lab::topology::{ZONES, public4};
use sluicegate::lab::{Daemon, Lab, inside};

const OTHER_BUCKET: &str = "another-bucket.s3.eu-central-1.amazonaws.com";

fn learning(lab: &Lab, until: &str) -> String {
    let enforced = lab.daemon_config();
    let learn = format!("mode = \"learn\"\nlearn-until = {until}");
    let config = enforced.replace("mode    = \"enforce\"", &learn);
    assert_ne!(config, enforced);
    config
}

fn connect(lab: &Lab, to: SocketAddr, name: &str, alpn: &[&str]) -> Result<Session, Failure> {
    let (pki, mut call) = (lab.pki(), Call::new(to, name));
    for protocol in alpn {
        call = call.alpn(protocol);
    }
    lab.device(0).run(async move || tls_connect(&pki, &call).await)
}

fn private(octet: u8) -> SocketAddr {
    (ZONES[0].address(octet), 443).into()
}

fn records(lab: &Lab) -> Vec<Value> {
    let Ok(mut lines) = read::lines(&lab.directory().join("audit")) else { return Vec::new() };
    let mut records = Vec::new();
    while let Ok(Some(line)) = lines.next_line() {
        records.extend(serde_json::from_slice::<Value>(line.bytes).ok());
    }
    records
}

/// Waits for a record of a name with this status code.
#[track_caller]
fn record(lab: &Lab, name: &str, code: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let records = records(lab);
        let fits = |r: &&Value| r["dst_endpoint"]["hostname"] == name && r["status_code"] == code;
        if let Some(found) = records.iter().find(fits) {
            return found.clone();
        }
        assert!(Instant::now() < deadline, "no {code} of {name}: {records:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[track_caller]
fn until(daemon: &Daemon, noticed: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = daemon.status_json().unwrap();
        if noticed(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "{status:#}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn learn_mode_reaches_the_vpc_only_and_ends() {
    inside::test("learn_mode_reaches_the_vpc_only_and_ends", || {
        let lab = Lab::up().unwrap_or_else(|error| panic!("{error}"));
        let binary = Path::new(env!("CARGO_BIN_EXE_sluicegate"));
        let config = learning(&lab, "2099-12-31T23:59:59Z");
        let daemon = lab.start_daemon(binary, &config).unwrap();
        let status = daemon.status_json().unwrap();
        assert_eq!(status["notices"][0]["code"], "learning", "{status:#}");
        assert!(status["problems"].as_array().unwrap().iter().all(|p| p["code"] != "learning"));

        // By the public address: what is dialled follows from the name alone.
        connect(&lab, (public4(13), 443).into(), OTHER_BUCKET, &[]).map(drop).unwrap();
        let open = record(&lab, OTHER_BUCKET, "would_refuse_name_not_allowed");
        assert_eq!((&open["action_id"], &open["disposition_id"]), (&3.into(), &15.into()));
        assert_eq!(open["firewall_rule"]["name"], "learn");
        let kept = connect(&lab, private(15), HISTORIAN, &["http/1.1"]).unwrap();
        let open = record(&lab, HISTORIAN, "would_refuse_device_not_allowed");
        assert_eq!(open["src_endpoint"]["name"], "press-3");
        assert_eq!(open["unmapped"]["egress"]["ja4_new"], true, "ALPN is in the fingerprint");

        let public = connect(&lab, (public4(PUBLIC_OCTET), 443).into(), FOREIGN, &[]);
        assert!(public.is_err(), "a public address is never reached");
        let refused = record(&lab, FOREIGN, "address_public");
        assert_eq!(refused["unmapped"]["egress"]["would_refuse"], "name_not_allowed");

        // The end is past: new flows are judged by the rules, and what was only learnt is cut.
        daemon.reload(&learning(&lab, "2020-01-31T18:00:00Z")).unwrap();
        until(&daemon, |status| status["notices"][0]["code"] == "learning_ended");
        record(&lab, HISTORIAN, "policy_withdrawn");
        assert!(connect(&lab, private(15), HISTORIAN, &[]).is_err());
        record(&lab, HISTORIAN, "device_not_allowed");
        drop(kept);
        assert_eq!(lab.leaked_packets().unwrap(), 0, "{:?}", lab.leaks());
        assert_eq!(lab.bypassed_packets().unwrap(), 0);
    });
}

/// Many times what anything here takes, for a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
