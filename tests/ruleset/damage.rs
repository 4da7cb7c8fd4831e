//! Every kind of damage to the table is found.

use serde_json::Value;
use sluicegate::intercept::nft::{self, Verified};
use sluicegate::lab::inside;

use super::{feed, plan, said};

/// Every rule of the table: its chain and its handle.
fn rules() -> Vec<(String, u64)> {
    let listed: Value =
        serde_json::from_str(&said("nft", "-j list table inet sluicegate")).unwrap();
    let objects = listed["nftables"].as_array().unwrap().iter();
    let rule = |object: &Value| {
        let rule = object.get("rule")?;
        Some((rule["chain"].as_str()?.to_owned(), rule["handle"].as_u64()?))
    };
    objects.filter_map(rule).collect()
}

fn found(damage: &str) -> Vec<String> {
    match nft::verify(&plan()).unwrap() {
        Verified::Different(lines) => lines,
        other => panic!("after `{damage}` verify says {other:?}"),
    }
}

#[test]
fn each_rule_that_is_removed_is_missed() {
    inside::test("damage::each_rule_that_is_removed_is_missed", || {
        nft::apply(&plan()).unwrap();
        let count = rules().len();
        assert!(count > 25, "{count} rules");
        for number in 0..count {
            let (chain, handle) = rules()[number].clone();
            let damage = format!("delete rule inet sluicegate {chain} handle {handle}");
            feed(&format!("{damage}\n"));
            let lines = found(&damage);
            assert!(lines.iter().all(|line| line.starts_with("- ")), "{chain}: {lines:?}");
            assert!(lines[0].contains(&format!("\"chain\":\"{chain}\"")), "{chain}: {lines:?}");
            nft::apply(&plan()).unwrap();
            assert_eq!(nft::verify(&plan()).unwrap(), Verified::Same);
        }
    });
}

#[test]
fn what_is_added_or_changed_is_found() {
    inside::test("damage::what_is_added_or_changed_is_found", || {
        let damages = [
            "insert rule inet sluicegate forward accept",
            "insert rule inet sluicegate from_device ip saddr 10.10.3.7 accept",
            "add rule inet sluicegate egress accept",
            // A rule that is there already, once more.
            "add rule inet sluicegate refuse counter name udp_blocked reject with icmpx admin-prohibited",
            "add element inet sluicegate vpc_v4 { 198.51.100.0/24 }",
            "add element inet sluicegate device_v4 { 192.0.2.0/24 }",
            "add element inet sluicegate device_interfaces { \"wan0\" }",
            "add element inet sluicegate tunnel_interfaces { \"wan0\" }",
            "delete element inet sluicegate ports { 443 }",
            "delete element inet sluicegate device_v6 { fd00:10::/64 }",
            "add chain inet sluicegate more { type filter hook forward priority -5; }",
            "add chain inet sluicegate forward { policy drop; }",
            "add set inet sluicegate more { type mark; }",
            "flush chain inet sluicegate output",
            "flush set inet sluicegate vpc_v4",
            "flush table inet sluicegate",
        ];
        for damage in damages {
            nft::apply(&plan()).unwrap();
            assert_eq!(nft::verify(&plan()).unwrap(), Verified::Same);
            feed(&format!("{damage}\n"));
            assert!(!found(damage).is_empty(), "{damage}");
        }
        feed("delete table inet sluicegate\n");
        assert_eq!(nft::verify(&plan()).unwrap(), Verified::Absent);
    });
}

#[test]
fn another_order_of_rules_is_found() {
    inside::test("damage::another_order_of_rules_is_found", || {
        nft::apply(&plan()).unwrap();
        let (chain, handle) = rules().into_iter().find(|(chain, _)| chain == "egress").unwrap();
        // What leaves for the VPC is now dropped before it is accepted: the same rules, no gate.
        feed(&format!(
            "delete rule inet sluicegate {chain} handle {handle}
             add rule inet sluicegate egress oifname @tunnel_interfaces ip daddr @vpc_v4 accept\n"
        ));
        assert_eq!(found("swap"), ["+ the rules of a chain are in another order"]);
    });
}

#[test]
fn what_passes_and_what_others_do_is_no_damage() {
    inside::test("damage::what_passes_and_what_others_do_is_no_damage", || {
        nft::apply(&plan()).unwrap();
        feed("table inet other { chain forward { type filter hook forward priority 0; }\n }\n");
        feed("table ip sluicegate { chain forward { type filter hook forward priority 0; }\n }\n");
        // A packet that the output wall counts.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None);
        let socket = socket.unwrap();
        socket.set_mark(sluicegate::net::MARK_EGRESS).unwrap();
        let to = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
        socket.send_to(b"x", &to.into()).unwrap_err();
        assert_eq!(nft::counters().unwrap()["egress_stopped"], 1);
        assert_eq!(nft::verify(&plan()).unwrap(), Verified::Same);
    });
}
