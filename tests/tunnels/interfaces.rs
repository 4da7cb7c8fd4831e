//! Interfaces that go, come back and have other names.

use serde_json::Value;
use sluicegate::lab::inside;

use super::gate::*;
use super::support::*;

#[test]
fn a_deleted_interface_is_left_at_once_and_used_again_when_it_is_back() {
    inside::test(
        "interfaces::a_deleted_interface_is_left_at_once_and_used_again_when_it_is_back",
        || {
            let lab = lab();
            let config = lab.daemon_config();
            let config = config.replace("[tunnel]\n", "[tunnel]\nreturn-after = 0\n");
            let daemon = start_with(&lab, &config);
            until_preferred(&daemon, "vpn1");
            let idle = idle_session(&lab, 1);
            lab.tunnel_delete(1).unwrap();
            // Nobody has to find out by silence.
            until_preferred(&daemon, "vpn2");
            let lost = until_record(&lab, "the end", |r| r["status_code"] == "tunnel_lost");
            idle.join();
            assert_eq!(interface(&lost), "vpn1");
            assert_eq!(way_of_new_flow(&lab), "vpn2");
            let reason = tunnel(&daemon.status_json().unwrap(), "vpn1")["reason"].clone();
            assert_eq!(reason, "the interface does not exist");
            lab.tunnel_create(1).unwrap();
            until_preferred(&daemon, "vpn1");
            assert_eq!(way_of_new_flow(&lab), "vpn1");
            // Both at once, and back: names are resolved again, and flows work.
            lab.tunnel_delete(1).unwrap();
            lab.tunnel_delete(2).unwrap();
            until_state(&daemon, "vpn2", "down");
            lab.tunnel_create(2).unwrap();
            until_preferred(&daemon, "vpn2");
            assert_eq!(way_of_new_flow(&lab), "vpn2");
            assert_log(&lab);
            assert_nothing_left(&lab, "without tunnels");
        },
    );
}

#[test]
fn a_tunnel_may_be_named_by_its_other_name() {
    inside::test("interfaces::a_tunnel_may_be_named_by_its_other_name", || {
        let lab = lab();
        ip(&lab, "link property add dev vpn1 altname blue");
        let named = lab.daemon_config().replace("[\"vpn1\", \"vpn2\"]", "[\"blue\", \"green\"]");
        assert_ne!(named, lab.daemon_config());
        let daemon = start_with(&lab, &named);
        until_preferred(&daemon, "blue");
        assert_eq!(way_of_new_flow(&lab), "blue");
        let restored = |status: &Value| status["rules"]["restored_total"].clone();
        assert_eq!(restored(&daemon.status_json().unwrap()), 0, "its own name is no damage");
        // One that gets its name while the gate runs.
        until_state(&daemon, "green", "down");
        ip(&lab, "link property add dev vpn2 altname green");
        until_state(&daemon, "green", "up");
        lab.tunnel_delete(1).unwrap();
        until_preferred(&daemon, "green");
        assert_eq!(way_of_new_flow(&lab), "green");
        assert_nothing_left(&lab, "other names");
    });
}
