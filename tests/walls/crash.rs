//! The daemon dies in the middle of flows.

use std::sync::mpsc;

use sluicegate::lab::device::{Call, Failure, tls_connect};
use sluicegate::lab::services::{BUCKET, IOT_DATA};
use sluicegate::lab::{Lab, inside};
use tokio::sync::oneshot;

use super::gate::*;

#[test]
fn a_killed_daemon_leaks_nothing_and_its_flows_are_accounted_for() {
    inside::test("crash::a_killed_daemon_leaks_nothing_and_its_flows_are_accounted_for", || {
        let lab = lab();
        let daemon = start(&lab);
        let pki = lab.pki();
        let bulk = lab.device(1).spawn(async move || {
            let session = tls_connect(&pki, &Call::new(dialled(S3, 443), BUCKET)).await?;
            // Far more than can have been sent when the daemon dies.
            session.get("/blob?size=1000000000000").await
        });
        let (killed, after) = oneshot::channel();
        let (published, ready) = mpsc::channel();
        let pki = lab.pki();
        let idle = lab.device(0).spawn(async move || {
            let call = Call::new(dialled(IOT, 8883), IOT_DATA).with_certificate();
            let mut session = tls_connect(&pki, &call).await.unwrap();
            session.mqtt_publish("press/3", b"x").await.unwrap();
            published.send(()).unwrap();
            after.await.unwrap();
            session.mqtt_ping().await
        });
        until_ready(&ready, "the publication");
        until("a part of the transfer", || (received(&lab) > 1_000_000).then_some(()));
        assert_eq!(daemon.status_json().unwrap()["flows"]["live"], 2);
        daemon.kill_hard();

        let broken = bulk.join().expect_err("the transfer was cut");
        assert_ne!(broken, Failure::TimedOut);
        killed.send(()).unwrap();
        let broken = idle.join().expect_err("the session was cut");
        assert_ne!(broken, Failure::TimedOut);
        assert_all_refused(&lab, Gate::Away, "while the daemon is gone");
        assert_nothing_left(&lab, "around the crash");

        let again = start(&lab);
        assert!(get(&lab, 0, dialled(IOT, 443), IOT_DATA).is_ok());
        until_status(&again, "the flow's end", |s| s["flows"]["live"] == 0);
        again.signal(rustix::process::Signal::TERM).unwrap();
        assert_eq!(again.wait(SOON).unwrap().and_then(|status| status.code()), Some(0));
        let records = assert_log(&lab);
        let crashed = records.iter().filter(|r| r["status_code"] == "unknown_crash").count();
        assert_eq!(crashed, 2, "{records:?}");
        assert_nothing_left(&lab, "before and after");
    });
}

/// The bytes that the second device has received.
fn received(lab: &Lab) -> u64 {
    let text = run(lab.device(1), "ip", &["-s", "-j", "link", "show", "eth0"]);
    let links: serde_json::Value = serde_json::from_str(&text).unwrap();
    links[0]["stats64"]["rx"]["bytes"].as_u64().unwrap()
}
