//! Flows made up for tests, and the promises that every run must keep.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sluicegate::audit::{
    self, Audit, AuditOptions, DeviceFacts, DialFacts, DnsFacts, FlowRecord, RuleFacts,
};
use sluicegate::config::{InterfaceName, Retention};
use sluicegate::hello::{ClientTraits, HelloFacts};

pub(crate) fn options(directory: &Path, slots: usize) -> AuditOptions {
    AuditOptions {
        directory: directory.to_owned(),
        retention: Retention::default(),
        site: "augsburg-2".to_owned(),
        region: "eu-central-1".to_owned(),
        slots,
        keys: directory.join("keys"),
        root_key: None,
        policy: "0".repeat(64),
    }
}

pub(crate) fn start(directory: &Path, slots: usize) -> Audit {
    Audit::start(options(directory, slots)).expect("the log starts")
}

pub(crate) fn device() -> DeviceFacts {
    DeviceFacts {
        address: "10.10.3.7:51522".parse().expect("an address"),
        mac: Some("00:1b:1b:2c:3d:4e".parse().expect("a MAC address")),
        name: None,
        identity: "none",
    }
}

pub(crate) fn dialled() -> SocketAddr {
    "203.0.113.80:443".parse().expect("an address")
}

pub(crate) fn hello() -> HelloFacts {
    HelloFacts {
        legacy_version: 0x0303,
        versions: [0x0304, 0x0303].into_iter().collect(),
        alpn: [&b"h2"[..], b"a\n\xff"].into_iter().collect(),
        ech: false,
        traits: ClientTraits::default(),
        records: 1,
        bytes: 517,
        trailing_bytes: 0,
        notes: vec!["name was not in canonical form".to_owned()],
    }
}

pub(crate) fn rule() -> RuleFacts {
    RuleFacts {
        policy: "9b2f0c7a4f0e1d6f".repeat(4).into(),
        rule: "device press-3".into(),
        endpoint: Some("iot-data".into()),
        service: Some("com.amazonaws.eu-central-1.iot.data".into()),
    }
}

pub(crate) fn dns() -> DnsFacts {
    DnsFacts {
        resolver: "10.20.0.53:53".parse().expect("an address"),
        ttl: 60,
        age: Duration::from_millis(8123),
        last_good: false,
        addresses: vec!["10.20.0.44".parse().expect("an address")],
    }
}

pub(crate) fn dial() -> DialFacts {
    DialFacts {
        endpoint: "10.20.0.44:443".parse().expect("an address"),
        zone: Some("eu-central-1a".into()),
        local: "10.99.0.7:40312".parse().expect("an address"),
        interface: InterfaceName::parse("xfrm101").expect("a name"),
        connect: Duration::from_micros(8241),
    }
}

/// A flow whose hello was read and allowed.
pub(crate) fn allowed(audit: &Audit) -> FlowRecord {
    let mut flow = audit.reserve().expect("there is room").begin(device(), dialled());
    let name = "a1b2.iot.eu-central-1.amazonaws.com".parse().expect("a name");
    flow.set_hello(Some(&name), &hello(), hello().ja4());
    flow.set_identity(Some("press-3".into()), "mac");
    flow.set_rule(rule());
    flow.set_dns(dns());
    flow
}

/// Runs one future to its end.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(future)
}

/// Every record of a directory.
pub(crate) fn records(directory: &Path) -> Vec<Value> {
    let mut lines = audit::read::lines(directory).expect("the directory can be read");
    let mut records = Vec::<Value>::new();
    while let Some(line) = lines.next_line().expect("the segment can be read") {
        records.push(serde_json::from_slice(line.bytes).expect("a line is JSON"));
    }
    records
}

/// One valid record.
pub(crate) fn one_record() -> Value {
    let directory = tempfile::tempdir().expect("a directory");
    let audit = start(directory.path(), 1);
    let mut flow = allowed(&audit);
    wait(flow.open()).expect("the record is durable");
    records(directory.path()).pop().expect("the record is there")
}

/// The promises of any run that has ended; returns the records of flows for more.
pub(crate) fn assert_promises(directory: &Path) -> Vec<Value> {
    let report = crate::proof::assert_intact(directory);
    let records = records(directory);
    assert_eq!(report.records, records.len() as u64);
    let mut flows: HashMap<String, (u32, u32)> = HashMap::new();
    for (record, seq) in records.iter().zip(1_u64..) {
        assert_eq!(crate::schema::problems(record), Vec::<String>::new(), "{record}");
        assert_eq!(record["metadata"]["sequence"], seq);
        assert_eq!(record["unmapped"]["chain"]["seq"], seq);
        if record["class_uid"] != 4001 {
            continue;
        }
        assert_consistent(record);
        let Some(flow) = record["metadata"]["correlation_uid"].as_str() else { continue };
        let (opens, ends) = flows.entry(flow.to_owned()).or_default();
        if record["activity_id"] == 1 {
            assert_eq!(*ends, 0, "no Open behind the end: {record}");
            *opens += 1;
        } else if record["activity_id"] == 6 {
            assert_eq!((*opens, *ends), (1, 0), "between the Open and the end: {record}");
        } else {
            assert!(*opens == 1 || record["activity_id"] == 5, "no end without an Open: {record}");
            *ends += 1;
        }
    }
    for (flow, (opens, ends)) in flows {
        assert!(opens <= 1 && ends == 1, "{flow}: {opens} Opens and {ends} ends");
    }
    records.into_iter().filter(|record| record["class_uid"] == 4001).collect()
}

fn assert_consistent(record: &Value) {
    let number = |pointer: &str| record.pointer(pointer).and_then(Value::as_u64);
    let activity = number("/activity_id").expect("an activity");
    assert_eq!(number("/type_uid"), Some(400_100 + activity));
    assert!(number("/time") >= number("/start_time"), "{record}");
    let refused = record["action_id"] == 2 || record["disposition_id"] == 27;
    let withdrawn = record["status_code"] == "policy_withdrawn";
    assert_eq!(activity == 5, refused && !withdrawn, "{record}");
    let packets = record["unmapped"]["egress"]["stage"] == "packet";
    if packets {
        assert!(number("/count") > Some(0), "{record}");
    } else {
        let flow = ["/start_time", "/connection_info/protocol_ver_id", "/dst_endpoint/port"];
        let counted = number("/count").is_some();
        assert!(counted || flow.iter().all(|member| number(member).is_some()), "{record}");
        let named = ["/connection_info/uid", "/connection_info/flag_history"];
        assert!(counted || named.iter().all(|m| record.pointer(m).is_some()), "{record}");
    }
    if let Some(bytes) = number("/traffic/bytes") {
        let both = number("/traffic/bytes_out").zip(number("/traffic/bytes_in"));
        assert_eq!(both.map(|(out, back)| out + back), Some(bytes));
    }
    let proxied = record["metadata"]["profiles"][1] == "network_proxy";
    assert_eq!(proxied, activity != 5, "{record}");
}
