//! Whatever is done to a running gate, no packet of a device reaches the public side.

use sluicegate::lab::services::IOT_DATA;
use sluicegate::lab::{Lab, inside};

use super::gate::*;

#[test]
fn nothing_gets_out_whatever_is_done_to_the_gate() {
    inside::test("situations::nothing_gets_out_whatever_is_done_to_the_gate", || {
        let lab = lab();
        assert_all_open(&lab, "without the gate");
        let config = lab.daemon_config();
        let daemon = start(&lab);
        let holds = |situation: &str| assert_all_refused(&lab, Gate::Running, situation);
        holds("at first");

        nft(&lab, "flush ruleset");
        until_status(&daemon, "the rules", |s| s["rules"]["restored_total"].as_u64() >= Some(1));
        assert_nothing_left(&lab, "while the rules were gone");
        holds("rules flushed");

        let garbage = config.replace("[\"vpn1\", \"vpn2\"]", "[\"wan0\", 7]");
        assert_ne!(garbage, config);
        daemon.reload(&garbage).unwrap();
        until_status(&daemon, "the refusal", |s| s["policy"]["refused_reload"].is_string());
        holds("a reload of garbage");
        daemon.reload(&config).unwrap();
        until_status(&daemon, "the reload", |s| s["policy"]["refused_reload"].is_null());

        // Better ones than any: for everything, and for the VPC.
        ip(&lab, "route replace default via 203.0.113.1 dev wan0 metric 0");
        ip(&lab, "route add 10.20.0.0/16 via 203.0.113.1 dev wan0 metric 0");
        holds("routes into the public side");
        assert!(get(&lab, 0, dialled(IOT, 443), IOT_DATA).is_ok());
        tries(&lab, "routes into the public side");

        for tunnel in [1, 2] {
            lab.tunnel_delete(tunnel).unwrap();
        }
        tries(&lab, "tunnels deleted");
        holds("tunnels deleted");
        for tunnel in [1, 2] {
            lab.tunnel_create(tunnel).unwrap();
        }
        until("a flow by a tunnel that is back", || get(&lab, 0, dialled(IOT, 443), IOT_DATA).ok());
        assert_nothing_left(&lab, "tunnels made again");

        daemon.kill_hard();
        assert_all_refused(&lab, Gate::Away, "the daemon killed");
    });
}

/// Flows that are allowed, and have nowhere to go but where they must not.
fn tries(lab: &Lab, situation: &str) {
    for _ in 0..3 {
        // Whether it comes through is another test's question.
        let _ = get(lab, 0, dialled(IOT, 443), IOT_DATA);
    }
    assert_nothing_left(lab, situation);
}
