//! How much one device may ask, and how much may wait.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use sluicegate::lab::device::tcp_connect;
use sluicegate::lab::inside;
use sluicegate::lab::services::{FOREIGN, IOT_DATA};
use tokio::io::AsyncReadExt;

use crate::ask::{BOX, assert_addresses, dig, start};
use crate::gate::{IOT, SOON, lab, until_status};
use crate::records::{recorded, sum};
use crate::wire::question;

#[test]
fn a_flood_of_one_device_is_counted_exactly_and_hurts_no_other() {
    inside::test("limits::a_flood_of_one_device_is_counted_exactly_and_hurts_no_other", || {
        let lab = lab();
        let daemon = start(&lab, "queries-per-second = 20");
        lab.device(0).run(async move || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            for number in 0..3_000_u16 {
                let name = format!("n{number}.{FOREIGN}");
                let sent = socket.send_to(&question(number, &name, 1), (BOX, 53));
                assert!(sent.is_ok());
                // Not faster than a socket's buffer is emptied: every one of them must arrive.
                if number % 200 == 199 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        });
        assert_addresses(&dig(&lab, 1, BOX, &[IOT_DATA]), IOT);
        let total = |status: &serde_json::Value| {
            ["answered_total", "refused_total", "limited_total"]
                .map(|key| status["dns"][key].as_u64().unwrap())
        };
        let status = until_status(&daemon, "all questions", |status| {
            total(status).iter().sum::<u64>() == 3_001
        });
        let [_, refused, limited] = total(&status);
        assert!((80..1_500).contains(&refused), "{status}");
        let records = recorded(&lab, &daemon);
        assert!(records.len() <= 70, "{} records", records.len());
        let of = |code: &str| sum(records.iter().filter(|record| record["status_code"] == code));
        assert_eq!(of("dns_name_refused"), refused);
        assert_eq!(of("limit_device_queries"), limited);
    });
}

#[test]
fn silent_connections_are_bounded_and_end() {
    inside::test("limits::silent_connections_are_bounded_and_end", || {
        let lab = lab();
        let daemon = start(&lab, "");
        let held = lab.device(0).run(async move || {
            let mut held = Vec::new();
            for _ in 0..20 {
                held.push(tcp_connect(SocketAddr::new(BOX, 53), SOON).await);
            }
            let mut ended = 0;
            for stream in held {
                let Ok(mut stream) = stream else { continue };
                // A reset at once for those too many, an end after a while for the others.
                let end = tokio::time::timeout(SOON, stream.read_u8()).await;
                ended += usize::from(end.is_ok_and(|read| read.is_err()));
            }
            ended
        });
        assert!(held >= 8, "{held} connections have ended");
        let status = until_status(&daemon, "the counts", |status| status["dns"].is_object());
        assert_eq!(status["dns"]["dropped_total"], 12);
        assert_addresses(&dig(&lab, 0, BOX, &["+tcp", IOT_DATA]), IOT);
    });
}
