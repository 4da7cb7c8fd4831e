//! What the tests of the running gate share: start it, ask it, await what it does, read its records.

#![allow(dead_code, reason = "each test program uses its own part")]

#[path = "proof.rs"]
pub(crate) mod proof;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use serde_json::Value;
use sluicegate::audit;
use sluicegate::lab::device::{self, Call, Failure, HttpReply, tls_connect};
use sluicegate::lab::party::Party;
use sluicegate::lab::topology::{ZONES, public};
use sluicegate::lab::{Daemon, Lab};

/// The program under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_sluicegate");
/// For what must come, on a machine as busy as it likes.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// The octet of the IoT data service, in the zones and on the public side.
pub(crate) const IOT: u8 = 11;
/// The octet of the buckets.
pub(crate) const S3: u8 = 13;

pub(crate) fn lab() -> Lab {
    Lab::up().unwrap_or_else(|error| panic!("{error}"))
}

/// Starts the gate with the lab's configuration and waits until its names are resolved.
pub(crate) fn start(lab: &Lab) -> Daemon {
    start_with(lab, &lab.daemon_config())
}

pub(crate) fn start_with(lab: &Lab, config: &str) -> Daemon {
    let started = lab.start_daemon(Path::new(BINARY), config);
    let daemon = started.unwrap_or_else(|error| panic!("{error}"));
    until_status(&daemon, "every name resolved", |status| {
        list(&status["endpoints"]).iter().all(|e| e["required"] == false || e["reason"].is_null())
    });
    daemon
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Looks again and again until there is something to see.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "waited {SOON:?} for {what}");
        std::thread::sleep(GLANCE);
    }
}

/// Waits until a device's work says that it has come so far.
pub(crate) fn until_ready(ready: &Receiver<()>, what: &str) {
    ready.recv_timeout(SOON).unwrap_or_else(|error| panic!("waited for {what}: {error}"));
}

/// The first status report that is as wanted.
pub(crate) fn until_status(daemon: &Daemon, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + SOON;
    loop {
        let status = daemon.status_json().unwrap_or_else(|error| panic!("{error}"));
        if wanted(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "waited {SOON:?} for {what}, and status is: {status}");
        std::thread::sleep(GLANCE);
    }
}

/// The status of one name.
pub(crate) fn endpoint<'a>(status: &'a Value, name: &str) -> &'a Value {
    let found = list(&status["endpoints"]).iter().find(|endpoint| endpoint["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is not in {status}"))
}

pub(crate) fn problem_codes(status: &Value) -> Vec<&str> {
    list(&status["problems"]).iter().filter_map(|problem| problem["code"].as_str()).collect()
}

pub(crate) fn audit_directory(lab: &Lab) -> PathBuf {
    lab.directory().join("audit")
}

/// Every record of a flow so far.
pub(crate) fn records(lab: &Lab) -> Vec<Value> {
    all_records(lab).into_iter().filter(|record| record["class_uid"] == 4001).collect()
}

/// Every record so far, also those of the box's own.
pub(crate) fn all_records(lab: &Lab) -> Vec<Value> {
    let mut lines = audit::read::lines(&audit_directory(lab)).unwrap();
    let mut records = Vec::new();
    while let Some(line) = lines.next_line().unwrap() {
        records.push(serde_json::from_slice(line.bytes).unwrap());
    }
    records
}

/// The first record that is as wanted, as soon as there is one.
pub(crate) fn until_record(lab: &Lab, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    until(what, || records(lab).into_iter().find(|record| wanted(record)))
}

/// Whether a record ends or refuses a flow.
pub(crate) fn is_end(record: &Value) -> bool {
    matches!(record["activity_id"].as_u64(), Some(2..=5))
}

/// The last end or refusal of a flow that this address opened, behind the first `skip` records.
pub(crate) fn until_end_behind(lab: &Lab, skip: usize, device: IpAddr) -> Value {
    until(&format!("a record of {device}'s flow"), || {
        let ours = |record: &Value| record["src_endpoint"]["ip"] == device.to_string();
        records(lab).into_iter().skip(skip).rfind(|record| is_end(record) && ours(record))
    })
}

/// The chain is whole, and each Open has exactly one end; returns the records.
pub(crate) fn assert_log(lab: &Lab) -> Vec<Value> {
    // The gate may write of its tunnels at any time.
    let before = all_records(lab).len() as u64;
    let report = proof::assert_intact(&audit_directory(lab));
    let after = all_records(lab).len() as u64;
    assert!((before..=after).contains(&report.records), "{} of {before}", report.records);
    let records = records(lab);
    let flow = |record: &Value| record["metadata"]["correlation_uid"].as_str().map(str::to_owned);
    let mut ends: HashMap<_, usize> = HashMap::new();
    for end in records.iter().filter(|record| is_end(record)) {
        *ends.entry(flow(end)).or_default() += 1;
    }
    for open in records.iter().filter(|record| record["activity_id"] == 1) {
        assert_eq!(ends.get(&flow(open)), Some(&1), "ends of {open}");
    }
    records
}

/// Gets `/` from a name as a device would, by whatever address it dials.
pub(crate) fn get(
    lab: &Lab,
    number: usize,
    to: SocketAddr,
    name: &str,
) -> Result<HttpReply, Failure> {
    let (pki, call) = (lab.pki(), Call::new(to, name));
    lab.device(number).run(async move || tls_connect(&pki, &call).await?.get("/").await)
}

