//! What of devices' questions is in the log.

use rustix::process::Signal;
use serde_json::Value;
use sluicegate::lab::services::{BUCKET, FOREIGN, IOT_DATA};
use sluicegate::lab::topology::{RESOLVER_OCTET, public};
use sluicegate::lab::{Daemon, Lab, inside};

use crate::ask::{BOX, dig, start};
use crate::gate::{SOON, all_records, assert_log, lab, until, until_status};

/// Ends the daemon, which records what is left, and returns the records of questions.
pub(crate) fn recorded(lab: &Lab, daemon: &Daemon) -> Vec<Value> {
    daemon.signal(Signal::TERM).unwrap();
    let ended = daemon.wait(SOON).unwrap();
    assert!(ended.is_some_and(|status| status.success()), "{}", daemon.stderr_text());
    assert_log(lab);
    questions(lab)
}

fn questions(lab: &Lab) -> Vec<Value> {
    all_records(lab).into_iter().filter(|record| record["class_uid"] == 4003).collect()
}

pub(crate) fn sum<'r>(records: impl IntoIterator<Item = &'r Value>) -> u64 {
    records.into_iter().map(|record| record["count"].as_u64().unwrap()).sum()
}

#[test]
fn every_question_is_counted_in_the_record_of_its_kind() {
    inside::test("records::every_question_is_counted_in_the_record_of_its_kind", || {
        let lab = lab();
        let daemon = start(&lab, "");
        let resolver = public(RESOLVER_OCTET)[0];
        dig(&lab, 0, BOX, &[IOT_DATA]);
        // The first of its kind does not wait for the end.
        let first = until("the first record", || questions(&lab).into_iter().next());
        assert_eq!((&first["query"]["hostname"], &first["count"]), (&IOT_DATA.into(), &1.into()));
        for _ in 0..5 {
            dig(&lab, 0, BOX, &[&IOT_DATA.to_uppercase()]);
        }
        dig(&lab, 0, BOX, &["-t", "AAAA", IOT_DATA]);
        dig(&lab, 1, resolver, &[IOT_DATA]);
        for _ in 0..3 {
            dig(&lab, 0, resolver, &["+tcp", FOREIGN]);
        }
        dig(&lab, 0, BOX, &[BUCKET]);
        lab.zone().remove_private(IOT_DATA);
        until("a public answer", || {
            (dig(&lab, 0, BOX, &[IOT_DATA]).status() == Some("SERVFAIL")).then_some(())
        });
        let status = until_status(&daemon, "the counts", |status| status["dns"].is_object());
        let records = recorded(&lab, &daemon);

        let of = |code: &str, device: &str, name: &str| -> Vec<&Value> {
            let wanted = |record: &&Value| {
                record["status_code"] == code
                    && record["src_endpoint"]["name"] == device
                    && record["query"]["hostname"] == name
            };
            records.iter().filter(wanted).collect()
        };
        let answered = of("answered", "press-3", IOT_DATA);
        let (v4, v6): (Vec<_>, Vec<_>) =
            answered.into_iter().partition(|record| record["query"]["type"] == "A");
        assert!(sum(v4.iter().copied()) >= 6, "{v4:#?}");
        assert_eq!((sum(v6.iter().copied()), v6[0]["query"]["type"].as_str()), (1, Some("AAAA")));
        assert_eq!(v4[0]["answers"].as_array().unwrap().len(), 2);
        assert_eq!(v4[0]["firewall_rule"]["name"], "device press-3");
        assert_eq!(v4[0]["unmapped"]["egress"]["identity"], "mac");
        let other = of("answered", "gateway-1", IOT_DATA);
        assert_eq!(other[0]["dst_endpoint"]["ip"], resolver.to_string());
        let refused = of("dns_name_refused", "press-3", FOREIGN);
        assert_eq!((refused.len(), sum(refused.iter().copied())), (1, 3));
        assert_eq!(
            (&refused[0]["rcode"], &refused[0]["action_id"]),
            (&"Refused".into(), &2.into())
        );
        assert_eq!(refused[0]["connection_info"]["protocol_name"], "tcp");
        assert_eq!(refused[0]["unmapped"]["egress"]["detail"], "name_not_allowed");
        let bucket = of("dns_name_refused", "press-3", BUCKET);
        assert_eq!(bucket[0]["unmapped"]["egress"]["detail"], "device_not_allowed");
        let remedy = bucket[0]["unmapped"]["egress"]["remedy"].as_str().unwrap();
        assert!(remedy.contains("press-3"), "{remedy}");
        assert!(!of("address_public", "press-3", IOT_DATA).is_empty(), "{records:#?}");
        let all = ["answered_total", "refused_total", "failed_total"];
        let counted: u64 = all.iter().map(|key| status["dns"][key].as_u64().unwrap()).sum();
        assert_eq!(sum(&records), counted);
    });
}
