//! Connections that are set up: how many at once, how fast, and by which way.

use std::time::Duration;

use serde_json::Value;
use sluicegate::lab::device::{Call, Failure, tls_connect};
use sluicegate::lab::services::{IOT_CREDENTIALS, IOT_DATA};
use sluicegate::lab::topology::ZONES;
use sluicegate::lab::{Lab, inside};
use tokio::task::JoinSet;

use super::gate::*;

/// Many flows of one device to one name at once; how many came through.
fn storm(lab: &Lab, number: usize, flows: usize) -> usize {
    let pki = lab.pki();
    let outcomes = lab.device(number).run(async move || {
        let mut storm = JoinSet::new();
        for _ in 0..flows {
            let (pki, call) = (pki.clone(), Call::new(dialled(IOT, 443), IOT_DATA));
            storm.spawn_local(async move { tls_connect(&pki, &call).await });
        }
        storm.join_all().await
    });
    let hung = |outcome: &Result<_, Failure>| matches!(outcome, Err(Failure::TimedOut));
    assert!(!outcomes.iter().any(hung), "{outcomes:?}");
    outcomes.iter().filter(|outcome| outcome.is_ok()).count()
}

fn ends(lab: &Lab, skip: usize, reason: &str) -> usize {
    records(lab).iter().skip(skip).filter(|record| record["status_code"] == reason).count()
}

fn syn_sent(lab: &Lab) -> usize {
    run(lab.edge(), "ss", &["-Htn", "state", "syn-sent"]).lines().count()
}

#[test]
fn dials_to_a_silent_endpoint_do_not_pile_up() {
    inside::test("dials::dials_to_a_silent_endpoint_do_not_pile_up", || {
        let lab = lab();
        let config = lab.daemon_config() + "\n[limits]\nendpoint-dials = 4\n";
        let daemon = start_with(&lab, &config);
        let silent = ZONES.map(|zone| zone.address(IOT).to_string()).join(", ");
        let set = |verb: &str| format!("{verb} element inet lab silent_hosts {{ {silent} }}");
        run(lab.vpc(), "nft", &[&set("add")]);
        // From these the gate learns how long dials take.
        assert_eq!(storm(&lab, 0, 16), 0);
        let skip = records(&lab).len();
        let pki = lab.pki();
        let storm_of_60 = lab.device(0).spawn(async move || {
            let mut storm = JoinSet::new();
            for _ in 0..60 {
                let (pki, call) = (pki.clone(), Call::new(dialled(IOT, 443), IOT_DATA));
                storm.spawn_local(async move { tls_connect(&pki, &call).await.is_ok() });
            }
            storm.join_all().await
        });
        let most = until("every end", || {
            // Each dial tries both zones by both tunnels.
            let now = syn_sent(&lab);
            assert!(now <= 4 * 4, "{now} half-open sockets");
            let ended = records(&lab).iter().skip(skip).filter(|record| is_end(record)).count();
            (ended == 60).then_some(now)
        });
        assert!(most <= 16);
        assert!(!storm_of_60.join().contains(&true));
        // Refused early: before anything was opened for them.
        let early = records(&lab)
            .into_iter()
            .skip(skip)
            .filter(|record| record["status_code"] == "endpoint_limit");
        let early: Vec<Value> = early.collect();
        assert!(early.len() >= 30, "refused early: {}", early.len());
        assert!(early.iter().all(|record| record["activity_id"] == 5), "{early:?}");
        let status = daemon.status_json().unwrap();
        let dials = &status["dials"]["iot-data"];
        assert_eq!((&dials["dialling"], &dials["queued"]), (&0.into(), &0.into()), "{dials}");
        assert!(dials["refused_total"].as_u64() >= Some(30), "{dials}");
        // Another endpoint has its own queue, and this one works again once it answers.
        assert!(get(&lab, 0, dialled(12, 443), IOT_CREDENTIALS).is_ok());
        run(lab.vpc(), "nft", &[&set("delete")]);
        assert_eq!(storm(&lab, 0, 1), 1);
        until_status(&daemon, "every end", |status| status["flows"]["live"] == 0);
        assert_log(&lab);
    });
}

