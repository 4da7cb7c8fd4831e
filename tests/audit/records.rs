//! What each kind of record says.

use std::time::Duration;

use serde_json::{Value, json};
use sluicegate::audit::{
    AlertFacts, AlertFrom, Audit, FlowEnd, HandshakeFacts, LearntFacts, NoteFacts,
    PacketDestination, PacketDevice, PacketFacts, RuleFacts, TrafficFacts,
};
use sluicegate::hello::HelloFacts;
use sluicegate::reason::Reason;

use crate::support::{allowed, assert_promises, device, dial, dialled, hello, rule, start, wait};

/// The records that a flow leaves.
pub(crate) fn left_by(flow: impl FnOnce(&Audit)) -> Vec<Value> {
    let directory = tempfile::tempdir().unwrap();
    let audit = start(directory.path(), 4);
    flow(&audit);
    audit.close();
    assert_promises(directory.path())
}

pub(crate) fn classes(record: &Value) -> [u64; 5] {
    ["activity_id", "status_id", "action_id", "disposition_id", "severity_id"]
        .map(|name| record[name].as_u64().unwrap())
}

#[test]
fn a_learnt_flow_says_what_would_have_refused_it() {
    let learn = |audit: &Audit, remedy: Option<String>| {
        let mut flow = allowed(audit);
        flow.set_rule(RuleFacts { rule: "learn".into(), endpoint: None, ..rule() });
        flow.set_learnt(LearntFacts { reason: Reason::DeviceNotAllowed, remedy });
        flow.note_new_ja4();
        flow
    };
    let records = left_by(|audit| {
        let mut flow = learn(audit, Some("Add it.".to_owned()));
        wait(flow.open()).unwrap();
        flow.set_dial(dial());
        flow.close(FlowEnd::ClosedByDevice, TRAFFIC);
        learn(audit, None).refuse(Reason::AddressPublic, None, None, None);
    });
    let [open, close, refused] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!(classes(open), [1, 1, 3, 15, 2]);
    assert_eq!((&open["action"], &open["disposition"]), (&json!("Observed"), &json!("Detected")));
    assert_eq!(open["status_code"], "would_refuse_device_not_allowed");
    assert_eq!(open["firewall_rule"]["type"], "learn");
    assert_eq!(open["unmapped"]["egress"]["remedy"], "Add it.");
    assert!(open["unmapped"]["egress"].get("reason").is_none());
    assert_eq!(classes(close), [2, 1, 1, 1, 1]);
    assert_eq!(classes(refused), [5, 2, 2, 2, 2]);
    assert_eq!(refused["status_code"], "address_public");
    for record in &records {
        assert_eq!(record["unmapped"]["egress"]["would_refuse"], "device_not_allowed");
        assert_eq!(record["unmapped"]["egress"]["ja4_new"], true);
    }
}

pub(crate) const TRAFFIC: TrafficFacts = TrafficFacts { up: 18_240, down: 9_312, spliced: 4_096 };

