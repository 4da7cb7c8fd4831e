//! The examination of endpoints: what `status` says of it, and what flows make of it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, a panic is the report"
)]

#[path = "support/gate.rs"]
mod gate;

use std::net::Ipv4Addr;
use std::sync::Arc;

use gate::*;
use serde_json::Value;
use sluicegate::lab::device::{Call, Failure, tls_connect};
use sluicegate::lab::party::Work;
use sluicegate::lab::services::{HISTORIAN, IOT_DATA};
use sluicegate::lab::topology::{DEVICES, ZONES};
use sluicegate::lab::{Daemon, Lab, inside};
use tokio::sync::Notify;

/// The lab's configuration, with an examination every second.
fn config(lab: &Lab) -> String {
    config_with(lab, "1s")
}

fn config_with(lab: &Lab, every: &str) -> String {
    let config = lab.daemon_config();
    assert!(config.contains("every = \"1h\""), "{config}");
    config.replace("every = \"1h\"", &format!("every = \"{every}\""))
}

/// The interfaces of a name.
fn interfaces<'a>(status: &'a Value, name: &str) -> &'a [Value] {
    list(&endpoint(status, name)["interfaces"])
}

fn states(status: &Value, name: &str) -> Vec<String> {
    let all = interfaces(status, name).iter();
    all.map(|of| of["state"].as_str().unwrap().to_owned()).collect()
}

/// The sentences with this code that speak of a name.
fn said(status: &Value, of: &str, code: &str, name: &str) -> Vec<String> {
    let all = list(&status[of]).iter().filter(|line| line["code"] == code);
    let lines = all.filter(|line| line["sentence"].as_str().unwrap().contains(name));
    lines
        .map(|line| {
            assert!(!line["remedy"].as_str().unwrap().is_empty(), "{line}");
            line["sentence"].as_str().unwrap().to_owned()
        })
        .collect()
}

fn until_said(daemon: &Daemon, of: &str, code: &str, name: &str) -> (Value, String) {
    let status = until_status(daemon, &format!("{code} for {name}"), |status| {
        !said(status, of, code, name).is_empty()
    });
    let sentence = said(&status, of, code, name).remove(0);
    (status, sentence)
}

fn until_all_up(daemon: &Daemon, name: &str) -> Value {
    until_status(daemon, &format!("{name} all up"), |status| {
        let states = states(status, name);
        !states.is_empty() && states.iter().all(|state| state == "up")
    })
}

/// The addresses that flows of the first device are led to.
fn ways_of_flows(lab: &Lab, count: usize) -> Vec<String> {
    let mut ways = Vec::new();
    for _ in 0..count {
        let skip = records(lab).len();
        get(lab, 0, dialled(IOT, 443), IOT_DATA).unwrap();
        let record = until_end_behind(lab, skip, DEVICES[0].address.into());
        let way = &record["proxy_endpoint"]["interface_name"];
        assert_eq!(way, "vpn1", "the best tunnel: {record}");
        let endpoint = &record["dst_endpoint"]["proxy_endpoint"]["ip"];
        ways.push(endpoint.as_str().unwrap_or_else(|| panic!("{record}")).to_owned());
    }
    ways
}

fn vpc_rule(lab: &Lab, rule: &str) {
    let table = format!(
        "table inet staged {{\n chain in {{\n type filter hook prerouting priority 0\n {rule}\n }}\n }}"
    );
    run(lab.vpc(), "nft", &[&table]);
}

fn no_vpc_rule(lab: &Lab) {
    run(lab.vpc(), "nft", &["delete table inet staged"]);
}

/// An MQTT session of a device that stays until it is told to close.
struct Session {
    stop: Arc<Notify>,
    work: Work<Result<(), Failure>>,
}

impl Session {
    fn open(lab: &Lab, number: usize) -> Self {
        let (pki, stop) = (lab.pki(), Arc::new(Notify::new()));
        let told = Arc::clone(&stop);
        let (ready, is_ready) = std::sync::mpsc::channel();
        let work = lab.device(number).spawn(async move || {
            let call = Call::new(dialled(IOT, 8443), IOT_DATA).with_certificate();
            let session = tls_connect(&pki, &call).await?;
            ready.send(()).unwrap();
            told.notified().await;
            drop(session);
            Ok::<(), Failure>(())
        });
        until_ready(&is_ready, "the session");
        Self { stop, work }
    }

    fn close(self) {
        self.stop.notify_one();
        assert_eq!(self.work.join(), Ok(()));
    }
}

/// The first zone's interface of IoT data falls silent.
fn silence(lab: &Lab) {
    vpc_rule(lab, "ip daddr 10.20.0.11 tcp dport { 443, 8443, 8883 } drop");
}

fn until_three_down(daemon: &Daemon) {
    until_status(daemon, "all ports down", |status| {
        states(status, IOT_DATA).iter().filter(|state| *state == "down").count() == 3
    });
}

