//! Devices that fall silent, and come back.

use std::time::Duration;

use serde_json::Value;
use sluicegate::lab::device::{tcp_connect, tls10_hello};
use sluicegate::lab::services::{IOT_DATA, SPARE_OCTET};
use sluicegate::lab::{Daemon, Lab, inside};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::gate::*;

/// Behind a hello, the endpoint says something all the time here.
const TALKING: u16 = 443;
/// And here only what it is told.
const ECHOING: u16 = 8443;

fn start_with_endpoint(lab: &Lab) -> Daemon {
    let at = private(0, SPARE_OCTET, 0).ip();
    lab.vpc().run(async move || {
        for port in [TALKING, ECHOING] {
            let listener = TcpListener::bind((at, port)).await.unwrap();
            tokio::task::spawn_local(async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    // Each ends when its flow does.
                    tokio::task::spawn_local(serve(stream, port));
                }
            });
        }
    });
    let std::net::IpAddr::V4(at) = at else { unreachable!("the VPC has IPv4 only") };
    lab.zone().set_private(IOT_DATA, &[at]);
    start(lab)
}

async fn serve(mut stream: TcpStream, port: u16) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        if port == TALKING {
            stream.write_all(b"tick").await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        } else {
            let size = stream.read(&mut buffer).await?;
            if size == 0 {
                return Ok(());
            }
            stream.write_all(&buffer[..size]).await?;
        }
    }
}

/// A flow of the first device through which something has come back.
fn open(lab: &Lab, port: u16) -> TcpStream {
    lab.device(0).run(async move || {
        let mut stream = tcp_connect(dialled(IOT, port), SOON).await.unwrap();
        stream.write_all(&tls10_hello(IOT_DATA)).await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        stream
    })
}

fn port(stream: &TcpStream) -> u16 {
    stream.local_addr().unwrap().port()
}

/// Swallows what the device sends from a port, and what comes to it.
fn cut(lab: &Lab, port: u16) {
    let rules = format!(
        "table inet cut{port} {{
             chain in {{ type filter hook input priority 0
                 tcp dport {port} drop
             }}
             chain out {{ type filter hook output priority 0
                 tcp sport {port} drop
             }}
         }}"
    );
    run(lab.device(0), "nft", &[&rules]);
}

/// What the box's kernel says about its end of a flow.
fn socket(lab: &Lab, port: u16) -> String {
    let peer = format!("10.10.3.7:{port}");
    run(lab.edge(), "ss", &["-Htnoi", "state", "established", "dst", &peer])
}

fn end_of(lab: &Lab, port: u16) -> Option<Value> {
    let ours = |record: &Value| is_end(record) && record["src_endpoint"]["port"] == port;
    records(lab).into_iter().find(ours)
}

#[test]
fn a_dead_flow_goes_when_its_device_comes_back_and_a_talking_one_stays() {
    inside::test(
        "returns::a_dead_flow_goes_when_its_device_comes_back_and_a_talking_one_stays",
        || {
            let lab = lab();
            let daemon = start_with_endpoint(&lab);
            let (dead, mut healthy) = (open(&lab, TALKING), open(&lab, TALKING));
            cut(&lab, port(&dead));
            until("unanswered retransmissions", || {
                let said = socket(&lab, port(&dead));
                let backoff = said.split_whitespace().find_map(|w| w.strip_prefix("backoff:"));
                (backoff?.parse::<u8>().ok()? >= 2).then_some(())
            });
            assert_eq!(end_of(&lab, port(&dead)), None, "nobody has noticed yet");
            let again = open(&lab, TALKING);
            let end = until("the dead flow's end", || end_of(&lab, port(&dead)));
            assert_eq!(end["status_code"], "device_returned", "{end}");
            assert_eq!((&end["activity_id"], &end["action_id"]), (&3.into(), &1.into()));
            // And once more, to have looked at the healthy one for sure.
            drop(open(&lab, TALKING));
            until("its end", || {
                (records(&lab).iter().filter(|r| is_end(r)).count() >= 2).then_some(())
            });
            let healthy = lab.device(0).run(async move || {
                let mut old = vec![0; 1 << 20];
                while healthy.try_read(&mut old).is_ok() {}
                assert!(healthy.read(&mut old).await.unwrap() > 0, "it goes on");
                healthy
            });
            // The healthy one and the new one; when a device closes its half, that shows as well.
            let states = until_status(&daemon, "two", |status| status["states"]["relay"] == 2);
            assert_eq!(states["states"]["half_closed"], 0, "{states}");
            assert_eq!(states["threads"]["working"], states["threads"]["all"]);
            let shut = SockRef::from(&again).shutdown(std::net::Shutdown::Write);
            shut.unwrap();
            until_status(&daemon, "a half", |status| status["states"]["half_closed"] == 1);
            drop(again);
            until_status(&daemon, "its end", |status| {
                status["states"]["half_closed"] == 0 && status["states"]["relay"] == 1
            });
            drop(healthy);
        },
    );
}

#[test]
fn silent_flows_of_a_device_that_is_back_are_probed() {
    inside::test("returns::silent_flows_of_a_device_that_is_back_are_probed", || {
        let lab = lab();
        let _daemon = start_with_endpoint(&lab);
        let (restarted, vanished, mut healthy) =
            (open(&lab, ECHOING), open(&lab, ECHOING), open(&lab, ECHOING));
        // One whose device has forgotten it, and one where nothing answers.
        let [was_restarted, has_vanished] = [port(&restarted), port(&vanished)];
        cut(&lab, was_restarted);
        lab.device(0).run(async move || {
            SockRef::from(&restarted).set_linger(Some(Duration::ZERO)).unwrap();
            drop(restarted);
        });
        run(lab.device(0), "nft", &[&format!("delete table inet cut{was_restarted}")]);
        cut(&lab, has_vanished);
        let ends = until("both ends", || {
            drop(open(&lab, ECHOING));
            Some((end_of(&lab, was_restarted)?, end_of(&lab, has_vanished)?))
        });
        assert_eq!(ends.0["status_code"], "reset_by_device", "{}", ends.0);
        assert_eq!(ends.1["status_code"], "device_returned", "{}", ends.1);
        let is_as_usual = |said: String| said.contains("timer:(keepalive,1min").then_some(());
        until("the ordinary probing", || is_as_usual(socket(&lab, port(&healthy))));
        lab.device(0).run(async move || {
            healthy.write_all(b"still here").await.unwrap();
            let mut answer = [0; 10];
            healthy.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"still here");
        });
        drop(vanished);
    });
}