#[test]
fn an_allowed_flow_opens_and_closes() {
    let records = left_by(|audit| {
        let mut flow = allowed(audit);
        wait(flow.open()).unwrap();
        flow.set_dial(dial());
        flow.close(FlowEnd::ClosedByDevice, TRAFFIC);
    });
    let [open, close] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!(classes(open), [1, 1, 1, 1, 1]);
    assert_eq!(open["status_code"], "open");
    assert!(open.get("proxy_endpoint").is_none() && open.get("end_time").is_none());
    assert!(open["dst_endpoint"].get("proxy_endpoint").is_none());
    assert_eq!(open["unmapped"]["egress"]["dns"]["addresses"], json!(["10.20.0.44"]));
    assert_eq!(open["connection_info"]["flag_history"], "ShAD");

    assert_eq!(classes(close), [2, 1, 1, 1, 1]);
    assert_eq!(close["status_code"], "closed_by_device");
    assert_eq!(
        close["src_endpoint"],
        json!({
            "uid": "press-3", "name": "press-3", "ip": "10.10.3.7", "port": 51522,
            "mac": "00:1b:1b:2c:3d:4e", "type_id": 7,
        })
    );
    assert_eq!(
        close["dst_endpoint"],
        json!({
            "hostname": "a1b2.iot.eu-central-1.amazonaws.com", "ip": "203.0.113.80", "port": 443,
            "svc_name": "com.amazonaws.eu-central-1.iot.data",
            "proxy_endpoint": { "ip": "10.20.0.44", "port": 443, "zone": "eu-central-1a" },
        })
    );
    let proxy = json!({ "ip": "10.99.0.7", "port": 40312, "interface_name": "xfrm101" });
    assert_eq!(close["proxy_endpoint"], proxy);
    assert_eq!(close["traffic"], json!({ "bytes": 27552, "bytes_out": 18240, "bytes_in": 9312 }));
    assert_eq!(
        close["tls"],
        json!({
            "version": "1.3", "sni": "a1b2.iot.eu-central-1.amazonaws.com",
            "tls_extension_list": [{
                "type_id": 16, "type": "application_layer_protocol_negotiation",
                "data": ["h2", "a\\n\\xff"],
            }],
        })
    );
    assert_eq!(close["connection_info"]["flag_history"], "ShADdFf");
    assert_eq!(close["connection_info"]["community_uid"], "1:gpjwzodcJiuHrrTEQVw5uOYFNf4=");
    assert_eq!(close["metadata"]["tenant_uid"], "augsburg-2");
    assert_eq!(close["metadata"]["correlation_uid"], open["metadata"]["correlation_uid"]);
    assert_ne!(close["metadata"]["uid"], open["metadata"]["uid"]);
    assert_eq!(close["policy"]["version"], "9b2f0c7a4f0e");
    assert_eq!(close["unmapped"]["chain"]["id"], "augsburg-2/0001");
    let egress = &close["unmapped"]["egress"];
    assert_eq!(egress["connect_us"], 8241);
    assert_eq!(egress["destination_match"], false);
    assert_eq!(egress["conn_state"], "SF");
    assert_eq!(egress["spliced"], 4096);
    assert_eq!(egress["tls_version_from"], "client_hello_offer");
}

#[test]
fn an_end_says_what_the_handshake_came_to() {
    let seen = |version, cipher, from, level, description| HandshakeFacts {
        version,
        cipher,
        alert: Some(AlertFacts { from, level, description }),
    };
    let cases = [
        (HandshakeFacts::default(), ("1.3", None, "client_hello_offer"), None),
        (
            seen(Some(0x0303), Some(0xc02f), AlertFrom::Device, 2, 48),
            ("1.2", Some("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"), "server_hello"),
            Some((48, json!({ "from": "device", "level": "fatal", "name": "unknown_ca" }))),
        ),
        (
            seen(Some(0x0301), Some(0x4242), AlertFrom::Endpoint, 1, 200),
            ("1.0", Some("0x4242"), "server_hello"),
            Some((200, json!({ "from": "endpoint", "level": "warning", "name": "200" }))),
        ),
        (
            seen(None, None, AlertFrom::Endpoint, 2, 70),
            ("1.3", None, "client_hello_offer"),
            Some((70, json!({ "from": "endpoint", "level": "fatal", "name": "protocol_version" }))),
        ),
    ];
    for (handshake, (version, cipher, from), alert) in cases {
        let records = left_by(|audit| {
            let mut flow = allowed(audit);
            wait(flow.open()).unwrap();
            flow.set_dial(dial());
            flow.set_handshake(handshake);
            flow.close(FlowEnd::ResetByEndpoint, TRAFFIC);
        });
        let [open, end] = records.as_slice() else { panic!("{records:?}") };
        assert_eq!(open["tls"]["version"], "1.3");
        assert_eq!(
            (end["tls"]["version"].as_str(), end["tls"]["cipher"].as_str()),
            (Some(version), cipher)
        );
        let egress = &end["unmapped"]["egress"];
        assert_eq!(egress["tls_version_from"], from);
        let (number, named) = alert.unzip();
        assert_eq!(end["tls"]["alert"].as_u64(), number);
        assert_eq!(egress.get("tls_alert"), named.as_ref());
    }
}

#[test]
fn what_the_endpoint_will_have_against_a_hello_is_in_all_its_records() {
    let note = NoteFacts {
        code: "tls_version_not_accepted",
        sentence: "The device offers at most TLS 1.1.".to_owned(),
    };
    let records = left_by(|audit| {
        let mut flow = allowed(audit);
        flow.set_outlook(vec![note.clone()]);
        wait(flow.open()).unwrap();
        flow.close(FlowEnd::ClosedByEndpoint, TRAFFIC);
    });
    assert_eq!(records.len(), 2);
    for record in &records {
        assert_eq!(record["unmapped"]["egress"]["outlook"], json!([note]));
    }
}