#[test]
fn an_interface_that_is_silent_is_told_of_and_left_until_it_is_back() {
    inside::test("an_interface_that_is_silent_is_told_of_and_left_until_it_is_back", || {
        let lab = lab();
        let daemon = start_with(&lab, &config_with(&lab, "3s"));
        let status = until_all_up(&daemon, IOT_DATA);
        let all = interfaces(&status, IOT_DATA);
        // Two zones, three ports.
        assert_eq!(all.len(), 6, "{status}");
        for interface in all {
            assert!(interface["latency_ms"].as_f64().unwrap() > 0.0, "{interface}");
            assert_eq!(interface["certificate"]["state"], "unproven", "{interface}");
        }
        let zones: Vec<_> = all.iter().map(|of| of["zone"].as_str().unwrap()).collect();
        assert_eq!(zones.iter().filter(|zone| **zone == ZONES[0].name).count(), 3, "{zones:?}");
        assert_eq!(problem_codes(&status), [""; 0]);
        assert_eq!(said(&status, "notices", "endpoint_degraded", ""), [""; 0]);

        silence(&lab);
        let (status, sentence) = until_said(&daemon, "notices", "endpoint_degraded", IOT_DATA);
        assert!(sentence.contains("10.20.0.11:"), "{sentence}");
        assert!(sentence.contains(ZONES[0].name), "{sentence}");
        assert!(sentence.ends_with("flows take the others."), "{sentence}");
        assert_eq!(status["healthy"], true, "{status}");
        until_three_down(&daemon);
        // Devices of AWS IoT are counted, not their flows.
        let sessions = [0, 0, 2].map(|number| Session::open(&lab, number));
        until_status(&daemon, "two devices", |status| status["iot_devices"]["iot-data"] == 2);
        sessions.into_iter().for_each(Session::close);
        until_status(&daemon, "none", |status| status["flows"]["live"] == 0);

        // It answers again, and nobody has asked it yet: flows go to the other zone alone, where they
        // would take turns.
        until("flows before the next examination", || {
            no_vpc_rule(&lab);
            let ways = ways_of_flows(&lab, 6);
            let status = daemon.status_json().unwrap();
            if states(&status, IOT_DATA).iter().filter(|state| *state == "down").count() == 3 {
                return Some(ways);
            }
            silence(&lab);
            until_three_down(&daemon);
            None
        })
        .iter()
        .for_each(|address| assert_eq!(*address, ZONES[1].address(IOT).to_string()));
        until_all_up(&daemon, IOT_DATA);
        let both = ways_of_flows(&lab, 6);
        for zone in ZONES {
            let address = zone.address(IOT).to_string();
            assert!(both.contains(&address), "{address} in {both:?}");
        }
        assert_log(&lab);
        assert_nothing_left(&lab, "examinations");
    });
}

#[test]
fn a_name_whose_interfaces_are_all_silent_is_a_problem_and_flows_try_all_the_same() {
    inside::test(
        "a_name_whose_interfaces_are_all_silent_is_a_problem_and_flows_try_all_the_same",
        || {
            let lab = lab();
            let daemon = start_with(&lab, &config(&lab));
            until_all_up(&daemon, IOT_DATA);
            vpc_rule(&lab, SILENT_HTTPS);
            let (status, sentence) = until_said(&daemon, "problems", "endpoint_down", IOT_DATA);
            assert!(sentence.contains("10.20.0.11:8443"), "{sentence}");
            assert!(sentence.contains("10.20.1.11:8443"), "{sentence}");
            assert_eq!(status["healthy"], false, "{status}");
            let text = stdout(&sluicegate(
                &lab,
                &["status", "--config", daemon.config_file().to_str().unwrap()],
            ));
            assert!(text.contains("10.20.0.11 eu-central-1a DOWN on 8443"), "{text}");
            let dialled = dialled(IOT, 8443);
            let refused = get(&lab, 0, dialled, IOT_DATA);
            assert!(refused.is_err(), "{refused:?}");
            let record = until_record(&lab, "the refusal", is_end);
            assert_eq!(record["status_code"], "endpoint_unreachable", "{record}");
            // Health refuses nothing: what is down for it may work again by now.
            until("a flow before the next examination", || {
                daemon.reload(&config_with(&lab, "1h")).unwrap();
                no_vpc_rule(&lab);
                get(&lab, 0, dialled, IOT_DATA).unwrap();
                let status = daemon.status_json().unwrap();
                daemon.reload(&config(&lab)).unwrap();
                if problem_codes(&status) == ["endpoint_down"] {
                    return Some(());
                }
                vpc_rule(&lab, SILENT_HTTPS);
                until_said(&daemon, "problems", "endpoint_down", IOT_DATA);
                None
            });
            until_all_up(&daemon, IOT_DATA);
            let status = daemon.status_json().unwrap();
            assert_eq!(problem_codes(&status), [""; 0]);
            get(&lab, 0, self::dialled(IOT, 443), IOT_DATA).unwrap();
        },
    );
}

