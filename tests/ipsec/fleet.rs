//! Many devices on a tunnel that dies: all of them come back by the other one.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sluicegate::lab::device::{Call, Failure, Session, tls_connect};
use sluicegate::lab::pki::Pki;
use sluicegate::lab::services::{IOT_DATA, SPARE_OCTET};
use sluicegate::lab::topology::ZONES;
use sluicegate::lab::{Lab, Process, inside};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::gate::*;
use super::support::*;
use super::tunnels::ipsec_lab;

const DEVICES: usize = 3;
const SESSIONS: usize = 500;
/// What the site is promised, from the loss of the path to the last session that is back.
const PROMISED: Duration = Duration::from_secs(30);
/// What a machine gets that does other things as well.
const PATIENCE: Duration = Duration::from_secs(120);

/// A broker in each zone's network interface.
fn broker(lab: &Lab) -> Process {
    let pki = lab.pki();
    let mut text = String::from("user root\nallow_anonymous true\nlog_dest stderr\n");
    for zone in &ZONES {
        let _ = write!(
            text,
            "listener 8883 {}\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n",
            zone.address(SPARE_OCTET),
            pki.authority_file.display(),
            pki.server.certificate_file.display(),
            pki.server.key_file.display()
        );
    }
    let config = write_config(lab, "mosquitto.conf", &text);
    let broker = lab.start_process(lab.vpc(), "mosquitto", &["-c", &config]).unwrap();
    until("the broker", || {
        let listening = run(lab.vpc(), "ss", &["-Hltn", "sport = :8883"]);
        let spare = ZONES.map(|zone| format!("{}:8883", zone.address(SPARE_OCTET)));
        spare.iter().all(|address| listening.contains(address)).then_some(())
    });
    lab.zone().set_private(IOT_DATA, &ZONES.map(|zone| zone.address(SPARE_OCTET)));
    broker
}

/// How many sessions there are, and how many there were after the first of each.
#[derive(Debug, Default)]
struct Fleet {
    connected: AtomicUsize,
    again: AtomicUsize,
}

/// A device's session that opens itself anew whenever it is cut.
async fn session(pki: Arc<Pki>, number: usize, fleet: Arc<Fleet>) {
    let mut is_first = true;
    loop {
        if let Ok(session) = connect(&pki, number).await {
            let counter = if is_first { &fleet.connected } else { &fleet.again };
            counter.fetch_add(1, Ordering::Relaxed);
            is_first = false;
            session.until_closed().await;
        }
        // As a device's library waits before it tries again.
        let pause = 100 + u64::try_from(number).unwrap_or_default() % 400;
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

async fn connect(pki: &Pki, number: usize) -> Result<Session, Failure> {
    let call = Call::new(dialled(IOT, 8883), IOT_DATA).with_certificate().deadline(SOON);
    let mut session = tls_connect(pki, &call).await?;
    let broken = |error: std::io::Error| Failure::Unexpected(error.to_string());
    // CONNECT of MQTT 3.1.1: clean session, keep alive off, this client.
    let name = format!("press-{number:04}");
    let mut packet = b"\x10\x16\0\x04MQTT\x04\x02\0\0\0\x0a".to_vec();
    packet.extend(name.as_bytes());
    session.stream().write_all(&packet).await.map_err(broken)?;
    session.stream().flush().await.map_err(broken)?;
    let mut answer = [0; 4];
    session.stream().read_exact(&mut answer).await.map_err(broken)?;
    if answer == [0x20, 2, 0, 0] { Ok(session) } else { Err(Failure::Closed) }
}

#[test]
fn five_hundred_sessions_come_back_by_the_other_tunnel() {
    inside::test("fleet::five_hundred_sessions_come_back_by_the_other_tunnel", || {
        let lab = ipsec_lab();
        let daemon = start(&lab);
        let broker = broker(&lab);
        until_status(&daemon, "the broker's addresses", |status| {
            let known = &endpoint(status, IOT_DATA)["addresses"];
            known[0] == ZONES[0].address(SPARE_OCTET).to_string()
        });
        for interface in ["vpn1", "vpn2"] {
            until_answers(&daemon, interface);
        }
        let fleet = Arc::new(Fleet::default());
        for number in 0..SESSIONS {
            let (pki, fleet) = (lab.pki(), Arc::clone(&fleet));
            drop(
                lab.device(number % DEVICES).spawn(async move || session(pki, number, fleet).await),
            );
        }
        patiently("every session", || fleet.connected.load(Ordering::Relaxed) == SESSIONS);
        assert_eq!(fleet.again.load(Ordering::Relaxed), 0, "none was cut");

        // A busy machine may have taken the second tunnel for some that waited for the first.
        let first = on_first(&lab);
        assert!(first > SESSIONS / 2, "{first} by the first tunnel");
        lab.peer_down(1).unwrap();
        let began = Instant::now();
        patiently("every session again", || fleet.again.load(Ordering::Relaxed) >= first);
        let took = began.elapsed();
        println!("{first} sessions were back after {took:?}");
        assert!(took < PATIENCE, "{took:?}, and promised are {PROMISED:?}");
        until_status(&daemon, "the flows", |status| {
            status["flows"]["live"].as_u64() == u64::try_from(SESSIONS).ok()
        });
        assert_nothing_left(&lab, "the fail-over");

        // The log tells the story: a tunnel that died, what it cost, and where everybody went.
        let all = records(&lab);
        let lost: Vec<_> = all.iter().filter(|r| r["status_code"] == "tunnel_lost").collect();
        assert_eq!(lost.len(), first);
        assert!(lost.iter().all(|record| interface(record) == "vpn1"));
        let times = lost.iter().map(|record| record["time"].as_u64().unwrap());
        let span = times.clone().max().unwrap() - times.min().unwrap();
        println!("they were reset over {span} ms");
        assert!(span >= 2_000, "all at once: {span} ms");
        assert_eq!(told(&lab, "tunnel").last().unwrap()["to"], "dead");
        assert_eq!(told(&lab, "tunnel_preferred").last().unwrap()["interface"], "vpn2");
        drop(broker);
    });
}

/// Connections of the box by the first tunnel's interface.
fn on_first(lab: &Lab) -> usize {
    let all = run(lab.edge(), "ss", &["-Htn", "state", "established", "dport = :8883"]);
    all.lines().filter(|line| line.contains("%ipsec0:")).count()
}

fn patiently(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
