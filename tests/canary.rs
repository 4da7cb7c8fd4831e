//! The leak canary: refused by a gate that works, and heard as soon as anything gets out.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "in a test, a panic is the report"
)]

#[path = "support/gate.rs"]
mod gate;
#[path = "canary/leaks.rs"]
mod leaks;
#[path = "support/schema.rs"]
mod schema;
#[path = "canary/shipped.rs"]
mod shipped;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Output;

use gate::*;
use rustix::process::Signal;
use serde_json::{Value, json};
use sluicegate::canary::Way;
use sluicegate::lab::device::{Call, tls_connect};
use sluicegate::lab::services::{BUCKET, FOREIGN, IOT_DATA, PUBLIC_OCTET};
use sluicegate::lab::topology::{RESOLVER_OCTET, public, public4};
use sluicegate::lab::{Lab, inside};

/// What runs in a device's namespace says, and its exit code.
fn canary(lab: &Lab, config: &Path, more: &[&str]) -> (Option<i32>, Value, String) {
    let config = config.to_str().unwrap();
    let words = ["-k", "5", "30", BINARY, "canary", "--json", "--config", config];
    said(&lab.device(0).command("timeout", &[&words, more].concat()).output().unwrap())
}

fn said(output: &Output) -> (Option<i32>, Value, String) {
    let said = serde_json::from_slice(&output.stdout);
    let said = said.unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output.status.code(), said, stderr(output))
}

/// The lab's configuration with a canary.
fn config(lab: &Lab, targets: &[IpAddr], more: &str) -> String {
    configured(&lab.daemon_config(), targets, FOREIGN, more)
}

/// A configuration with a canary added.
fn configured(text: &str, targets: &[IpAddr], name: &str, more: &str) -> String {
    let targets: Vec<_> = targets.iter().map(|target| format!("\"{target}\"")).collect();
    let targets = targets.join(", ");
    format!("{text}\n[canary]\ntargets = [{targets}]\nname = \"{name}\"\n{more}\n")
}

fn everywhere() -> Vec<IpAddr> {
    [PUBLIC_OCTET, RESOLVER_OCTET].into_iter().flat_map(public).collect()
}

/// How each attempt went, as `way target outcome`.
fn outcomes(said: &Value, wanted: &str) -> Vec<String> {
    let attempts = list(&said["attempts"]).iter();
    let such = attempts.filter(|attempt| attempt["outcome"] == wanted);
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    such.map(|attempt| format!("{} {}", word(&attempt["way"]), word(&attempt["target"]))).collect()
}

fn canary_records(lab: &Lab) -> Vec<Value> {
    let all = all_records(lab).into_iter();
    let records: Vec<_> = all.filter(|record| record["status_code"] == "canary").collect();
    for record in &records {
        assert_eq!(schema::problems(record), Vec::<String>::new(), "{record}");
        assert!(record["unmapped"]["chain"]["sig"].is_string(), "not signed: {record}");
    }
    records
}

fn until_canary_records(lab: &Lab, count: usize) -> Vec<Value> {
    until(&format!("{count} records of the canary"), || {
        Some(canary_records(lab)).filter(|records| records.len() >= count)
    })
}

