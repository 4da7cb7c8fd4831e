//! A tunnel whose path dies while its link stays up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sluicegate::lab::device::{Call, Failure, tls_connect};
use sluicegate::lab::services::IOT_DATA;
use sluicegate::lab::topology::{DEVICES, ZONES};
use sluicegate::lab::{Lab, inside};

use super::gate::*;
use super::support::*;

/// The lab's configuration with this much patience for a tunnel that comes back.
fn config(lab: &Lab, return_after: &str) -> String {
    let line = format!("[tunnel]\nreturn-after = \"{return_after}\"\n");
    lab.daemon_config().replace("[tunnel]\n", &line)
}

#[test]
fn new_flows_leave_a_silent_tunnel_and_come_back_to_one_that_has_earned_it() {
    inside::test(
        "failover::new_flows_leave_a_silent_tunnel_and_come_back_to_one_that_has_earned_it",
        || {
            let lab = lab();
            let daemon = start_with(&lab, &config(&lab, "1h"));
            until_preferred(&daemon, "vpn1");
            assert_eq!(way_of_new_flow(&lab), "vpn1");
            let idle = idle_session(&lab, 1);
            let status = until_state(&daemon, "vpn2", "up");
            assert!(tunnel(&status, "vpn1")["latency_ms"].as_f64().is_some(), "{status}");

            lab.tunnel_blackhole(1).unwrap();
            let began = Instant::now();
            let status = until_state(&daemon, "vpn1", "dead");
            let took = began.elapsed();
            println!("dead after {took:?}");
            assert_eq!(tunnel(&status, "vpn1")["reason"], "nothing answers through it");
            assert!(problem_codes(&status).contains(&"tunnel_dead"), "{status}");
            assert_eq!(way_of_new_flow(&lab), "vpn2");
            // A flow that nobody would have missed for minutes: its device is told.
            let lost = until_record(&lab, "the end", |r| r["status_code"] == "tunnel_lost");
            idle.join();
            assert_eq!(interface(&lost), "vpn1");
            assert_eq!(lost["src_endpoint"]["ip"], DEVICES[1].address.to_string());

            lab.tunnel_heal(1).unwrap();
            until_state(&daemon, "vpn1", "up");
            assert_eq!(way_of_new_flow(&lab), "vpn2", "the first one has to earn it");
            daemon.reload(&config(&lab, "1s")).unwrap();
            until_preferred(&daemon, "vpn1");
            assert_eq!(way_of_new_flow(&lab), "vpn1");

            let story: Vec<_> = told(&lab, "tunnel").into_iter().map(|t| t["to"].clone()).collect();
            assert!(story.ends_with(&["dead".into(), "up".into()]), "{story:?}");
            let last = told(&lab, "tunnel_preferred").pop().unwrap();
            assert_eq!(last["interface"], "vpn1");
            assert_log(&lab);
            assert_eq!(lab.leaked_packets().unwrap(), 0);
        },
    );
}

#[test]
fn one_thing_that_answers_keeps_a_tunnel() {
    inside::test("failover::one_thing_that_answers_keeps_a_tunnel", || {
        let lab = lab();
        let daemon = start(&lab);
        let [first, second] = ZONES;
        lab.resolvers_down().unwrap();
        lab.zone_down(first.name).unwrap();
        // Only the second zone's servers are left, and these the gate has to knock at.
        let knocked = || {
            let seen = lab.vpc_ledger().seen();
            let there = |ip: std::net::IpAddr| ip.to_string().starts_with("10.20.1.");
            seen.iter().filter(|seen| there(seen.endpoint.ip()) && seen.name.is_none()).count()
        };
        let before = knocked();
        until("ten rounds by each tunnel", || (knocked() > before + 20).then_some(()));
        let status = daemon.status_json().unwrap();
        for interface in ["vpn1", "vpn2"] {
            assert_eq!(tunnel(&status, interface)["up"], true, "{status}");
        }
        lab.zone_up(first.name).unwrap();
        lab.zone_down(second.name).unwrap();
        lab.resolvers_up().unwrap();
        for interface in ["vpn1", "vpn2"] {
            until_state(&daemon, interface, "up");
        }
        assert!(told(&lab, "tunnel").iter().all(|told| told["to"] != "dead"));
    });
}