#[test]
fn a_certificate_that_is_wrong_is_a_problem_and_a_reload_heals_it() {
    inside::test("a_certificate_that_is_wrong_is_a_problem_and_a_reload_heals_it", || {
        let lab = lab();
        let good = config(&lab);
        let daemon = start_with(&lab, &good);
        until_all_up(&daemon, HISTORIAN);
        // A name that the server's certificate does not have.
        let other = good.replace(&format!("[\"{HISTORIAN}\"]"), "[\"archive.corp.example\"]");
        assert_ne!(other, good);
        let addresses: Vec<Ipv4Addr> = ZONES.iter().map(|zone| zone.address(IOT)).collect();
        lab.zone().set_private("archive.corp.example", &addresses);
        daemon.reload(&other).unwrap();
        let (status, sentence) =
            until_said(&daemon, "problems", "certificate_wrong", "archive.corp.example");
        assert!(sentence.contains("is for other names"), "{sentence}");
        let listed = list(&status["endpoints"]).iter();
        assert!(listed.clone().any(|of| of["name"] == "archive.corp.example"), "{status}");
        assert!(!listed.clone().any(|of| of["name"] == HISTORIAN), "{status}");

        // Roots change without a restart, too.
        let roots = |file: &str| {
            good.replace("every = \"1s\"", &format!("every = \"1s\"\nroots = \"{file}\""))
        };
        daemon.reload(&roots("/nonexistent.pem")).unwrap();
        let (status, _) = until_said(&daemon, "notices", "health_roots", "/nonexistent.pem");
        assert!(!problem_codes(&status).contains(&"certificate_wrong"), "{status}");
        let file = lab.pki().authority_file.clone();
        daemon.reload(&roots(file.to_str().unwrap())).unwrap();
        until_status(&daemon, "a proven certificate", |status| {
            let all = interfaces(status, IOT_DATA);
            all.iter().all(|of| of["certificate"]["state"] == "good")
                && said(status, "notices", "health_roots", "").is_empty()
        });
    });
}

#[test]
fn what_is_wrong_with_the_box_is_a_note_and_doctor_tells_it_once() {
    inside::test("what_is_wrong_with_the_box_is_a_note_and_doctor_tells_it_once", || {
        let lab = lab();
        let daemon = start_with(&lab, &config(&lab));
        run(lab.edge(), "sysctl", &["-q", "-w", "net.core.somaxconn=128"]);
        vpc_rule(&lab, "ip daddr 10.20.0.11 tcp dport 8883 drop");
        until_said(&daemon, "notices", "settings", "net.core.somaxconn is 128");
        let (status, _) = until_said(&daemon, "notices", "endpoint_degraded", IOT_DATA);
        assert_eq!(status["healthy"], true, "{status}");
        let file = daemon.config_file().to_str().unwrap().to_owned();
        let output = sluicegate(&lab, &["doctor", "--json", "--config", &file]);
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        let count = |words: &str| {
            let all = list(&said["findings"]).iter();
            all.filter(|of| of["sentence"].as_str().unwrap().contains(words)).count()
        };
        assert_eq!(count("net.core.somaxconn is 128"), 1, "{said}");
        assert_eq!(count("10.20.0.11:8883"), 1, "{said}");
        run(lab.edge(), "sysctl", &["-q", "-w", "net.core.somaxconn=4096"]);
        until_status(&daemon, "settings that fit", |status| {
            self::said(status, "notices", "settings", "").is_empty()
        });
    });
}

#[test]
fn without_a_tunnel_nothing_new_is_said_of_endpoints() {
    inside::test("without_a_tunnel_nothing_new_is_said_of_endpoints", || {
        let lab = lab();
        let daemon = start_with(&lab, &config(&lab));
        until_all_up(&daemon, IOT_DATA);
        lab.tunnel_down(1).unwrap();
        lab.tunnel_down(2).unwrap();
        let status = until_status(&daemon, "no tunnel", |status| {
            problem_codes(status).contains(&"tunnel_down")
        });
        let before = lab.vpc_ledger().seen().len();
        assert_eq!(states(&status, IOT_DATA), ["up"; 6], "{status}");
        // As many rounds of the tunnels' own questions as an examination takes to condemn.
        let since = |status: &Value| status["tunnels"][0]["since_seconds"].as_u64().unwrap();
        let status = until_status(&daemon, "some time", |status| since(status) >= 9);
        assert_eq!(states(&status, IOT_DATA), ["up"; 6], "{status}");
        assert_eq!(lab.vpc_ledger().seen().len(), before);
        lab.tunnel_up(1).unwrap();
        until_status(&daemon, "examinations", |_| lab.vpc_ledger().seen().len() > before);
    });
}

/// IoT data's port for HTTPS is silent in both zones.
const SILENT_HTTPS: &str = "ip daddr { 10.20.0.11, 10.20.1.11 } tcp dport 8443 drop";
