//! Whatever is done to the listener, it answers at most what was asked, and flows do not feel it.

use std::time::Duration;

use sluicegate::lab::device::tcp_connect;
use sluicegate::lab::{Lab, inside};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::gate::*;
use crate::support::*;

const NAME: &str = "a1b2c3d4e5f6g7-ats.iot.eu-central-1.amazonaws.com";

fn listener() -> std::net::SocketAddr {
    ([127, 0, 0, 1], 9443).into()
}

/// Sends bytes as they are, and reads until the gate hangs up.
fn raw(lab: &Lab, bytes: &'static [u8]) -> String {
    let answer = lab.edge().run(async move || {
        let mut stream = tcp_connect(listener(), SOON).await.unwrap();
        // It may hang up in the middle.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let reading = async {
            let mut part = [0; 4_096];
            while let Ok(count @ 1..) = stream.read(&mut part).await {
                answer.extend_from_slice(&part[..count]);
            }
        };
        tokio::time::timeout(SOON, reading).await.expect("it hangs up");
        answer
    });
    String::from_utf8(answer).unwrap()
}

#[test]
fn a_request_cannot_hide_another() {
    inside::test("hostile::a_request_cannot_hide_another", || {
        let lab = lab();
        let _daemon = start(&lab);
        let hidden = "GET /status.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        for head in [
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 83\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "GET /livez HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 83\r\n\r\n",
            "GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nContent-Length: 83\r\n\r\n",
            "GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: +0\r\n\r\n",
            "GET /livez HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding : chunked\r\n\r\n",
            "GET /livez HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n",
            "GET /livez HTTP/1.1\r\nHost: localhost\r\n Transfer-Encoding: chunked\r\n\r\n",
            "GET /livez HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n",
            "GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: rebound.example.com\x7f\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "\x16\x03\x01\x00\x05hello",
        ] {
            let bytes: &'static [u8] = Box::leak(format!("{head}{hidden}").into_bytes().into());
            let answer = raw(&lab, bytes);
            let answers = answer.matches("HTTP/1.1 ").count();
            assert!(answers <= 1, "{answers} answers to {head:?}: {answer}");
            let refused = answer.is_empty() || answer.starts_with("HTTP/1.1 4");
            assert!(refused && !answer.contains("augsburg"), "{head:?}: {answer}");
        }
        let two = format!("GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n{hidden}");
        let answer = raw(&lab, Box::leak(two.into_bytes().into()));
        assert_eq!(answer.matches("HTTP/1.1 200").count(), 2, "two that are two: {answer}");
    });
}

#[test]
fn large_heads_and_slow_clients_are_ended() {
    inside::test("hostile::large_heads_and_slow_clients_are_ended", || {
        let lab = lab();
        let _daemon = start(&lab);
        let long = "x".repeat(20_000);
        for head in [
            format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n"),
            format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(200)),
        ] {
            let answer = raw(&lab, Box::leak(head.into_bytes().into()));
            let refused = answer.is_empty() || answer.starts_with("HTTP/1.1 4");
            assert!(refused, "{answer}");
        }
        // A head that never ends, nothing at all, and an answer that nobody takes any more.
        for bytes in [
            &b"GET / HTTP/1.1\r\nHost: local"[..],
            b"",
            b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ] {
            raw(&lab, bytes);
        }
        assert_eq!(local(&lab, "/livez").status, 200);
    });
}

#[test]
fn thousands_of_connections_are_not_felt_by_flows() {
    inside::test("hostile::thousands_of_connections_are_not_felt_by_flows", || {
        let lab = lab();
        let office = office(&lab);
        let daemon = start_with(&lab, &office_config(&lab));
        let before = local_flows(&daemon);
        let to = format!("{BOX}:9443").parse().unwrap();
        let crowd = office.spawn(async move || {
            let mut held = Vec::new();
            for _ in 0..2_000 {
                held.extend(tcp_connect(to, Duration::from_secs(2)).await.ok());
            }
            // Those that are still open are held while flows go on.
            tokio::time::sleep(Duration::from_millis(10)).await;
            held
        });
        for _ in 0..20 {
            let reply = get(&lab, 0, dialled(IOT, 443), NAME).unwrap();
            assert_eq!(reply.status, 200, "{reply:?}");
        }
        let held = crowd.join();
        let status = daemon.status_json().unwrap();
        assert_eq!(status["healthy"], true, "{}", status["problems"]);
        let descriptors = list(&status["headroom"]).iter().find(|of| of["what"] == "descriptors");
        let used = descriptors.unwrap()["used"].as_u64().unwrap();
        assert!(used < 400, "{used} descriptors are open");
        let reply = get(&lab, 0, dialled(IOT, 443), NAME).unwrap();
        assert_eq!(reply.status, 200, "with {} held: {reply:?}", held.len());
        assert_eq!(local_flows(&daemon), before + 21);
        drop(held);
        let authority = own_certificate(&lab);
        let bearer = format!("Authorization: Bearer {TOKEN}");
        let url = format!("https://{BOX}:9443/metrics");
        let reply = until("a place", || {
            let reply = curl(&office, &["--cacert", &authority, "-H", &bearer, &url]);
            (reply.status == 200).then_some(reply)
        });
        let line = reply
            .body
            .lines()
            .find(|l| l.starts_with("sluicegate_admin_refused_total{why=\"too_many\"}"));
        let turned_away: f64 = line.unwrap().rsplit_once(' ').unwrap().1.parse().unwrap();
        assert!(turned_away > 1_000.0, "{line:?}");
        assert_log(&lab);
    });
}

fn local_flows(daemon: &sluicegate::lab::Daemon) -> u64 {
    daemon.status_json().unwrap()["flows"]["allowed_total"].as_u64().unwrap()
}
