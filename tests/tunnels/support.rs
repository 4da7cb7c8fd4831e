//! What the tests of the tunnels share.

#![allow(dead_code, reason = "each test program uses its own part")]

use serde_json::Value;
use sluicegate::lab::device::{Call, Failure, tls_connect};
use sluicegate::lab::party::Work;
use sluicegate::lab::services::IOT_DATA;
use sluicegate::lab::topology::DEVICES;
use sluicegate::lab::{Daemon, Lab};

use super::gate::*;

/// The status of one tunnel.
pub(crate) fn tunnel<'a>(status: &'a Value, interface: &str) -> &'a Value {
    let found = list(&status["tunnels"]).iter().find(|tunnel| tunnel["interface"] == interface);
    found.unwrap_or_else(|| panic!("{interface} is not in {status}"))
}

pub(crate) fn until_state(daemon: &Daemon, interface: &str, state: &str) -> Value {
    until_status(daemon, &format!("{interface} to be {state}"), |status| {
        tunnel(status, interface)["state"] == state
    })
}

/// Waits until something has answered through a tunnel.
pub(crate) fn until_answers(daemon: &Daemon, interface: &str) {
    until_status(daemon, &format!("an answer through {interface}"), |status| {
        let tunnel = tunnel(status, interface);
        tunnel["state"] == "up" && tunnel["latency_ms"].is_number()
    });
}

pub(crate) fn until_preferred(daemon: &Daemon, interface: &str) {
    until_status(daemon, &format!("{interface} to be preferred"), |status| {
        tunnel(status, interface)["preferred"] == true
    });
}

/// The tunnel that a new flow of the first device goes by.
pub(crate) fn way_of_new_flow(lab: &Lab) -> String {
    let skip = records(lab).len();
    let reply = get(lab, 0, dialled(IOT, 443), IOT_DATA);
    let record = until_end_behind(lab, skip, DEVICES[0].address.into());
    assert!(reply.is_ok(), "{reply:?}: {record}");
    interface(&record)
}

/// The tunnel in a flow's record.
pub(crate) fn interface(record: &Value) -> String {
    let interface = &record["proxy_endpoint"]["interface_name"];
    interface.as_str().unwrap_or_else(|| panic!("no tunnel in {record}")).to_owned()
}

/// An MQTT session of a device that waits, and says how it ended when nothing answers any more.
pub(crate) fn idle_session(lab: &Lab, number: usize) -> Work<Failure> {
    let pki = lab.pki();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let session = lab.device(number).spawn(async move || {
        let call = Call::new(dialled(IOT, 8883), IOT_DATA).with_certificate();
        let mut session = tls_connect(&pki, &call).await.unwrap();
        session.mqtt_publish("press/3", b"x").await.unwrap();
        ready.send(()).unwrap();
        session.until_closed().await
    });
    until_ready(&is_ready, "the session");
    session
}

/// The records of what the tunnels did.
pub(crate) fn told(lab: &Lab, code: &str) -> Vec<Value> {
    let records = all_records(lab).into_iter().filter(|record| record["status_code"] == code);
    records.map(|record| record["unmapped"]["system"].clone()).collect()
}
