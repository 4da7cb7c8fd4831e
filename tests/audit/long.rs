//! What a flow says while it lives, and what it speaks.

use serde_json::Value;
use sluicegate::audit::{FlowEnd, TrafficFacts};
use sluicegate::hello::HelloFacts;

use crate::records::{TRAFFIC, classes, left_by};
use crate::support::{allowed, dial, hello, wait};

#[test]
fn a_long_flow_says_what_it_moved_since_it_last_did() {
    let records = left_by(|audit| {
        let mut flow = allowed(audit);
        // Not yet: nothing has moved before the Open.
        flow.report(TRAFFIC);
        wait(flow.open()).unwrap();
        flow.set_dial(dial());
        let later = TrafficFacts { up: 20_000, down: 9_312, spliced: 5_000 };
        for total in [TRAFFIC, later, later] {
            flow.report(total);
        }
        flow.close(FlowEnd::ClosedByDevice, later);
    });
    let [open, reports @ .., end] = records.as_slice() else { panic!("{records:?}") };
    let moved = |record: &Value, name: &str| {
        ["bytes", "bytes_out", "bytes_in"].map(|key| record[name][key].as_u64().unwrap())
    };
    let deltas: Vec<_> = reports.iter().map(|report| moved(report, "traffic")).collect();
    assert_eq!(deltas, [[27_552, 18_240, 9_312], [1_760, 1_760, 0], [0, 0, 0]]);
    for report in reports {
        assert_eq!(classes(report), [6, 1, 1, 1, 1]);
        assert_eq!(report["status_code"], "interval");
        assert_eq!(report["metadata"]["correlation_uid"], open["metadata"]["correlation_uid"]);
        assert!(report["duration"].is_u64() && report.get("end_time").is_none());
        assert!(report["unmapped"]["egress"].get("conn_state").is_none());
    }
    assert_eq!(moved(&reports[0], "cumulative_traffic"), [27_552, 18_240, 9_312]);
    assert_eq!(moved(&reports[2], "cumulative_traffic"), [29_312, 20_000, 9_312]);
    assert_eq!(moved(end, "traffic"), [29_312, 20_000, 9_312]);
    assert!(end.get("cumulative_traffic").is_none());
}

#[test]
fn the_application_is_what_all_offers_belong_to() {
    let offers: [(&[&[u8]], _); 7] = [
        (&[], "tls"),
        (&[b"h2", b"http/1.1"], "https"),
        (&[b"http/1.1"], "https"),
        (&[b"x-amzn-mqtt-ca"], "secure-mqtt"),
        (&[b"mqtt"], "secure-mqtt"),
        (&[b"mqtt", b"http/1.1"], "tls"),
        (&[b"h2", b"other"], "tls"),
    ];
    for (offered, application) in offers {
        let records = left_by(|audit| {
            let mut flow = allowed(audit);
            let facts = HelloFacts { alpn: offered.iter().copied().collect(), ..hello() };
            flow.set_hello(Some(&"iot.example".parse().unwrap()), &facts, facts.ja4());
            wait(flow.open()).unwrap();
            flow.close(FlowEnd::ClosedByDevice, TRAFFIC);
        });
        for record in &records {
            assert_eq!(record["app_protocol_name"], application, "{offered:?}");
        }
    }
}
