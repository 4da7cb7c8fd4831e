//! The walls made of rules, with nothing behind them: no daemon runs.

use std::net::{IpAddr, SocketAddr};

use sluicegate::lab::inside;
use sluicegate::lab::topology::{BOX_LAN, public};

use super::gate::*;

#[test]
fn forward_prerouting_and_the_dead_end_each_hold_alone() {
    inside::test("packets::forward_prerouting_and_the_dead_end_each_hold_alone", || {
        let lab = lab();
        assert_all_open(&lab, "without rules");
        let config = write_config(&lab, "site.toml", &lab.daemon_config());
        let apply = || {
            let applied = sluicegate(&lab, &["nft", "apply", "--config", &config]);
            assert!(applied.status.success(), "{applied:?}");
        };
        apply();
        assert_all_refused(&lab, Gate::Away, "rules without a daemon");
        nft(&lab, "flush ruleset");
        lab.forget_leaks().unwrap();
        // Few enough that the kernel answers each: it limits the rate of such answers.
        for address in public(IOT) {
            let outcome = attempt(&lab, 0, Way::Tcp((address, 443).into()));
            assert!(outcome.is_err_and(|failure| failure.is_prohibited()), "to {address}");
        }
        assert_nothing_left(&lab, "the dead end alone");
        let without_dead_end = || {
            apply();
            ip(&lab, "rule del priority 101");
            ip(&lab, "-6 rule del priority 101");
        };
        without_dead_end();
        nft(&lab, "flush chain inet sluicegate prerouting");
        assert_all_refused(&lab, Gate::Away, "forward alone");
        without_dead_end();
        nft(&lab, "flush chain inet sluicegate forward");
        assert_all_refused(&lab, Gate::Away, "prerouting alone");
        nft(&lab, "flush chain inet sluicegate prerouting");
        assert_all_open(&lab, "with all three gone");
    });
}

/// Sources that a device of the plant cannot have: of nobody, of the public side, of the VPC, of
/// the box itself.
const SPOOFED: [&str; 5] =
    ["192.0.2.66", "198.51.100.19", "10.20.0.19", "203.0.113.7", "2001:db8:66::1"];

#[test]
fn nothing_answers_a_spoofed_source() {
    inside::test("packets::nothing_answers_a_spoofed_source", || {
        let lab = lab();
        let device = lab.device(0);
        // The device knows its router before it lies to it.
        assert_eq!(attempt(&lab, 0, Way::Echo(BOX_LAN.into())), Ok(()));
        assert_eq!(attempt(&lab, 0, Way::Echo(public(IOT)[1])), Ok(()));
        for address in SPOOFED {
            run(device, "ip", &["address", "add", address, "dev", "eth0"]);
        }
        lab.forget_leaks().unwrap();
        send_spoofed(&lab, SPOOFED[0]);
        until("a leak without the gate", || (lab.leaked_packets().unwrap() > 1).then_some(()));

        let daemon = start(&lab);
        // Whatever the box answers to these, by whatever interface, is seen before it leaves.
        nft(
            &lab,
            "table inet probe {
             counter answers { }
             chain leave { type filter hook postrouting priority -300;
             ip daddr { 192.0.2.66, 198.51.100.19, 10.20.0.19 } counter name answers
             ip6 daddr 2001:db8:66::1 counter name answers
             }
             }",
        );
        lab.forget_leaks().unwrap();
        let stopped = || packets(&lab, "sluicegate", "spoofed_source");
        for address in SPOOFED {
            let before = stopped();
            send_spoofed(&lab, address);
            if address == "203.0.113.7" {
                // The kernel itself drops what claims to come from this very machine.
                continue;
            }
            until(&format!("{address} to be stopped"), || (stopped() >= before + 2).then_some(()));
        }
        assert_eq!(packets(&lab, "probe", "answers"), 0, "the box answered a spoofed source");
        assert_nothing_left(&lab, "spoofed sources");
        assert!(get(&lab, 0, dialled(IOT, 443), sluicegate::lab::services::IOT_DATA).is_ok());
        drop(daemon);
    });
}

/// Sends a datagram and a SYN with this source to the public side.
fn send_spoofed(lab: &sluicegate::lab::Lab, source: &str) {
    let source: IpAddr = source.parse().unwrap();
    let [v4, v6] = public(IOT);
    let to = if source.is_ipv4() { v4 } else { v6 };
    lab.device(0).run(async move || {
        let socket = std::net::UdpSocket::bind((source, 0)).unwrap();
        socket.send_to(b"from somebody else", (to, 443)).unwrap();
        let socket = if source.is_ipv4() {
            tokio::net::TcpSocket::new_v4()
        } else {
            tokio::net::TcpSocket::new_v6()
        };
        let socket = socket.unwrap();
        socket.bind(SocketAddr::new(source, 0)).unwrap();
        // The SYN leaves at the first poll; nobody waits for an answer.
        let connecting = socket.connect((to, 443).into());
        let _ = tokio::time::timeout(std::time::Duration::ZERO, connecting).await;
    });
}