/// Says something on the control socket.
fn tell(lab: &Lab, line: &str) -> Value {
    let mut stream = UnixStream::connect(lab.directory().join("control.sock")).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    // What is too long is not read to its end.
    let _ = stream.write_all(format!("{line}\n").as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    serde_json::from_slice(&answer).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// DNS over TLS and QUIC, which nobody speaks in the lab otherwise. The hosts there refuse as often as
/// they are asked.
fn serve_encrypted_dns(lab: &Lab) {
    let settings = ["ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"];
    for setting in settings {
        run(lab.public(), "sh", &["-c", &format!("echo 0 > /proc/sys/net/{setting}")]);
    }
    lab.public().run(async || {
        for address in public(RESOLVER_OCTET) {
            let at = SocketAddr::new(address, 853);
            let tcp = tokio::net::TcpListener::bind(at).await.unwrap();
            let udp = tokio::net::UdpSocket::bind(at).await.unwrap();
            tokio::task::spawn_local(async move {
                while let Ok((stream, _)) = tcp.accept().await {
                    drop(stream);
                }
            });
            tokio::task::spawn_local(async move {
                let mut buffer = [0; 2048];
                while let Ok((_, from)) = udp.recv_from(&mut buffer).await {
                    udp.send_to(b"there", from).await.unwrap();
                }
            });
        }
    });
}

#[test]
fn every_way_is_refused_by_the_gate_and_open_without_it() {
    inside::test("every_way_is_refused_by_the_gate_and_open_without_it", || {
        let lab = lab();
        serve_encrypted_dns(&lab);
        let daemon = start_with(&lab, &config(&lab, &everywhere(), ""));
        let status = until_status(&daemon, "health", |status| status["healthy"] == true);
        assert_eq!(status["canary"]["last"], Value::Null);
        for _ in 0..2 {
            let (code, said, notes) = canary(&lab, daemon.config_file(), &["--report"]);
            assert_eq!(code, Some(0), "{said:#} {notes}");
            assert_eq!((&said["leaked"], &said["tried"]), (&json!(false), &json!(32)), "{said:#}");
            let refused = outcomes(&said, "refused");
            for way in ["tcp_443", "tcp_80", "tcp_53", "tcp_853"] {
                let all = refused.iter().filter(|refused| refused.starts_with(way));
                assert_eq!(all.count(), 4, "{way}: {said:#}");
            }
            // Errors to one host are limited in number (icmp(7)), so some attempts are silent.
            assert!(refused.iter().any(|refused| refused.starts_with("udp_")), "{said:#}");
        }
        assert_nothing_left(&lab, "the canary behind the gate");
        let status = until_status(&daemon, "the result", |s| s["canary"]["last"].is_object());
        assert_eq!(status["healthy"], true, "{status}");
        assert_eq!(status["canary"]["last"]["tried"], 32);
        let text = stdout(&daemon.subcommand(&["status"]).unwrap());
        assert!(text.contains("32 attempts, nothing got out"), "{text}");
        let [record] = &until_canary_records(&lab, 1)[..] else { panic!("one record, no change") };
        assert_eq!(record["unmapped"]["system"]["leaks"], json!([]));
        assert_eq!(
            (&record["severity_id"], &record["unmapped"]["system"]["gate"]),
            (&json!(1), &json!("open"))
        );

        daemon.kill_hard();
        let (code, said, _) = canary(&lab, daemon.config_file(), &[]);
        assert_eq!(code, Some(0), "the rules stay: {said:#}");
        nft(&lab, "flush ruleset");
        let (code, said, _) = canary(&lab, daemon.config_file(), &[]);
        assert_eq!(code, Some(0), "the routing stays: {said:#}");
        let (code, _, notes) = canary(&lab, daemon.config_file(), &["--report"]);
        assert_eq!(code, Some(1), "{notes}");
        assert!(notes.contains("the gate was not told: no gate runs here"), "{notes}");
        let cleared: Output = sluicegate(&lab, &["nft", "clear"]);
        assert!(cleared.status.success(), "{cleared:?}");
        let (code, said, notes) = canary(&lab, daemon.config_file(), &["--report"]);
        assert_eq!(code, Some(5), "{said:#} {notes}");
        let leaked = outcomes(&said, "leaked");
        for (octet, ways) in [
            (PUBLIC_OCTET, [Way::Https, Way::Http, Way::Quic, Way::Echo]),
            (RESOLVER_OCTET, [Way::Dns, Way::DnsTcp, Way::DnsTls, Way::DnsQuic]),
        ] {
            for (target, way) in public(octet).iter().flat_map(|t| ways.map(|way| (t, way))) {
                let named = format!("{} {target}", way.as_str());
                assert!(leaked.contains(&named), "{named} of {said:#}");
            }
        }
        assert!(lab.leaked_packets().unwrap() > 0);
    });
}

#[test]
fn answers_of_the_gates_own_dns_are_no_leak() {
    inside::test("answers_of_the_gates_own_dns_are_no_leak", || {
        let lab = lab();
        let text = config(&lab, &everywhere(), "");
        for other in ["refuse", "nxdomain"] {
            let dns = format!("listen = \"lan\"\nother-names = \"{other}\"");
            let daemon = start_with(&lab, &text.replace("listen = \"off\"", &dns));
            let (code, said, notes) = canary(&lab, daemon.config_file(), &[]);
            assert_eq!(code, Some(0), "{said:#} {notes}");
            let refused = outcomes(&said, "refused");
            for way in ["udp_53", "tcp_53"] {
                let all = refused.iter().filter(|refused| refused.starts_with(way));
                assert_eq!(all.count(), 4, "{way} by {other}: {said:#}");
            }
            daemon.signal(Signal::TERM).unwrap();
            daemon.wait(SOON).unwrap().expect("an end");
        }
        assert_nothing_left(&lab, "the canary asks");
    });
}

#[test]
fn nothing_is_proven_where_nothing_can_be_sent() {
    inside::test("nothing_is_proven_where_nothing_can_be_sent", || {
        let lab = lab();
        let daemon = start_with(&lab, &config(&lab, &everywhere(), ""));
        run(lab.device(0), "ip", &["-6", "route", "del", "default"]);
        let (code, said, notes) = canary(&lab, daemon.config_file(), &["--report"]);
        assert_eq!(code, Some(1), "{said:#} {notes}");
        assert_eq!(outcomes(&said, "untried").len(), 16, "{said:#}");
        let status = daemon.status_json().unwrap();
        assert_eq!(status["canary"]["last"], Value::Null, "half a result is none: {status}");

        // A wire that ends nowhere: the canary's own kernel says that nobody is there.
        run(lab.device(0), "ip", &["route", "replace", "default", "via", "10.10.99.99"]);
        run(lab.device(0), "ip", &["-6", "route", "add", "default", "via", "fd00:10:10::9999"]);
        let (code, said, notes) = canary(&lab, daemon.config_file(), &["--report"]);
        assert_eq!(code, Some(1), "{said:#} {notes}");
        assert_eq!(outcomes(&said, "untried").len(), 32, "{said:#}");

        // A wire into something that swallows everything, but is not the gate.
        ip(&lab, "link add hole0 type veth peer name hole1 netns dev1");
        run(lab.device(0), "ip", &["link", "set", "hole1", "up"]);
        ip(&lab, "link set hole0 up");
        ip(&lab, "addr add 10.78.0.1/24 dev hole0");
        ip(&lab, "addr add fd00:78::1/64 dev hole0 nodad");
        nft(
            &lab,
            "table inet hole { chain drops { type filter hook prerouting priority -200; }; }",
        );
        nft(&lab, "add rule inet hole drops iifname hole0 icmpv6 type { 135, 136 } accept");
        nft(&lab, "add rule inet hole drops iifname hole0 drop");
        for words in [
            "addr add 10.78.0.7/24 dev hole1",
            "addr add fd00:78::7/64 dev hole1 nodad",
            "route replace default via 10.78.0.1",
            "-6 route replace default via fd00:78::1",
        ] {
            run(lab.device(0), "ip", &words.split(' ').collect::<Vec<_>>());
        }
        let (code, said, notes) = canary(&lab, daemon.config_file(), &["--report"]);
        assert_eq!(outcomes(&said, "silent").len(), 32, "{said:#}");
        assert_eq!(code, Some(1), "{notes}");
        assert!(notes.contains("the canary's way out is not this gate"), "{notes}");
        let status = daemon.status_json().unwrap();
        assert_eq!(status["canary"]["last"], Value::Null, "silence is no result: {status}");
    });
}

#[test]
fn a_leak_closes_the_gate_until_it_is_restarted() {
    inside::test("a_leak_closes_the_gate_until_it_is_restarted", || {
        let lab = lab();
        let text = config(&lab, &[public4(PUBLIC_OCTET).into()], "on-leak = \"close\"");
        let daemon = start_with(&lab, &text);
        leaks::lay_another_wire(&lab);
        let (pki, call) = (lab.pki(), Call::new(dialled(S3, 443), BUCKET));
        let mut session = lab.device(1).run(async move || tls_connect(&pki, &call).await.unwrap());

        let (code, said, notes) = canary(&lab, daemon.config_file(), &["--report"]);
        assert_eq!(code, Some(5), "{said:#}");
        assert!(notes.contains("the gate is closed until it is restarted"), "{notes}");
        let status = daemon.status_json().unwrap();
        assert_eq!(problem_codes(&status)[..2], ["leak", "gate_closed"], "{status}");
        assert_eq!(status["canary"]["gate"], "closed");
        let remedy = status["problems"][1]["remedy"].as_str().unwrap();
        assert!(remedy.contains("systemctl restart sluicegate"), "{remedy}");
        let asked = ["--device", "gateway-1", "--name", BUCKET];
        let explained = daemon.subcommand(&[&["explain", "--json"], &asked[..]].concat()).unwrap();
        let explained: Value = serde_json::from_slice(&explained.stdout).unwrap();
        assert_eq!((&explained["verdict"], &explained["remedy"]), (&json!("deny"), &json!(remedy)));
        assert!(!problem_codes(&status).contains(&"data_thread_lost"), "{status}");
        let ended = lab.device(1).run(async move || {
            use tokio::io::AsyncReadExt as _;
            tokio::time::timeout(SOON, session.stream().read(&mut [0; 16])).await
        });
        assert!(matches!(ended, Ok(Err(_) | Ok(0))), "the flow is cut: {ended:?}");

        let closed = |situation: &str| {
            lab.forget_leaks().unwrap();
            let (code, said, notes) = canary(&lab, daemon.config_file(), &["--report"]);
            assert_eq!(code, Some(0), "{situation}: {said:#} {notes}");
            assert_eq!(outcomes(&said, "silent").len(), 8, "{situation}: {said:#}");
            let (pki, to) = (lab.pki(), dialled(S3, 443));
            let call = Call::new(to, BUCKET).deadline(std::time::Duration::from_secs(2));
            let flow = lab.device(1).run(async move || tls_connect(&pki, &call).await.map(drop));
            assert!(flow.is_err(), "{situation}: a flow");
            assert_nothing_left(&lab, situation);
        };
        closed("closed");
        daemon.reload(&text).unwrap();
        until_status(&daemon, "the refusal", |s| {
            s["policy"]["refused_reload"].as_str().is_some_and(|why| why.contains("is closed"))
        });
        nft(&lab, "flush ruleset");
        until_status(&daemon, "the repair", |s| {
            s["rules"]["restored_total"].as_u64() >= Some(1) && s["rules"]["intact"] == true
        });
        closed("closed again after damage");
        let status = daemon.status_json().unwrap();
        let codes = problem_codes(&status);
        assert!(!codes.contains(&"leak") && codes.contains(&"gate_closed"), "{status}");

        let records = until_canary_records(&lab, 2);
        let [leak, quiet] = &records[..] else { panic!("a leak and its end: {records:#?}") };
        assert_eq!(leak["severity_id"], 5);
        let facts = &leak["unmapped"]["system"];
        let named = list(&facts["leaks"]).iter().any(|leak| {
            *leak == json!({ "way": "tcp_443", "target": public4(PUBLIC_OCTET).to_string() })
        });
        assert!(named && facts["gate"] == "closed", "{leak:#}");
        assert_eq!(quiet["unmapped"]["system"]["gate"], "closed");

        ip(&lab, "link del side0");
        daemon.signal(Signal::TERM).unwrap();
        daemon.wait(SOON).unwrap().expect("an end");
        let daemon = start_with(&lab, &text);
        assert!(get(&lab, 1, dialled(S3, 443), BUCKET).is_ok());
        until_status(&daemon, "health", |status| status["healthy"] == true);
        assert_log(&lab);
    });
}

#[test]
fn a_leak_is_an_alarm_and_garbage_is_refused() {
    inside::test("a_leak_is_an_alarm_and_garbage_is_refused", || {
        let lab = lab();
        let daemon = start_with(&lab, &config(&lab, &everywhere(), ""));
        let leak = r#"{"way":"tcp_443","target":"198.51.100.18"}"#;
        let said = |tried: u32, answered: u32, leaks: &str| {
            format!(r#"{{"ask":"canary","tried":{tried},"answered":{answered},"leaks":[{leaks}]}}"#)
        };
        let many = vec![leak; 1_000].join(",");
        for garbage in [
            r#"{"ask":"canary"}"#.to_owned(),
            r#"{"ask":"canary","tried":8,"answered":8,"leaks":[],"gate":"open"}"#.to_owned(),
            said(0, 0, ""),
            said(8, 0, ""),
            said(8, 9, ""),
            said(8, 8, leak),
            said(8, 0, &format!("{leak},{leak}")),
            said(70_000, 0, ""),
            said(8, 0, r#"{"way":"tcp_22","target":"198.51.100.18"}"#),
            said(8, 0, r#"{"way":"tcp_443","target":"example.com"}"#),
            said(2_000, 0, &many),
            "canary".to_owned(),
        ] {
            let answer = tell(&lab, &garbage);
            assert!(answer["error"].is_string(), "{answer} for {garbage:.100}");
        }
        let status = until_status(&daemon, "health", |status| status["healthy"] == true);
        assert_eq!(status["canary"]["last"], Value::Null, "{status}");
        assert_eq!(canary_records(&lab).len(), 0);

        for _ in 0..2 {
            assert_eq!(tell(&lab, &said(8, 7, leak)), json!({ "gate": "open" }));
        }
        let status = daemon.subcommand(&["status", "--json"]).unwrap();
        assert_eq!(status.status.code(), Some(4));
        let status: Value = serde_json::from_slice(&status.stdout).unwrap();
        assert_eq!(problem_codes(&status)[..1], ["leak"], "{status}");
        let sentence = status["problems"][0]["sentence"].as_str().unwrap();
        assert!(sentence.contains("tcp_443 to 198.51.100.18"), "{sentence}");
        assert!(get(&lab, 0, dialled(IOT, 443), IOT_DATA).is_ok(), "an alarm stops nobody");
        for _ in 0..2 {
            assert_eq!(tell(&lab, &said(8, 8, "")), json!({ "gate": "open" }));
        }
        until_status(&daemon, "the alarm's end", |status| status["healthy"] == true);
        let records = until_canary_records(&lab, 3);
        let leaks = |record: &Value| list(&record["unmapped"]["system"]["leaks"]).len();
        let leaks: Vec<_> = records.iter().map(leaks).collect();
        assert_eq!(leaks, [1, 1, 0], "each leak, and its end once");
    });
}
