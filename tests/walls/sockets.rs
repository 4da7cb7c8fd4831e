//! The output wall, and the binding of the gate's sockets to tunnels.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sluicegate::lab::device::tls10_hello;
use sluicegate::lab::services::IOT_DATA;
use sluicegate::lab::topology::{DEVICES, TUNNEL_SOURCE, ZONES, public};
use sluicegate::lab::{Lab, inside};
use sluicegate::net::{MARK_DEVICE, MARK_EGRESS};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::gate::*;

const UNREACHABLE: ErrorKind = ErrorKind::HostUnreachable;

/// Sends one datagram from the box with this mark, by this interface where one is given.
fn send(
    lab: &Lab,
    mark: u32,
    interface: Option<&'static str>,
    to: SocketAddr,
) -> Result<(), ErrorKind> {
    lab.edge().run(async move || {
        let socket =
            Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP)).unwrap();
        socket.set_mark(mark).unwrap();
        socket.bind_device(interface.map(str::as_bytes)).unwrap();
        socket.send_to(b"x", &to.into()).map(drop).map_err(|error| error.kind())
    })
}

/// Opens a TCP connection from the box with this mark and interface.
fn connect(
    lab: &Lab,
    mark: u32,
    interface: &'static str,
    to: SocketAddr,
    patience: Duration,
) -> bool {
    lab.edge().run(async move || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        socket.set_mark(mark).unwrap();
        socket.bind_device(Some(interface.as_bytes())).unwrap();
        socket.set_nonblocking(true).unwrap();
        let socket = tokio::net::TcpSocket::from_std_stream(socket.into());
        matches!(tokio::time::timeout(patience, socket.connect(to)).await, Ok(Ok(_)))
    })
}

#[test]
fn marked_packets_leave_by_their_own_way_only() {
    inside::test("sockets::marked_packets_leave_by_their_own_way_only", || {
        let lab = lab();
        let [v4, v6] = public(IOT).map(|ip| SocketAddr::from((ip, 443)));
        let vpc = private(0, IOT, 443);
        let device: SocketAddr = (DEVICES[0].address, 9).into();
        let wrong = [
            (MARK_EGRESS, None, v4),
            (MARK_EGRESS, None, v6),
            (MARK_EGRESS, Some("wan0"), v4),
            (MARK_EGRESS, Some("wan0"), vpc),
            (MARK_EGRESS, Some("vpn1"), v4),
            (MARK_EGRESS, Some("lan0"), device),
            (MARK_DEVICE, None, v4),
            (MARK_DEVICE, None, v6),
            (MARK_DEVICE, Some("vpn1"), vpc),
        ];
        for (mark, interface, to) in wrong {
            assert_eq!(send(&lab, mark, interface, to), Ok(()), "without rules: {to}");
        }
        assert!(connect(&lab, MARK_EGRESS, "wan0", v4, SOON));
        until("the leaks", || (lab.leaked_packets().unwrap() > 4).then_some(()));

        let config = write_config(&lab, "site.toml", &lab.daemon_config());
        let applied = sluicegate(&lab, &["nft", "apply", "--config", &config]);
        assert!(applied.status.success(), "{applied:?}");
        lab.forget_leaks().unwrap();
        // What is bound to no tunnel finds no route: the wall of rules is not even asked.
        let stopped = || packets(&lab, "sluicegate", "egress_stopped");
        let before = stopped();
        for to in [v4, v6] {
            assert_eq!(send(&lab, MARK_EGRESS, None, to), Err(UNREACHABLE), "{to}");
        }
        assert_eq!(stopped(), before);
        ip(&lab, "rule del priority 102");
        ip(&lab, "-6 rule del priority 102");
        for (mark, interface, to) in wrong {
            let counter = if mark == MARK_EGRESS { "egress_stopped" } else { "answer_stopped" };
            let before = packets(&lab, "sluicegate", counter);
            let sent = send(&lab, mark, interface, to);
            assert_eq!(sent, Err(ErrorKind::PermissionDenied), "{mark:#x} {interface:?} {to}");
            assert_eq!(packets(&lab, "sluicegate", counter), before + 1, "{interface:?} {to}");
        }
        assert!(!connect(&lab, MARK_EGRESS, "wan0", v4, Duration::from_secs(1)));
        assert_nothing_left(&lab, "marked packets");
        // The right ways are open.
        assert!(connect(&lab, MARK_EGRESS, "vpn1", vpc, SOON));
        assert!(connect(&lab, MARK_EGRESS, "vpn2", vpc, SOON));
        assert_eq!(send(&lab, MARK_DEVICE, Some("lan0"), device), Ok(()));
        assert_eq!(send(&lab, MARK_DEVICE, None, device), Ok(()));
    });
}

