//! The sockets of a flow's two legs, as the kernel has them, and a gate that runs short of its own.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure, as it should be"
)]

#[path = "support/gate.rs"]
mod gate;

use std::fs::write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use sluicegate::config::InterfaceName;
use sluicegate::lab::device::{Call, tls_connect};
use sluicegate::lab::inside;
use sluicegate::lab::party::Work;
use sluicegate::lab::services::IOT_DATA;
use sluicegate::net::socket::{Way, listen, tunnel_tcp};
use socket2::SockRef;

use gate::*;

/// A leg towards a device, and the device's own socket.
fn device_leg() -> (TcpStream, TcpStream) {
    let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    #[expect(clippy::disallowed_methods, reason = "loopback in a namespace")]
    let device = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0, device)
}

/// A leg towards an endpoint, and the endpoint's own socket.
async fn tunnel_leg(endpoint: &TcpListener) -> (tokio::net::TcpStream, TcpStream) {
    let to = endpoint.local_addr().unwrap();
    let leg = tunnel_tcp(&way()).unwrap().connect(to).await.unwrap();
    (leg, endpoint.accept().unwrap().0)
}

fn way() -> Way {
    Way {
        interface: InterfaceName::parse("lo").unwrap(),
        source: Some(Ipv4Addr::new(127, 0, 0, 9)),
        mss: MSS,
        index: 1,
    }
}

fn endpoint() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// Runs a test's body in namespaces of its own, on a runtime.
fn inside_runtime(name: &str, body: impl AsyncFnOnce()) {
    inside::test(name, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(body());
    });
}

#[test]
fn both_legs_are_probed_before_the_path_forgets_them() {
    inside_runtime("both_legs_are_probed_before_the_path_forgets_them", async || {
        let (device, _peer) = device_leg();
        let endpoint = endpoint();
        let (tunnel, _peer) = tunnel_leg(&endpoint).await;
        for (socket, idle) in [(SockRef::from(&device), 120), (SockRef::from(&tunnel), 60)] {
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(idle));
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(20));
            assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
            // Bytes that nobody acknowledges are given up as soon as silence is.
            let timeout = Duration::from_secs(idle + 3 * 20);
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(timeout));
        }
    });
}

#[test]
fn neither_leg_holds_a_small_segment_back() {
    inside_runtime("neither_leg_holds_a_small_segment_back", async || {
        let (device, _peer) = device_leg();
        let endpoint = endpoint();
        let (tunnel, _peer) = tunnel_leg(&endpoint).await;
        assert!(SockRef::from(&device).tcp_nodelay().unwrap());
        assert!(SockRef::from(&tunnel).tcp_nodelay().unwrap());
    });
}

#[test]
fn the_dialled_leg_keeps_little_unsent() {
    inside_runtime("the_dialled_leg_keeps_little_unsent", async || {
        let endpoint = endpoint();
        let (tunnel, _peer) = tunnel_leg(&endpoint).await;
        let unsent = SockRef::from(&tunnel).tcp_notsent_lowat().unwrap();
        assert!((16 * 1024..=32 * 1024).contains(&unsent), "{unsent}");
    });
}

#[test]
fn the_kernel_sizes_the_buffers_of_both_legs() {
    inside_runtime("the_kernel_sizes_the_buffers_of_both_legs", async || {
        // Values that nobody would set: what is set is doubled, and never grows again.
        write("/proc/sys/net/ipv4/tcp_rmem", "4096 77777 6291456").unwrap();
        write("/proc/sys/net/ipv4/tcp_wmem", "4096 55555 4194304").unwrap();
        let tunnel = tunnel_tcp(&way()).unwrap();
        let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        for socket in [SockRef::from(&tunnel), SockRef::from(&listener)] {
            let sizes = (socket.recv_buffer_size().unwrap(), socket.send_buffer_size().unwrap());
            assert_eq!(sizes, (77_777, 55_555));
        }
    });
}

#[test]
fn the_dialled_leg_carries_no_segment_too_big_for_the_tunnel() {
    inside_runtime("the_dialled_leg_carries_no_segment_too_big_for_the_tunnel", async || {
        let endpoint = endpoint();
        let (tunnel, peer) = tunnel_leg(&endpoint).await;
        // Neither what it sends, nor what it lets the endpoint send.
        for socket in [SockRef::from(&tunnel), SockRef::from(&peer)] {
            let segment = socket.tcp_mss().unwrap();
            assert!((u32::from(MSS) - 40..=u32::from(MSS)).contains(&segment), "{segment}");
        }
        // The device's leg has a path of its own.
        let (device, _peer) = device_leg();
        assert!(SockRef::from(&device).tcp_mss().unwrap() > 2 * u32::from(MSS));
    });
}

#[test]
fn a_source_port_serves_every_destination() {
    inside_runtime("a_source_port_serves_every_destination", async || {
        write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40003").unwrap();
        let mut open = Vec::new();
        for octet in 1..=4 {
            let endpoint = TcpListener::bind((Ipv4Addr::new(127, 0, 1, octet), 4433)).unwrap();
            for _ in 0..4 {
                let (leg, peer) = tunnel_leg(&endpoint).await;
                assert_eq!(leg.local_addr().unwrap().ip(), IpAddr::from([127, 0, 0, 9]));
                open.push((leg, peer));
            }
        }
    });
}

#[test]
fn a_broken_pipe_and_a_lack_of_descriptors_do_not_end_the_gate() {
    inside::test("a_broken_pipe_and_a_lack_of_descriptors_do_not_end_the_gate", || {
        let lab = lab();
        let daemon = start(&lab);
        // splice(2) raises it when an endpoint is gone, and no flag prevents that.
        daemon.signal(Signal::PIPE).unwrap();
        assert!(get(&lab, 0, dialled(IOT, 443), IOT_DATA).is_ok(), "{}", daemon.stderr_text());

        let pid = daemon.pid();
        let free = (0..).find(|fd| !Path::new(&format!("/proc/{pid}/fd/{fd}")).exists()).unwrap();
        let allow = |limit: u64| {
            let (pid, limit) = (format!("--pid={pid}"), format!("--nofile={limit}:"));
            run(lab.edge(), "prlimit", &[&pid, &limit]);
        };
        allow(free);
        let calls: Vec<_> = (0..12)
            .map(|_| {
                let (pki, call) = (lab.pki(), Call::new(dialled(IOT, 443), IOT_DATA));
                lab.device(1).spawn(async move || tls_connect(&pki, &call).await?.get("/").await)
            })
            .collect();
        until("a connection that cannot be accepted", || {
            let text = daemon.stderr_text();
            text.contains("cannot accept a device's connection").then_some(())
        });
        allow(1024);
        // A connection that found the last descriptor taken by another is told so, and how many do
        // depends on who comes first; all others waited.
        let served = calls.into_iter().map(Work::join).filter(Result::is_ok).count();
        assert!(served > 0, "none of 12");
        assert!(get(&lab, 0, dialled(IOT, 443), IOT_DATA).is_ok(), "{}", daemon.stderr_text());
        daemon.signal(Signal::TERM).unwrap();
        let status = daemon.wait(SOON).unwrap().expect("it ends");
        assert_eq!(status.code(), Some(0), "{}", daemon.stderr_text());
        assert_log(&lab);
        assert_eq!(lab.leaked_packets().unwrap(), 0);
    });
}

/// As the default configuration has it.
const MSS: u16 = 1360;
