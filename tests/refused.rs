//! Packets that the rules refuse are in the log: who sent them, where to and how many, exactly.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, a panic is the report"
)]

#[path = "support/gate.rs"]
mod gate;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use gate::*;
use rustix::process::Signal;
use serde_json::Value;
use sluicegate::lab::device::tcp_connect;
use sluicegate::lab::topology::public;
use sluicegate::lab::{Daemon, Lab, inside};

/// A destination on the public side that nobody asks for otherwise.
const SOMEWHERE: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// Sends datagrams, one to each of these places in turn; nobody waits for an answer.
fn send(lab: &Lab, number: usize, places: Vec<SocketAddr>) {
    lab.device(number).run(async move || {
        let any: IpAddr = if places[0].is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
        let socket = std::net::UdpSocket::bind((any, 0)).unwrap();
        for place in places {
            assert_eq!(socket.send_to(b"anybody?", place).unwrap(), 8);
        }
    });
}

fn place(ip: impl Into<IpAddr>, port: u16) -> SocketAddr {
    (ip.into(), port).into()
}

/// Ends the daemon, which records what is left, and returns the records of refused packets.
fn recorded(lab: &Lab, daemon: &Daemon) -> Vec<Value> {
    daemon.signal(Signal::TERM).unwrap();
    let ended = daemon.wait(SOON).unwrap();
    assert!(ended.is_some_and(|status| status.success()), "{}", daemon.stderr_text());
    let records = assert_log(lab);
    records.into_iter().filter(|r| r["unmapped"]["egress"]["stage"] == "packet").collect()
}

/// For each reason as many packets are recorded as the rules have counted.
fn assert_all_recorded(lab: &Lab, records: &[Value]) {
    let mut sums: BTreeMap<&str, u64> = REASONS.iter().map(|reason| (*reason, 0)).collect();
    for record in records {
        let reason = record["status_code"].as_str().unwrap();
        *sums.get_mut(reason).unwrap() += record["count"].as_u64().unwrap();
    }
    for (reason, sum) in sums {
        assert_eq!(sum, packets(lab, "sluicegate", reason), "{reason}: {records:#?}");
    }
}

const REASONS: [&str; 6] = [
    "udp_blocked",
    "quic_blocked",
    "tcp_port_blocked",
    "icmp_blocked",
    "ipv6_blocked",
    "dns_foreign_resolver",
];

#[test]
fn each_kind_is_recorded_with_device_destination_and_count() {
    inside::test("each_kind_is_recorded_with_device_destination_and_count", || {
        let lab = lab();
        let daemon = start(&lab);
        let [v4, v6] = public(IOT);
        send(&lab, 0, vec![place(SOMEWHERE, 9); 7]);
        send(&lab, 0, vec![place(v4, 443); 5]);
        send(&lab, 0, vec![place(SOMEWHERE, 53); 3]);
        send(&lab, 0, vec![place(v6, 9); 4]);
        send(&lab, 1, vec![place(SOMEWHERE, 9); 2]);
        for _ in 0..6 {
            let refused = lab.device(0).run(async move || tcp_connect(place(v4, 80), SOON).await);
            assert!(refused.is_err());
        }
        assert!(attempt(&lab, 0, Way::Echo(v4)).is_err());

        // A reload makes new rules and keeps what the old ones have counted.
        daemon.reload(&lab.daemon_config().replace("[443, 8443]", "[443, 8443, 9443]")).unwrap();
        until("the new rules", || {
            nft(&lab, "list set inet sluicegate ports").contains("9443").then_some(())
        });
        let records = recorded(&lab, &daemon);
        assert_all_recorded(&lab, &records);

        let link = run(lab.device(0), "ip", &["link", "show", "eth0"]);
        let expected = [
            ("udp_blocked", 17, "udp", SOMEWHERE.into(), Some(9), 7),
            ("quic_blocked", 17, "udp", v4, Some(443), 5),
            ("dns_foreign_resolver", 17, "udp", SOMEWHERE.into(), Some(53), 3),
            ("ipv6_blocked", 17, "udp", v6, Some(9), 4),
            ("tcp_port_blocked", 6, "tcp", v4, Some(80), 6),
            ("icmp_blocked", 1, "icmp", v4, None, 1),
        ];
        for (reason, number, protocol, to, port, count) in expected {
            let to: IpAddr = to;
            let found: Vec<_> = records
                .iter()
                .filter(|record| {
                    record["status_code"] == reason
                        && record["src_endpoint"]["name"] == "press-3"
                        && record["dst_endpoint"]["ip"] == to.to_string()
                })
                .collect();
            let sum: u64 = found.iter().map(|record| record["count"].as_u64().unwrap()).sum();
            assert_eq!(sum, count, "{reason} in {records:#?}");
            let record = found[0];
            assert_eq!(record["dst_endpoint"]["port"].as_u64(), port, "{record}");
            let mac = record["src_endpoint"]["mac"].as_str().unwrap();
            assert!(link.contains(&format!("link/ether {mac} ")), "{mac} in {link}");
            assert_eq!(record["connection_info"]["protocol_num"], number);
            assert_eq!(record["connection_info"]["protocol_name"], protocol);
            assert_eq!((&record["activity_id"], &record["action_id"]), (&5.into(), &2.into()));
            assert!(!record["unmapped"]["egress"]["remedy"].as_str().unwrap().is_empty());
            assert!(record["start_time"].as_u64().unwrap() <= record["end_time"].as_u64().unwrap());
        }
        let other = |record: &&Value| record["src_endpoint"]["name"] == "gateway-1";
        assert_eq!(records.iter().find(other).unwrap()["count"], 2);
    });
}