#[test]
fn every_end_has_its_row() {
    let rows = [
        (FlowEnd::ClosedByDevice, "closed_by_device", [2, 1, 1, 1, 1], "ShADdFf", "SF"),
        (FlowEnd::ClosedByEndpoint, "closed_by_endpoint", [2, 1, 1, 1, 1], "ShADdfF", "SF"),
        (FlowEnd::Idle, "idle", [2, 1, 1, 1, 1], "ShADd", "S1"),
        (FlowEnd::Drained, "drained", [2, 1, 1, 1, 1], "ShADd", "S1"),
        (FlowEnd::ResetByDevice, "reset_by_device", [3, 2, 1, 1, 1], "ShADdR", "RSTO"),
        (FlowEnd::ResetByEndpoint, "reset_by_endpoint", [3, 2, 1, 1, 1], "ShADdr", "RSTR"),
        (FlowEnd::DeviceReturned, "device_returned", [3, 2, 1, 1, 1], "ShADd", "S1"),
        (FlowEnd::PolicyWithdrawn, "policy_withdrawn", [3, 2, 2, 24, 2], "ShADd", "S1"),
        (FlowEnd::InternalError, "internal_error", [3, 2, 1, 1, 3], "ShADd", "OTH"),
    ];
    for (end, code, expected, flags, state) in rows {
        let records = left_by(|audit| {
            let mut flow = allowed(audit);
            wait(flow.open()).unwrap();
            flow.set_dial(dial());
            flow.close(end, TRAFFIC);
        });
        assert_eq!(records.len(), 2);
        assert_eq!(records[1]["status_code"], code);
        assert_eq!(classes(&records[1]), expected, "{code}");
        assert_eq!(records[1]["connection_info"]["flag_history"], flags);
        assert_eq!(records[1]["unmapped"]["egress"]["conn_state"], state, "{code}");
    }
}

#[test]
fn a_refusal_explains_itself() {
    let records = left_by(|audit| {
        let mut flow = audit.reserve().unwrap().begin(device(), dialled());
        flow.set_hello(Some(&"telemetry.vendor.example".parse().unwrap()), &hello(), hello().ja4());
        flow.set_rule(rule());
        flow.set_heard(522);
        let remedy = Some("Ask the vendor for a private name.");
        flow.refuse(Reason::NameNotAllowed, Some("no \"quotes\"\nhere"), remedy, Some(112));
    });
    let [refusal] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!(classes(refusal), [5, 2, 2, 2, 2]);
    assert_eq!(refusal["status_code"], "name_not_allowed");
    assert_eq!(refusal["status_detail"], Reason::NameNotAllowed.sentence());
    assert_eq!(refusal["is_alert"], true);
    assert_eq!(refusal["tls"]["alert"], 112);
    assert_eq!(refusal["traffic"], json!({ "bytes": 522, "bytes_out": 522, "bytes_in": 0 }));
    assert_eq!(refusal["app_protocol_name"], "tls");
    let named = json!({ "from": "gate", "level": "fatal", "name": "unrecognized_name" });
    assert_eq!(refusal["unmapped"]["egress"]["tls_alert"], named);
    assert_eq!(refusal["connection_info"]["flag_history"], "ShADd");
    assert!(refusal["connection_info"].get("boundary_id").is_none());
    let egress = &refusal["unmapped"]["egress"];
    assert_eq!(egress["reason"], "name_not_allowed");
    assert_eq!(egress["stage"], "policy");
    assert_eq!(egress["detail"], "no \"quotes\"\nhere");
    assert_eq!(egress["remedy"], "Ask the vendor for a private name.");
}