#[test]
fn bound_sockets_ignore_a_wrong_route() {
    inside::test("sockets::bound_sockets_ignore_a_wrong_route", || {
        let lab = lab();
        // Somebody leads the VPC's network to the public side.
        ip(&lab, "route add 10.20.0.0/16 via 203.0.113.1 dev wan0 metric 1");
        assert_eq!(send(&lab, 0, None, private(0, IOT, 443)), Ok(()));
        until("the leak by the wrong route", || (lab.leaked_packets().unwrap() > 0).then_some(()));
        lab.forget_leaks().unwrap();

        let daemon = start(&lab);
        let questions = lab.zone().question_count();
        for name in 0..3 {
            let reply = get(&lab, name, dialled(IOT, 443), IOT_DATA).unwrap();
            assert!(reply.endpoint.unwrap().starts_with("10.20."));
        }
        // The resolvers are asked by the same kind of socket.
        until("new questions", || (lab.zone().question_count() > questions).then_some(()));
        assert_eq!(packets(&lab, "sluicegate", "egress_stopped"), 0);
        assert_nothing_left(&lab, "a wrong route");
        for seen in lab.vpc_ledger().seen() {
            assert_eq!(seen.peer.ip(), IpAddr::from([10, 99, 0, 7]));
        }
        // The kernel answers for a socket that is gone, without the program's mark.
        let before = packets(&lab, "sluicegate", "error_stopped");
        lab.vpc().run(async move || {
            let socket = std::net::UdpSocket::bind((ZONES[0].resolver(), 0)).unwrap();
            socket.send_to(b"late", (TUNNEL_SOURCE, 9)).unwrap();
        });
        until("the error", || {
            (packets(&lab, "sluicegate", "error_stopped") > before).then_some(())
        });
        assert_nothing_left(&lab, "a late answer");
        drop(daemon);
    });
}

#[test]
fn a_source_port_that_is_used_again_reaches_the_gate_anew() {
    inside::test("sockets::a_source_port_that_is_used_again_reaches_the_gate_anew", || {
        let lab = lab();
        let daemon = start(&lab);
        let repeated = || {
            let counters = run(lab.device(0), "cat", &["/proc/net/netstat"]);
            let mut lines = counters.lines().filter(|line| line.starts_with("TcpExt:"));
            let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
            let place = names.split(' ').position(|name| name == "TCPSynRetrans").unwrap();
            values.split(' ').nth(place).unwrap().parse::<u64>().unwrap()
        };
        let before = repeated();
        for _ in 0..3 {
            // The endpoint refuses TLS 1.0 and closes first, so the box keeps the pair of addresses in
            // TIME_WAIT. Small TCP stacks use the same port again at once.
            let answer = lab.device(0).run(async || {
                let socket = tokio::net::TcpSocket::new_v4().unwrap();
                socket.set_reuseaddr(true).unwrap();
                socket.bind("0.0.0.0:40123".parse().unwrap()).unwrap();
                let mut stream = socket.connect(dialled(IOT, 443)).await.unwrap();
                stream.write_all(&tls10_hello(IOT_DATA)).await.unwrap();
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).await.unwrap();
                answer
            });
            assert_eq!(answer.first(), Some(&21), "a TLS alert: {answer:?}");
        }
        assert_eq!(repeated(), before, "a SYN had to be sent again");
        drop(daemon);
    });
}
