//! Flows that live long say what they move.

use std::sync::mpsc;

use serde_json::Value;
use sluicegate::lab::device::{Call, Failure, tls_connect};
use sluicegate::lab::inside;
use sluicegate::lab::services::IOT_DATA;
use tokio::sync::oneshot;

use super::gate::*;

#[test]
fn a_long_flow_reports_and_is_one_flow_all_the_same() {
    inside::test("long::a_long_flow_reports_and_is_one_flow_all_the_same", || {
        let lab = lab();
        let often = lab.daemon_config().replacen("[audit]", "[audit]\nreport-every = \"1s\"", 1);
        let daemon = start_with(&lab, &often);
        let (go_on, told) = oneshot::channel::<()>();
        let (connected, ready) = mpsc::channel();
        let pki = lab.pki();
        let held = lab.device(0).spawn(async move || {
            let session = tls_connect(&pki, &Call::new(dialled(IOT, 443), IOT_DATA)).await?;
            connected.send(()).unwrap();
            let _ = told.await;
            Ok::<_, Failure>(session.get("/").await?.status)
        });
        until_ready(&ready, "the flow");
        let reports = || -> Vec<Value> {
            let reports = records(&lab).into_iter().filter(|record| record["activity_id"] == 6);
            reports.collect()
        };
        let two = until("two reports", || Some(reports()).filter(|reports| reports.len() >= 2));
        let bytes = |record: &Value, name: &str| record[name]["bytes"].as_u64().unwrap();
        assert!(bytes(&two[0], "traffic") > 500, "the handshake: {}", two[0]);
        assert_eq!(bytes(&two[1], "traffic"), 0, "it is silent: {}", two[1]);
        assert_eq!(bytes(&two[1], "cumulative_traffic"), bytes(&two[0], "traffic"));
        assert_eq!(two[0]["metadata"]["correlation_uid"], two[1]["metadata"]["correlation_uid"]);

        go_on.send(()).unwrap();
        assert_eq!(held.join(), Ok(200), "{}", daemon.stderr_text());
        let end = until_record(&lab, "the end", is_end);
        let reported: u64 = reports().iter().map(|report| bytes(report, "traffic")).sum();
        assert!(bytes(&end, "traffic") > reported, "the request came behind: {end}");
        let records = assert_log(&lab);
        assert_eq!(records.iter().filter(|record| record["activity_id"] == 1).count(), 1);

        let directory = audit_directory(&lab);
        let directory = directory.to_str().unwrap();
        let top = ["audit", "top", "device", "--by", "bytes", "--json", "--dir", directory];
        let top: Value = serde_json::from_str(&stdout(&sluicegate(&lab, &top))).unwrap();
        assert_eq!((&top["rows"][0]["flows"], top["keys"].as_u64()), (&Value::from(1), Some(1)));
        assert_eq!(top["rows"][0]["bytes"], bytes(&end, "traffic"));
    });
}