#[test]
fn without_any_tunnel_flows_are_refused_and_live_ones_are_left_alone() {
    inside::test(
        "failover::without_any_tunnel_flows_are_refused_and_live_ones_are_left_alone",
        || {
            let lab = lab();
            let daemon = start(&lab);
            let pki = lab.pki();
            let (healed, after) = tokio::sync::oneshot::channel::<()>();
            let (ready, is_ready) = std::sync::mpsc::channel();
            let session = lab.device(1).spawn(async move || {
                let call = Call::new(dialled(IOT, 8883), IOT_DATA).with_certificate();
                let mut session = tls_connect(&pki, &call).await.unwrap();
                session.mqtt_publish("press/3", b"x").await.unwrap();
                ready.send(()).unwrap();
                after.await.unwrap();
                session.mqtt_ping().await
            });
            until_ready(&is_ready, "the session");
            lab.tunnel_blackhole(1).unwrap();
            lab.tunnel_blackhole(2).unwrap();
            for interface in ["vpn1", "vpn2"] {
                until_state(&daemon, interface, "dead");
            }
            let skip = records(&lab).len();
            get(&lab, 0, dialled(IOT, 443), IOT_DATA).expect_err("refused");
            let record = until_end_behind(&lab, skip, DEVICES[0].address.into());
            assert_eq!(record["status_code"], "tunnel_down", "{record}");
            let detail = record["unmapped"]["egress"]["detail"].as_str().unwrap();
            assert!(detail.contains("vpn2: nothing answers"), "{detail}");
            assert_eq!(lab.leaked_packets().unwrap(), 0);
            lab.tunnel_heal(2).unwrap();
            lab.tunnel_heal(1).unwrap();
            for interface in ["vpn1", "vpn2"] {
                until_state(&daemon, interface, "up");
            }
            healed.send(()).unwrap();
            assert_eq!(session.join(), Ok(()), "there was no better way for it");
            until_status(&daemon, "every end", |status| status["flows"]["live"] == 0);
            assert_log(&lab);
        },
    );
}

#[test]
fn flows_that_still_move_are_left_alone() {
    inside::test("failover::flows_that_still_move_are_left_alone", || {
        let lab = lab();
        let daemon = start(&lab);
        until_preferred(&daemon, "vpn1");
        let (stop, pings) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let moving = {
            let (stop, pings, pki) = (Arc::clone(&stop), Arc::clone(&pings), lab.pki());
            lab.device(1).spawn(async move || {
                let call = Call::new(dialled(IOT, 8883), IOT_DATA).with_certificate();
                let mut session = tls_connect(&pki, &call).await.unwrap();
                session.mqtt_connect().await.unwrap();
                while !stop.load(Ordering::Relaxed) {
                    session.mqtt_ping().await?;
                    pings.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Ok::<(), Failure>(())
            })
        };
        until("the first pings", || (pings.load(Ordering::Relaxed) > 2).then_some(()));
        let idle = idle_session(&lab, 0);
        // Whatever begins is lost, and what has begun goes on.
        let rules = "table inet half {
            chain arrive {
                type filter hook prerouting priority raw
                iifname tun1 udp dport 53 drop
                iifname tun1 tcp flags & (syn | ack) == syn drop
            }
        }";
        run(lab.vpc(), "nft", &[rules]);
        until_state(&daemon, "vpn1", "dead");
        let lost = until_record(&lab, "the end", |r| r["status_code"] == "tunnel_lost");
        idle.join();
        assert_eq!(lost["src_endpoint"]["ip"], DEVICES[0].address.to_string());
        let so_far = pings.load(Ordering::Relaxed);
        until("more pings", || (pings.load(Ordering::Relaxed) > so_far + 20).then_some(()));
        stop.store(true, Ordering::Relaxed);
        assert_eq!(moving.join(), Ok(()));
        until_status(&daemon, "every end", |status| status["flows"]["live"] == 0);
        assert_log(&lab);
    });
}