/// A public address of a service, as devices dial it.
pub(crate) fn dialled(octet: u8, port: u16) -> SocketAddr {
    let [v4, _] = public(octet);
    (v4, port).into()
}

/// A private address of a service.
pub(crate) fn private(zone: usize, octet: u8, port: u16) -> SocketAddr {
    (ZONES[zone].address(octet), port).into()
}

/// Runs a program in a namespace; it must succeed.
pub(crate) fn run(party: &Party, program: &str, args: &[&str]) -> String {
    let output = party.command(program, args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Words of `nft` in the box.
pub(crate) fn nft(lab: &Lab, words: &str) -> String {
    run(lab.edge(), "nft", &[words])
}

/// Words of `ip` in the box.
pub(crate) fn ip(lab: &Lab, words: &str) -> String {
    run(lab.edge(), "ip", &words.split_whitespace().collect::<Vec<_>>())
}

/// The packets that a named counter in the box has seen.
pub(crate) fn packets(lab: &Lab, table: &str, counter: &str) -> u64 {
    let text = run(lab.edge(), "nft", &["-j", "list", "counter", "inet", table, counter]);
    let answer: Value = serde_json::from_str(&text).unwrap();
    let found = list(&answer["nftables"]).iter().find_map(|o| o["counter"]["packets"].as_u64());
    found.unwrap_or_else(|| panic!("{text}"))
}

/// Writes a configuration file.
pub(crate) fn write_config(lab: &Lab, name: &str, config: &str) -> String {
    let path = lab.directory().join(name);
    std::fs::write(&path, config).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Runs the program in the box; one that does not end by itself is ended and fails.
pub(crate) fn sluicegate(lab: &Lab, args: &[&str]) -> Output {
    sluicegate_by(lab, &[], args)
}

/// As [`sluicegate`], started by another program that changes what it may do.
pub(crate) fn sluicegate_by(lab: &Lab, by: &[&str], args: &[&str]) -> Output {
    let words = [&["-k", "5", "30"], by, &[BINARY], args].concat();
    let output = lab.edge().command("timeout", &words).output().unwrap();
    assert_ne!(output.status.code(), Some(124), "{words:?} did not end: {output:?}");
    output
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a device tries to get past the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    Echo(IpAddr),
}

/// Every way out that a device could find open, to the public side and, past the gate, to the VPC.
pub(crate) fn ways() -> Vec<Way> {
    let mut ways = Vec::new();
    for ip in public(IOT) {
        ways.extend([443, 8883, 80].map(|port| Way::Tcp((ip, port).into())));
        ways.push(Way::Udp((ip, 443).into()));
        ways.push(Way::Echo(ip));
    }
    ways.extend([443, 8443].map(|port| Way::Tcp(private(0, IOT, port))));
    ways.push(Way::Echo(private(0, IOT, 0).ip()));
    ways
}

/// Tries one way out.
pub(crate) fn attempt(lab: &Lab, number: usize, way: Way) -> Result<(), Failure> {
    lab.device(number).run(async move || match way {
        Way::Tcp(to) => device::tcp_connect(to, SOON).await.map(drop),
        Way::Udp(to) => device::udp_exchange(to, b"anybody?", SOON).await.map(drop),
        Way::Echo(to) => device::echo(to, SOON).await,
    })
}

/// Whether there is a daemon, which takes connections to its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    Running,
    Away,
}

/// Every way is refused at once with what its kind is refused with, and nothing gets anywhere.
pub(crate) fn assert_all_refused(lab: &Lab, gate: Gate, situation: &str) {
    lab.forget_leaks().unwrap();
    for way in ways() {
        let outcome = attempt(lab, 0, way);
        let right = match (way, &outcome) {
            (Way::Tcp(to), Ok(())) => gate == Gate::Running && to.port() != 80,
            (Way::Tcp(to), Err(failure)) if at_once(failure) => {
                gate == Gate::Away || to.port() == 80
            }
            (Way::Udp(_) | Way::Echo(_), Err(failure)) => failure.is_prohibited(),
            _ => false,
        };
        assert!(right, "{situation}: {way:?} ended with {outcome:?}");
    }
    assert_nothing_left(lab, situation);
}

/// By a TCP reset of the rules or by the ICMP error of the dead end, but not by silence.
fn at_once(failure: &Failure) -> bool {
    *failure == Failure::Refused || failure.is_prohibited()
}

/// Every way is open: so each refusal means something.
pub(crate) fn assert_all_open(lab: &Lab, situation: &str) {
    lab.forget_leaks().unwrap();
    for way in ways() {
        assert_eq!(attempt(lab, 0, way), Ok(()), "{situation}: {way:?}");
    }
    assert!(lab.leaked_packets().unwrap() > 0 && lab.bypassed_packets().unwrap() > 0);
    lab.forget_leaks().unwrap();
}

pub(crate) fn assert_nothing_left(lab: &Lab, situation: &str) {
    assert_eq!(lab.leaked_packets().unwrap(), 0, "{situation}: {:?}", lab.leaks());
    assert_eq!(lab.bypassed_packets().unwrap(), 0, "{situation}: past the gate into the VPC");
}

const GLANCE: Duration = Duration::from_millis(20);