#[test]
fn a_refusal_before_any_hello_claims_nothing() {
    let records = left_by(|audit| {
        let mut flow = audit.reserve().unwrap().begin(device(), dialled());
        flow.set_first_bytes(b"GET / HTTP/1.1\r\nHost: x");
        flow.refuse(Reason::NotTls, None, None, None);
        let flow = audit.reserve().unwrap().begin(device(), dialled());
        flow.refuse(Reason::HelloTimeout, Some(""), None, Some(80));
    });
    let [not_tls, timeout] = records.as_slice() else { panic!("{records:?}") };
    let absent = [
        "tls",
        "ja4_fingerprint_list",
        "policy",
        "firewall_rule",
        "proxy_endpoint",
        "app_protocol_name",
    ];
    for name in absent {
        assert!(not_tls.get(name).is_none() && timeout.get(name).is_none(), "{name}");
    }
    let egress = &not_tls["unmapped"]["egress"];
    assert_eq!(egress["first_bytes"], "474554202f20485454502f312e310d0a");
    assert_eq!(egress["remedy"], Reason::NotTls.remedy());
    assert_eq!(timeout["unmapped"]["egress"]["alert"], 80);
    assert!(timeout["unmapped"]["egress"].get("detail").is_none());
    assert_eq!(timeout["connection_info"]["flag_history"], "ShAd");
}

#[test]
fn packets_are_counted_with_what_is_known_of_them() {
    let at = |seconds| std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let device = PacketDevice {
        mac: "00:1b:1b:2c:3d:4e".parse().unwrap(),
        address: "10.10.3.7".parse().unwrap(),
        name: Some("press-3".into()),
        identity: "mac",
    };
    let one = PacketFacts {
        reason: Reason::QuicBlocked,
        device: Some(device),
        protocol: Some(17),
        to: PacketDestination::One("203.0.113.80".parse().unwrap(), Some(443)),
        packets: 12,
        since: Some(at(1_000)),
        until: at(1_010),
    };
    let echo = PacketFacts {
        reason: Reason::IcmpBlocked,
        protocol: Some(1),
        to: PacketDestination::One("203.0.113.80".parse().unwrap(), None),
        ..one.clone()
    };
    let places = (0..20).map(|number| ([203, 0, 113, number].into(), Some(9))).collect();
    let several = PacketFacts {
        reason: Reason::UdpBlocked,
        protocol: Some(200),
        to: PacketDestination::Several(places),
        ..one.clone()
    };
    let unknown = PacketFacts {
        device: None,
        protocol: None,
        to: PacketDestination::Several(Vec::new()),
        since: None,
        ..one.clone()
    };
    let records = left_by(|audit| audit.note_packets(&[one, echo, several, unknown]).unwrap());
    let [one, echo, several, unknown] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!(classes(one), [5, 2, 2, 2, 2]);
    assert_eq!((&one["status_code"], &one["count"]), (&json!("quic_blocked"), &json!(12)));
    assert_eq!(one["src_endpoint"]["mac"], "00:1b:1b:2c:3d:4e");
    assert_eq!(one["dst_endpoint"], json!({ "ip": "203.0.113.80", "port": 443 }));
    let times = ["start_time", "end_time", "duration"].map(|name| one[name].as_u64().unwrap());
    assert_eq!(times, [1_000_000, 1_010_000, 10_000]);
    let udp = json!({
        "direction_id": 2, "protocol_num": 17, "protocol_name": "udp", "protocol_ver_id": 4,
    });
    assert_eq!(one["connection_info"], udp);
    assert_eq!(echo["dst_endpoint"], json!({ "ip": "203.0.113.80" }));
    assert_eq!(several["unmapped"]["egress"]["destinations"][15], "203.0.113.15:9");
    assert_eq!(several["unmapped"]["egress"]["destinations"].as_array().unwrap().len(), 16);
    assert!(several["connection_info"].get("protocol_name").is_none());
    assert_eq!(unknown["src_endpoint"]["name"], "several devices");
    assert!(unknown.get("start_time").is_none() && unknown.get("connection_info").is_none());
}

