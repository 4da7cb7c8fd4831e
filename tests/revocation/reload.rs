//! A reload under thousands of live flows.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Instant;

use serde_json::Value;
use sluicegate::lab::inside;
use sluicegate::lab::party::Work;
use sluicegate::lab::services::{HISTORIAN, IOT_DATA, SPARE_OCTET};
use tokio::sync::watch;

use super::flows::{Act, Ended, Group, echo_at};
use super::gate::*;

/// Flows that keep their permission, of each of two devices.
const KEPT: usize = 1_250;
/// Flows of the second device whose permission is withdrawn.
const WITHDRAWN: usize = 2_500;
/// One device must be able to open them all, as fast as it can.
const WITHOUT_LIMITS: &str = "\n[limits]\ndevice-flows = 20000\ndevice-new-flows = 20000\n\
                              device-hellos = 20000\nnew-flows = 20000\n";

#[test]
fn a_reload_under_5000_flows_cuts_those_withdrawn_and_loses_no_byte_of_the_others() {
    let name =
        "reload::a_reload_under_5000_flows_cuts_those_withdrawn_and_loses_no_byte_of_the_others";
    inside::test(name, || {
        raise_descriptor_limit();
        let lab = lab();
        for name in [IOT_DATA, HISTORIAN] {
            let SocketAddr::V4(spare) = private(0, SPARE_OCTET, 443) else { unreachable!() };
            lab.zone().set_private(name, &[*spare.ip()]);
        }
        let met = lab.vpc().run(async || echo_at(private(0, SPARE_OCTET, 443)).await);
        let config = lab.daemon_config() + WITHOUT_LIMITS;
        let without = config.replacen("\"ecr\", \"historian\", ", "\"ecr\", ", 1);
        assert_ne!(without, config);
        let daemon = start_with(&lab, &config);

        let began = Instant::now();
        let (stage, act) = watch::channel(Act::Open);
        let (progress, happened) = mpsc::channel();
        let (over, ended) = mpsc::channel();
        let group = |device: usize, name: &'static str, flows: usize| -> Work<Vec<Ended>> {
            let (act, progress, over) = (act.clone(), progress.clone(), over.clone());
            let group = Group { to: dialled(IOT, 443), name, flows, act, progress };
            lab.device(device).spawn(async move || {
                let flows = group.live().await;
                over.send(()).unwrap();
                flows
            })
        };
        let press = group(0, IOT_DATA, KEPT);
        let gateway = group(1, IOT_DATA, KEPT);
        let withdrawn = group(1, HISTORIAN, WITHDRAWN);
        let all = 2 * KEPT + WITHDRAWN;
        (0..all).for_each(|_| until_ready(&happened, "a flow to be open"));
        println!("{all} flows were open after {:?}", began.elapsed());
        assert_eq!(daemon.status_json().unwrap()["flows"]["live"], all);
        stage.send_replace(Act::Talk);
        (0..all / 2).for_each(|_| until_ready(&happened, "a flow to talk"));

        let asked = Instant::now();
        daemon.reload(&without).unwrap();
        daemon.wait_notification("READY=1", SOON).unwrap();
        println!("the reload was through after {:?}", asked.elapsed());
        until_status(&daemon, "the cut and its records", |status| {
            status["flows"]["live"].as_u64() <= Some(2 * KEPT as u64)
                && status["audit"]["seq"].as_u64() >= Some((all + WITHDRAWN) as u64)
        });
        println!("the flows were cut after {:?}", asked.elapsed());
        let cut: Vec<Value> = records(&lab).into_iter().filter(is_end).collect();
        assert!(cut.iter().all(|end| end["status_code"] == "policy_withdrawn"), "{:#}", cut[0]);
        assert_eq!(cut.len(), WITHDRAWN);
        until_ready(&ended, "the end of every flow that is withdrawn");
        let withdrawn = withdrawn.join();
        assert_eq!(withdrawn.len(), WITHDRAWN);
        for flow in &withdrawn {
            assert_eq!(flow.end, Err(ErrorKind::ConnectionReset), "{flow:?}");
        }
        // Both groups of the second device have its address, and no port twice.
        assert!(cut.iter().all(|end| end["src_endpoint"]["name"] == "gateway-1"));
        assert_eq!(ports(&cut), withdrawn.iter().map(|flow| flow.port).collect());

        let status = daemon.status_json().unwrap();
        assert_eq!(status["flows"]["live"], 2 * KEPT, "the others live on");
        stage.send_replace(Act::Close);
        let kept = [("press-3", press.join()), ("gateway-1", gateway.join())];
        until_status(&daemon, "all ends and their records", |status| {
            status["flows"]["live"] == 0 && status["audit"]["seq"].as_u64() >= Some(2 * all as u64)
        });
        let records = assert_log(&lab);
        assert_eq!(records.iter().filter(|record| record["activity_id"] == 1).count(), all);
        assert_eq!(records.iter().filter(|record| is_end(record)).count(), all);
        for (device, flows) in &kept {
            assert_eq!(flows.len(), KEPT);
            assert_whole(&records, device, flows);
        }
        until("the server's ends", || (met.closed() == 2 * KEPT).then_some(()));
        assert_eq!(met.broken(), BTreeMap::from([(ErrorKind::ConnectionReset, WITHDRAWN)]));
        assert_eq!(lab.leaked_packets().unwrap(), 0, "{:?}", lab.leaks());
        assert_eq!(lab.bypassed_packets().unwrap(), 0);
        println!("all was over after {:?}", began.elapsed());
    });
}

/// These flows lived to the end that they were asked for, and are recorded with all their bytes.
fn assert_whole(records: &[Value], device: &str, flows: &[Ended]) {
    let ends: BTreeMap<u16, &Value> = records
        .iter()
        .filter(|record| is_end(record) && record["src_endpoint"]["name"] == device)
        .filter(|record| record["status_code"] != "policy_withdrawn")
        .map(|end| (port(end), end))
        .collect();
    assert_eq!(ends.len(), flows.len(), "{device}");
    for flow in flows {
        assert_eq!(flow.end, Ok(()), "{device}: {flow:?}");
        let end = ends[&flow.port];
        assert_eq!(end["status_code"], "closed_by_device", "{end:#}");
        assert_eq!(end["traffic"]["bytes_out"], flow.sent, "{flow:?} {end:#}");
        assert_eq!(end["traffic"]["bytes_in"], flow.received, "{flow:?} {end:#}");
    }
    let received = flows.iter().map(|flow| flow.received);
    println!("{device}: {} bytes came back", received.sum::<u64>());
}

fn ports(ends: &[Value]) -> BTreeSet<u16> {
    ends.iter().map(port).collect()
}

fn port(record: &Value) -> u16 {
    record["src_endpoint"]["port"].as_u64().unwrap().try_into().unwrap()
}

fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).unwrap();
}
