//! Random bytes, a port scan, and connections that say nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::Value;
use sluicegate::lab::services::IOT_DATA;
use sluicegate::lab::topology::{DEVICES, public4};
use sluicegate::lab::{Daemon, Lab, inside};
use sluicegate::reason::{Reason, Stage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::gate::*;

const GARBAGE: u64 = 200;
const SILENT: usize = 1_000;
/// In KiB: a fifth of what a buffer of 64 KiB per silent connection would take.
const MOST_GROWTH: u64 = 16 * 1024;

#[test]
fn floods_are_refused_recorded_and_forgotten() {
    inside::test("floods::floods_are_refused_recorded_and_forgotten", || {
        raise_descriptor_limit();
        let lab = lab();
        let daemon = start(&lab);
        assert!(get(&lab, 0, dialled(IOT, 443), IOT_DATA).is_ok());
        until_status(&daemon, "quiet", |status| status["flows"]["live"] == 0);
        let descriptors =
            || std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
        let before = until("quiet descriptors", || {
            let count = descriptors();
            std::thread::sleep(std::time::Duration::from_millis(100));
            (descriptors() == count).then_some(count)
        });
        let memory = resident(&daemon);

        garbage(&lab);
        scan(&lab);
        silence(&lab, &daemon);

        let grown = resident(&daemon).saturating_sub(memory);
        println!("resident memory grew by {grown} KiB");
        assert!(grown < MOST_GROWTH, "{grown} KiB");
        until("the descriptors back", || (descriptors() <= before).then_some(()));
        assert!(get(&lab, 0, dialled(IOT, 443), IOT_DATA).is_ok());
        assert_eq!(lab.leaked_packets().unwrap(), 0, "{:?}", lab.leaks());
        until_status(&daemon, "all ends", |status| status["flows"]["live"] == 0);
        assert_log(&lab);
    });
}

/// The refusals of the third device behind the first `skip` records, by reason.
fn refusals(lab: &Lab, skip: usize) -> Vec<Reason> {
    let address = IpAddr::from(DEVICES[2].address).to_string();
    let refused = |record: &Value| {
        let ours = record["activity_id"] == 5 && record["src_endpoint"]["ip"] == address.as_str();
        let count = usize::try_from(record["count"].as_u64().unwrap_or(1)).unwrap();
        let reason = Reason::from_code(record["status_code"].as_str()?)?;
        ours.then(|| vec![reason; count])
    };
    records(lab).iter().skip(skip).filter_map(refused).flatten().collect()
}

/// Flows of random bytes, as many of them as there is, each ended by the device.
fn garbage(lab: &Lab) {
    let skip = records(lab).len();
    let answered = lab.device(2).run(async || {
        let mut flows = JoinSet::new();
        for seed in 1..=GARBAGE {
            flows.spawn_local(async move {
                let bytes = random(seed);
                let mut stream = connect(dialled(IOT, 443)).await;
                // The gate may refuse before everything is written.
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                let mut answer = Vec::new();
                let _ = stream.read_to_end(&mut answer).await;
                answer
            });
        }
        flows.join_all().await
    });
    // Silence, or an alert: never anything that looks like an answer.
    assert!(answered.iter().all(|answer| answer.is_empty() || answer[0] == 21), "{answered:?}");
    let reasons = until("the refusals of garbage", || {
        let reasons = refusals(lab, skip);
        (reasons.len() as u64 >= GARBAGE).then_some(reasons)
    });
    assert_eq!(reasons.len() as u64, GARBAGE);
    assert!(reasons.iter().all(|reason| reason.stage() == Stage::Hello), "{reasons:?}");
    assert!(reasons.contains(&Reason::NotTls) && reasons.contains(&Reason::HelloMalformed));
}

/// Bytes by xorshift64; every second flow begins as a TLS record would.
fn random(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let words = 1 + next() % 400;
    let mut bytes: Vec<u8> = (0..words).flat_map(|_| next().to_le_bytes()).collect();
    if seed.is_multiple_of(2) {
        bytes[..3].copy_from_slice(&[22, 3, 1]);
    }
    bytes
}

/// A port scan: intercepted ports are opened and closed, and recorded; others are refused.
fn scan(lab: &Lab) {
    let skip = records(lab).len();
    let hosts: Vec<Ipv4Addr> = (1..=20).map(public4).collect();
    let targets = hosts.clone();
    lab.device(2).run(async move || {
        for host in targets {
            for port in [443, 8443, 8883] {
                drop(connect((host, port).into()).await);
            }
        }
    });
    for port in [1, 22, 80, 502, 15_443, 65_535] {
        assert_eq!(
            attempt(lab, 2, Way::Tcp((hosts[0], port).into())),
            Err(sluicegate::lab::device::Failure::Refused)
        );
    }
    let reasons = until("the refusals of the scan", || {
        let reasons = refusals(lab, skip);
        (reasons.len() >= 60).then_some(reasons)
    });
    assert_eq!(reasons, vec![Reason::HelloCut; 60]);
}

/// Connections that say nothing: none keeps the others out, and each is told off in the end.
fn silence(lab: &Lab, daemon: &Daemon) {
    let skip = records(lab).len();
    let silent = lab.device(2).run(async || {
        let mut streams = Vec::new();
        for _ in 0..SILENT {
            streams.push(connect(dialled(IOT, 443)).await);
        }
        streams
    });
    let status = daemon.status_json().unwrap();
    assert!(status["flows"]["live"].as_u64() > Some(SILENT as u64 / 2), "{status}");
    let during = get(lab, 0, dialled(IOT, 443), IOT_DATA);
    assert!(during.is_ok(), "beside {SILENT} silent connections: {during:?}");
    let reasons = until("the silent ones refused", || {
        let reasons = refusals(lab, skip);
        (reasons.len() >= SILENT).then_some(reasons)
    });
    assert_eq!(reasons, vec![Reason::HelloTimeout; SILENT]);
    drop(silent);
}

async fn connect(to: SocketAddr) -> TcpStream {
    sluicegate::lab::device::tcp_connect(to, SOON).await.unwrap()
}

/// Resident memory of the daemon in KiB.
fn resident(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).unwrap();
}