#[test]
fn a_flow_that_cannot_be_connected_fails() {
    let records = left_by(|audit| {
        let mut flow = allowed(audit);
        flow.set_heard(517);
        wait(flow.open()).unwrap();
        flow.fail(Reason::EndpointUnreachable, Some("no answer from 10.20.0.44:443 in 3 s"));
        // A refusal that comes too late is the same to the log.
        let mut flow = allowed(audit);
        wait(flow.open()).unwrap();
        flow.refuse(Reason::ShuttingDown, None, None, None);
        // Connected, but the endpoint did not take the hello.
        let mut flow = allowed(audit);
        wait(flow.open()).unwrap();
        flow.set_dial(dial());
        flow.fail(Reason::EndpointRefused, None);
        let mut flow = allowed(audit);
        wait(flow.open()).unwrap();
        flow.fail(Reason::EndpointRefused, None);
    });
    let codes: Vec<_> =
        records.iter().map(|record| record["status_code"].as_str().unwrap()).collect();
    assert_eq!(codes.iter().filter(|code| **code == "open").count(), 4);
    assert_eq!(
        [codes[1], codes[3], codes[5]],
        ["endpoint_unreachable", "shutting_down", "endpoint_refused"]
    );
    assert_eq!(classes(&records[1]), [4, 2, 1, 1, 3]);
    assert_eq!(records[1]["traffic"]["bytes_out"], 517);
    assert_eq!(records[1]["unmapped"]["egress"]["conn_state"], "S0");
    assert_eq!(records[5]["unmapped"]["egress"]["conn_state"], "S1");
    assert_eq!(records[7]["unmapped"]["egress"]["conn_state"], "REJ");
    assert_eq!(records[1]["unmapped"]["egress"]["detail"], "no answer from 10.20.0.44:443 in 3 s");
    assert_eq!(classes(&records[3]), [4, 2, 1, 1, 3]);
}

#[test]
fn a_flow_that_could_not_be_recorded_is_an_alarm() {
    let records = left_by(|audit| {
        let flow = allowed(audit);
        flow.refuse(Reason::AuditUnavailable, None, None, None);
    });
    assert_eq!(classes(&records[0]), [5, 2, 2, 27, 4]);
}

#[test]
fn what_a_hello_can_say_at_worst_is_bounded() {
    let records = left_by(|audit| {
        let mut flow = audit.reserve().unwrap().begin(device(), dialled());
        let facts = HelloFacts {
            legacy_version: 0x0305,
            alpn: std::iter::repeat_n(&[0_u8; 255][..], 250).collect(),
            notes: vec!["note".to_owned(); 250],
            ..HelloFacts::default()
        };
        flow.set_hello(None, &facts, facts.ja4());
        flow.refuse(Reason::NameMissing, None, None, Some(112));
    });
    assert!(records[0].to_string().len() < 40_000);
    assert_eq!(records[0]["tls"]["version"], "0x0305");
    assert!(records[0]["tls"].get("sni").is_none());
}

#[test]
fn a_dropped_record_ends_by_itself() {
    let records = left_by(|audit| {
        drop(allowed(audit));
        let mut flow = allowed(audit);
        wait(flow.open()).unwrap();
        drop(flow);
    });
    let [refusal, open, end] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!(refusal["status_code"], "shutting_down");
    assert_eq!(open["status_code"], "open");
    assert_eq!(end["status_code"], "internal_error");
    assert_eq!(classes(end), [3, 2, 1, 1, 3]);
    assert_eq!(end["traffic"]["bytes"], 0);
}

#[test]
fn a_panic_ends_the_record() {
    let records = left_by(|audit| {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut flow = allowed(audit);
            wait(flow.open()).unwrap();
            panic!("the flow broke");
        }));
        assert!(outcome.is_err());
    });
    assert_eq!(records[1]["status_code"], "internal_error");
    assert_eq!(records[1]["traffic"]["bytes"], 0);
}

#[test]
fn an_aborted_task_ends_the_record() {
    let records = left_by(|audit| {
        let tasks = tokio::task::LocalSet::new();
        wait(tasks.run_until(async {
            let (sender, opened) = tokio::sync::oneshot::channel();
            let mut flow = allowed(audit);
            let task = tokio::task::spawn_local(async move {
                flow.open().await.unwrap();
                sender.send(()).unwrap();
                std::future::pending::<()>().await;
                drop(flow);
            });
            opened.await.unwrap();
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
        }));
    });
    assert_eq!(records[1]["status_code"], "internal_error");
}

#[test]
fn an_open_that_nobody_waits_for_is_recorded_once() {
    let records = left_by(|audit| {
        let mut flow = allowed(audit);
        drop(flow.open());
        assert!(wait(flow.open()).is_err(), "one Open per flow");
        flow.close(FlowEnd::Drained, TrafficFacts::default());
    });
    assert_eq!(records.len(), 2);
}

#[test]
fn closing_what_was_never_opened_is_one_refusal() {
    let records = left_by(|audit| allowed(audit).close(FlowEnd::Idle, TRAFFIC));
    assert_eq!(records.len(), 1);
    assert_eq!(classes(&records[0]), [5, 2, 2, 2, 2]);
}
