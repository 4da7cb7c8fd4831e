//! Every filter, against what the same records say when all are read.

use serde_json::Value;

use crate::support::{Log, plant};

fn number(record: &Value, pointer: &str) -> u64 {
    record.pointer(pointer).and_then(Value::as_u64).unwrap_or(u64::MAX)
}

fn text<'r>(record: &'r Value, pointer: &str) -> &'r str {
    record.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

type Fits = fn(&Value) -> bool;

const CASES: &[(&str, usize, Fits)] = &[
    ("", 12, |_| true),
    ("--denied", 3, |r| number(r, "/action_id") == 2),
    ("--verdict deny", 3, |r| number(r, "/action_id") == 2),
    ("--not --denied", 9, |r| number(r, "/action_id") != 2),
    ("--verdict learn", 2, |r| !text(r, "/unmapped/egress/would_refuse").is_empty()),
    ("--verdict error", 1, |r| number(r, "/activity_id") == 4),
    ("--allowed", 8, |r| number(r, "/action_id") != 2 && number(r, "/activity_id") < 4),
    ("--device press-3", 4, |r| text(r, "/src_endpoint/name") == "press-3"),
    ("--device press-* --device robot-?", 8, |r| !text(r, "/src_endpoint/name").is_empty()),
    ("--not --device press-* --not --device robot-?", 4, |r| {
        text(r, "/src_endpoint/name").is_empty()
    }),
    ("--device 10.10.9.9", 4, |r| text(r, "/src_endpoint/ip") == "10.10.9.9"),
    ("--mac 00-00-5E-00-53-11", 4, |r| text(r, "/src_endpoint/name") == "robot-1"),
    ("--src 10.10.4.0/24", 4, |r| text(r, "/src_endpoint/name") == "robot-1"),
    ("--src 10.10.4.11", 4, |r| text(r, "/src_endpoint/name") == "robot-1"),
    ("--dst 203.0.113.0/24", 12, |_| true),
    ("--dst 198.51.100.0/24", 0, |_| false),
    ("--eni 10.20.0.44", 3, |r| r.pointer("/dst_endpoint/proxy_endpoint").is_some()),
    ("--eni eni-0a*", 0, |_| false),
    ("--name *.Vendor.example", 3, |r| {
        text(r, "/dst_endpoint/hostname") == "telemetry.vendor.example"
    }),
    ("--port 443 --port 8443", 9, |r| number(r, "/dst_endpoint/port") != 8883),
    ("--port 443 --denied --not --device press-3", 1, |r| {
        number(r, "/action_id") == 2
            && number(r, "/dst_endpoint/port") == 443
            && text(r, "/src_endpoint/name") != "press-3"
    }),
    ("--reason name_*", 2, |r| text(r, "/status_code") == "name_not_allowed"),
    ("--reason device_unknown", 2, |r| {
        text(r, "/unmapped/egress/would_refuse") == "device_unknown"
    }),
    ("--rule learn", 2, |r| text(r, "/firewall_rule/name") == "learn"),
    ("--ja4 t00i", 12, |r| text(r, "/ja4_fingerprint_list/0/value").starts_with("t00i")),
    ("--ja4 t12", 0, |_| false),
    ("--alpn h2", 12, |_| true),
    ("--alpn h", 0, |_| false),
    ("--bytes >=1M", 1, |r| {
        number(r, "/traffic/bytes") != u64::MAX && number(r, "/traffic/bytes") > 999_999
    }),
    ("--bytes 27552", 1, |r| number(r, "/traffic/bytes") == 27_552),
    ("--duration <1h", 7, |r| number(r, "/duration") < 3_600_000),
    ("--seq 3:5", 3, |r| (3..=5).contains(&number(r, "/metadata/sequence"))),
    ("--type system --seq :1", 1, |r| number(r, "/metadata/sequence") == 1),
    ("--type dns", 0, |_| false),
    ("--since 1h --until 1h", 0, |_| false),
    ("--since 1h --until 2999-01-01T00:00:00Z", 12, |_| true),
    ("--since 2999-01-01T00:00:00Z", 0, |_| false),
];

fn all_cases_fit(log: &Log) {
    let all: Vec<String> = log.lines();
    for (filters, expected, fits) in CASES {
        let wanted_type = if filters.contains("system") { 6002 } else { 4001 };
        let wanted: Vec<&str> = all
            .iter()
            .filter(|line| {
                let record: Value = serde_json::from_str(line).unwrap();
                number(&record, "/class_uid") == wanted_type && fits(&record)
            })
            .map(String::as_str)
            .collect();
        let answer = log.ask(&format!("flows --all -o json {filters}"));
        assert_eq!(answer.out.lines().collect::<Vec<_>>(), wanted, "{filters}");
        assert_eq!(wanted.len(), *expected, "{filters}");
        assert_eq!(answer.code, i32::from(wanted.is_empty()), "{filters}: {}", answer.notes);
        assert_eq!(answer.notes, "", "{filters}");
    }
}

#[test]
fn filters_give_what_fits_byte_for_byte() {
    let log = plant();
    all_cases_fit(&log);
    log.split(3);
    all_cases_fit(&log);
}

#[test]
fn one_flow_is_found_by_its_id() {
    let log = plant();
    let records = log.ask("flows --all -o json --device robot-1").records();
    let uid = text(&records[0], "/metadata/correlation_uid");
    let found = log.ask(&format!("flows -o json --flow {}", uid.to_uppercase())).records();
    let activities: Vec<u64> = found.iter().map(|r| number(r, "/activity_id")).collect();
    assert_eq!(activities, [1, 2]);
}

#[test]
fn nonsense_is_refused_with_2() {
    let log = plant();
    for arguments in [
        "flows --not",
        "flows --port x",
        "flows --since yesterday",
        "flows -n 5 --all",
        "flows -o xml",
        "audit top colour",
        "audit export --format xml",
    ] {
        let answer = log.ask(arguments);
        assert_eq!((answer.code, answer.out.as_str()), (2, ""), "{arguments}");
    }
    let nowhere = crate::support::ask(&log.path().join("nowhere"), "flows");
    assert_eq!((nowhere.code, nowhere.out.as_str()), (2, ""));
    assert!(nowhere.notes.contains("nowhere: the audit log cannot be read"), "{}", nowhere.notes);
}