#[test]
fn a_flood_is_counted_exactly_in_few_records() {
    inside::test("a_flood_is_counted_exactly_in_few_records", || {
        let lab = lab();
        let daemon = start(&lab);
        let places = (0..20_000_u32).map(|number| {
            place(Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 0).to_bits() + number % 5_000), 9)
        });
        send(&lab, 0, places.collect());
        send(&lab, 1, vec![place(SOMEWHERE, 9); 3]);
        let records = recorded(&lab, &daemon);
        assert_eq!(packets(&lab, "sluicegate", "udp_blocked"), 20_003);
        assert_all_recorded(&lab, &records);
        assert!(records.len() <= 10, "{} records", records.len());
        let flood = records.iter().find(|record| record["count"].as_u64().unwrap() > 100).unwrap();
        assert_eq!(flood["src_endpoint"]["name"], "press-3");
        assert_eq!(flood["unmapped"]["egress"]["destinations"].as_array().unwrap().len(), 16);
        assert!(flood.get("dst_endpoint").is_none());
        let quiet = records.iter().find(|r| r["src_endpoint"]["name"] == "gateway-1").unwrap();
        assert_eq!(
            quiet["dst_endpoint"]["ip"],
            SOMEWHERE.to_string(),
            "who is quiet keeps its own"
        );
    });
}

#[test]
fn what_is_refused_while_the_gate_is_away_is_recorded_when_it_is_back() {
    inside::test("what_is_refused_while_the_gate_is_away_is_recorded_when_it_is_back", || {
        let lab = lab();
        let daemon = start(&lab);
        send(&lab, 0, vec![place(SOMEWHERE, 9); 4]);
        daemon.kill_hard();
        drop(daemon);
        send(&lab, 0, vec![place(SOMEWHERE, 9); 5]);
        let daemon = start(&lab);
        let of = |record: &Value| record["dst_endpoint"]["ip"] == SOMEWHERE.to_string();
        let record = until_record(&lab, "the packets", |record| of(record));
        assert!(record.get("start_time").is_none(), "nobody knows since when: {record}");
        assert_all_recorded(&lab, &recorded(&lab, &daemon));
    });
}

#[test]
fn what_finds_no_room_is_still_counted() {
    inside::test("what_finds_no_room_is_still_counted", || {
        let lab = lab();
        let daemon = start(&lab);
        // More destinations than a set has room for between two harvests.
        let base = Ipv4Addr::new(198, 18, 0, 0).to_bits();
        let places = (0..30_000).map(|number| place(Ipv4Addr::from_bits(base + number), 9));
        send(&lab, 0, places.collect());
        let records = recorded(&lab, &daemon);
        assert_eq!(packets(&lab, "sluicegate", "udp_blocked"), 30_000);
        assert_all_recorded(&lab, &records);
        let several = |record: &Value| record["src_endpoint"]["name"] == "several devices";
        assert!(records.iter().any(several), "{records:#?}");
    });
}
