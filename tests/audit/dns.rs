//! What records of devices' DNS questions say.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use sluicegate::audit::{DnsAnswers, DnsDevice, DnsNames, DnsQueries};
use sluicegate::reason::Reason;

use crate::projection::export;
use crate::schema::problems;
use crate::support::{assert_promises, records, start};

fn answered() -> DnsQueries {
    let first = SystemTime::UNIX_EPOCH + Duration::from_millis(1_900_000_000_000);
    DnsQueries {
        device: Some(DnsDevice {
            address: [10, 10, 3, 7].into(),
            mac: Some("00:00:5e:00:53:07".parse().unwrap()),
            name: Some("press-3".into()),
            identity: "mac",
        }),
        names: DnsNames::One { name: "historian.corp.example".to_owned(), kind: "A".to_owned() },
        code: 0,
        reason: None,
        why: None,
        detail: None,
        remedy: None,
        policy: "0123456789abcdef".into(),
        rule: Some("device press-3".into()),
        endpoint: Some("historian".into()),
        service: Some("historian".into()),
        answers: DnsAnswers { addresses: vec![[10, 20, 0, 15].into()], seconds: 60 },
        forwarded_to: None,
        to: "10.10.0.1:53".parse().unwrap(),
        protocol: 17,
        count: 3,
        first,
        began: first + Duration::from_millis(2_000),
        last: first + Duration::from_millis(2_001),
    }
}

fn refused() -> DnsQueries {
    DnsQueries {
        names: DnsNames::One { name: "www.example.com".to_owned(), kind: "AAAA".to_owned() },
        code: 5,
        reason: Some(Reason::DnsNameRefused),
        why: Some(Reason::NameNotAllowed),
        rule: Some("policy.default".into()),
        endpoint: None,
        service: None,
        answers: DnsAnswers::default(),
        protocol: 6,
        ..answered()
    }
}

#[test]
fn every_kind_of_question_fits_the_closed_schemas() {
    let directory = tempfile::tempdir().unwrap();
    let audit = start(directory.path(), 1);
    let failed = DnsQueries {
        code: 2,
        reason: Some(Reason::AddressPublic),
        detail: Some("10.20.0.53:53 answered 198.51.100.15".to_owned()),
        ..refused()
    };
    let several = DnsQueries {
        device: None,
        names: DnsNames::Several(vec!["a.example".to_owned(), "b.example".to_owned()]),
        rule: None,
        ..refused()
    };
    let limited = DnsQueries {
        names: DnsNames::Several(Vec::new()),
        reason: Some(Reason::LimitDeviceQueries),
        why: None,
        rule: None,
        ..refused()
    };
    let forwarded = DnsQueries {
        rule: None,
        forwarded_to: Some("10.10.0.53:53".parse().unwrap()),
        code: 3,
        ..answered()
    };
    let all = [answered(), refused(), failed, several, limited, forwarded];
    audit.note_dns(&all).unwrap();
    audit.close();
    assert_eq!(assert_promises(directory.path()), [Value::Null; 0]);
    let stored = records(directory.path());
    let stored: Vec<_> = stored.iter().filter(|record| record["class_uid"] == 4003).collect();
    assert_eq!(stored.len(), all.len());
    let exported = export(directory.path(), "dns");
    assert_eq!(exported.len(), all.len());
    for projected in &exported {
        assert_eq!(problems(projected), Vec::<String>::new(), "{projected}");
    }
    let text = |record: &Value, pointer: &str| record.pointer(pointer).cloned().unwrap_or_default();
    let outcomes: Vec<_> = stored
        .iter()
        .map(|r| ["/status_code", "/rcode", "/action", "/severity_id"].map(|p| text(r, p)))
        .collect();
    let expected = json!([
        ["answered", "NoError", "Allowed", 1],
        ["dns_name_refused", "Refused", "Denied", 2],
        ["address_public", "ServError", "Allowed", 3],
        ["dns_name_refused", "Refused", "Denied", 2],
        ["limit_device_queries", "Refused", "Denied", 2],
        ["answered", "NXDomain", "Allowed", 1],
    ]);
    assert_eq!(json!(outcomes), expected);
    let [first, second, third, fourth, ..] = stored.as_slice() else { panic!("{stored:?}") };
    assert_eq!(first["query"]["hostname"], "historian.corp.example");
    assert_eq!(first["answers"][0]["rdata"], "10.20.0.15");
    assert_eq!((&first["count"], &first["duration"]), (&json!(3), &json!(2_001)));
    assert_eq!(second["unmapped"]["egress"]["detail"], "name_not_allowed");
    assert_eq!(third["unmapped"]["egress"]["reason"], "address_public");
    assert_eq!(fourth["unmapped"]["egress"]["names"], json!(["a.example", "b.example"]));
    assert_eq!(fourth["src_endpoint"]["name"], "several devices");
}
