//! The routing of what the gate sends: its own table, whatever the others say.

use std::io::ErrorKind;
use std::net::SocketAddr;

use sluicegate::lab::{Lab, inside};
use sluicegate::net::MARK_EGRESS;
use socket2::{Domain, Protocol, Socket, Type};

use super::gate::*;
use super::support::*;

/// Sends a datagram with the gate's mark by a socket that is bound to nothing.
fn send(lab: &Lab, to: SocketAddr) -> Result<(), ErrorKind> {
    lab.edge().run(async move || {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
        socket.set_mark(MARK_EGRESS).unwrap();
        socket.send_to(b"x", &to.into()).map(drop).map_err(|error| error.kind())
    })
}

fn egress_table(lab: &Lab) -> Vec<String> {
    let text = ip(lab, "route show table 5102");
    text.lines().map(|line| line.trim().to_owned()).collect()
}

fn until_table(lab: &Lab, wanted: &[&str]) {
    until(&format!("{wanted:?}"), || {
        let table = egress_table(lab);
        let same = table.len() == wanted.len()
            && table.iter().zip(wanted).all(|(line, wanted)| line.starts_with(wanted));
        same.then_some(())
    });
}

const BY_1: &str = "10.20.0.0/16 via 169.254.10.1 dev vpn1 proto static metric 10 onlink";
const BY_2: &str = "10.20.0.0/16 via 169.254.11.1 dev vpn2 proto static metric 20 onlink";
const ELSE: &str = "unreachable default";

#[test]
fn the_egress_table_follows_the_tunnels_and_leads_nowhere_else() {
    inside::test("routes::the_egress_table_follows_the_tunnels_and_leads_nowhere_else", || {
        let lab = lab();
        let daemon = start(&lab);
        until_table(&lab, &[ELSE, BY_1, BY_2]);
        // Without the wall of rules, and against every other table.
        nft(&lab, "add table inet probe");
        ip(&lab, "route add 10.20.0.0/16 via 203.0.113.1 dev wan0 metric 1");
        lab.forget_leaks().unwrap();
        daemon.kill_hard();
        nft(&lab, "flush ruleset");
        assert_eq!(send(&lab, dialled(IOT, 443)), Err(ErrorKind::HostUnreachable));
        assert_eq!(send(&lab, private(0, IOT, 443)), Ok(()));
        lab.tunnel_delete(1).unwrap();
        assert_eq!(send(&lab, private(0, IOT, 443)), Ok(()), "by the second one");
        lab.tunnel_delete(2).unwrap();
        let nowhere = send(&lab, private(0, IOT, 443));
        assert_eq!(nowhere, Err(ErrorKind::HostUnreachable), "at once");
        assert_nothing_left(&lab, "the routing alone");
    });
}

#[test]
fn the_next_hop_comes_from_the_routes_of_others_or_from_the_site() {
    inside::test("routes::the_next_hop_comes_from_the_routes_of_others_or_from_the_site", || {
        let lab = lab();
        let config = lab.daemon_config();
        let daemon = start(&lab);
        until_table(&lab, &[ELSE, BY_1, BY_2]);
        // Without a route nobody knows the next hop of an Ethernet interface.
        ip(&lab, "route del 10.20.0.0/16 dev vpn1");
        let status = until_state(&daemon, "vpn1", "down");
        let reason = tunnel(&status, "vpn1")["reason"].clone();
        assert_eq!(reason, "there is no route by it and no gateway");
        until_table(&lab, &[ELSE, BY_2]);
        assert_eq!(way_of_new_flow(&lab), "vpn2");
        let said = config.replace(
            "[resolver]\n",
            "[tunnel.vpn1]\ngateway = \"169.254.10.1\"\nmtu = 1446\n[resolver]\n",
        );
        daemon.reload(&said).unwrap();
        let status = until_state(&daemon, "vpn1", "up");
        assert_eq!(tunnel(&status, "vpn1")["mss"], 1_406);
        assert_eq!(tunnel(&status, "vpn2")["mss"], 1_360);
        until_table(&lab, &[ELSE, BY_1, BY_2]);
        // Somebody else's cleaning is repaired.
        ip(&lab, "route del 10.20.0.0/16 dev vpn2 table 5102");
        until_table(&lab, &[ELSE, BY_1, BY_2]);
        sluicegate(&lab, &["nft", "clear"]);
        drop(daemon);
    });
}