#[test]
fn the_pace_of_an_endpoint_is_kept() {
    inside::test("dials::the_pace_of_an_endpoint_is_kept", || {
        let lab = lab();
        let paced = "[endpoint.iot-data]\nconnects-per-second = 10\n";
        let config = lab.daemon_config().replace("[endpoint.iot-data]\n", paced);
        let daemon = start_with(&lab, &config);
        let skip = records(&lab).len();
        let through = storm(&lab, 0, 30);
        // One device alone may use half of the queue: 750 ms of it. How many more get in depends on
        // how fast the device itself is.
        assert!((4..=25).contains(&through), "{through}");
        until("every end", || (ends(&lab, skip, "endpoint_limit") == 30 - through).then_some(()));
        let opens: Vec<u64> = records(&lab)
            .iter()
            .skip(skip)
            .filter(|record| record["activity_id"] == 1)
            .filter_map(|record| record["time"].as_u64())
            .collect();
        assert_eq!(opens.len(), through);
        let span = Duration::from_millis(opens.last().unwrap() - opens.first().unwrap());
        let paced = Duration::from_millis(100) * u32::try_from(through - 1).unwrap();
        assert!(span > paced / 2, "{through} flows in {span:?}");
        until_status(&daemon, "every end", |status| status["flows"]["live"] == 0);
        assert_log(&lab);
    });
}

#[test]
fn a_dead_tunnel_with_many_addresses_is_left_for_the_other_and_remembered() {
    inside::test(
        "dials::a_dead_tunnel_with_many_addresses_is_left_for_the_other_and_remembered",
        || {
            let lab = lab();
            let config = lab.daemon_config() + "\n[intercept]\ndata-threads = 1\n";
            let daemon = start_with(&lab, &config);
            // All of these answer; by the dead tunnel, each alone would cost a flow its whole time.
            let octets = [11, 12, 13, 14, 15, 16];
            let many: Vec<_> =
                ZONES.iter().flat_map(|zone| octets.map(|octet| zone.address(octet))).collect();
            lab.zone().set_private(IOT_DATA, &many);
            until_status(&daemon, "every address", |status| {
                list(&endpoint(status, IOT_DATA)["addresses"]).len() == many.len()
            });
            lab.tunnel_blackhole(1).unwrap();
            let counting = "table inet counting {
                counter syns { }
                chain out {
                    type filter hook output priority 100
                    oifname vpn1 tcp flags syn tcp dport 443 counter name syns
                }
            }";
            nft(&lab, counting);
            for _ in &many {
                assert_eq!(storm(&lab, 0, 1), 1);
            }
            let learning = packets(&lab, "counting", "syns");
            assert!(learning > 0, "the best tunnel is tried first");
            let skip = records(&lab).len();
            for _ in &many {
                assert_eq!(storm(&lab, 0, 1), 1);
            }
            // Whoever tries it first waits a quarter of a second for the other. Half of them, because
            // a busy machine may take that long for anything.
            let opened = || {
                let open = |record: &Value| record["proxy_endpoint"].is_object() && is_end(record);
                records(&lab).into_iter().skip(skip).filter(open).collect::<Vec<_>>()
            };
            until("their ends", || (opened().len() == many.len()).then_some(()));
            let waited = |record: &&Value| {
                record["unmapped"]["egress"]["connect_us"].as_u64().unwrap() >= 250_000
            };
            let waited = opened().iter().filter(waited).count();
            assert!(waited < many.len() / 2, "{waited} have tried what is known to be dead");
            until_status(&daemon, "every end", |status| status["flows"]["live"] == 0);
            let ends = assert_log(&lab);
            let by = |end: &Value| end["proxy_endpoint"]["interface_name"].clone();
            let opened = ends.iter().filter(|end| is_end(end) && end["activity_id"] != 5);
            assert!(opened.clone().count() > 0 && opened.map(by).all(|by| by == "vpn2"));
        },
    );
}
