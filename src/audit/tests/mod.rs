//! The log with its insides open: failing disks, torn tails, changed lines.

mod faults;
mod keeping;
mod keys;
mod proof;
mod sealing;
mod sectors;
mod tail;

use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::keys::CERTIFICATES;
use super::storage::Storage;
use super::verify::{Anchors, Report, Verdict};
use super::{
    Audit, AuditOptions, DeviceFacts, FlowEnd, FlowRecord, TrafficFacts, Tuning, pinned_key, read,
    segment, verify,
};
use crate::config::Retention;

fn options(directory: &Path) -> AuditOptions {
    AuditOptions {
        directory: directory.to_owned(),
        retention: Retention::default(),
        site: "augsburg-2".to_owned(),
        region: "eu-central-1".to_owned(),
        slots: 256,
        keys: directory.join("keys"),
        root_key: None,
        policy: "0".repeat(64),
    }
}

fn start_on(directory: &Path, storage: impl Storage, tuning: Tuning) -> Audit {
    Audit::start_with(&options(directory), storage, tuning).unwrap()
}

fn start(directory: &Path) -> Audit {
    start_on(directory, super::Disk, Tuning::default())
}

fn flow(audit: &Audit) -> FlowRecord {
    let device = DeviceFacts {
        address: "10.10.3.7:51522".parse().unwrap(),
        mac: None,
        name: None,
        identity: "none",
    };
    audit.reserve().unwrap().begin(device, "203.0.113.80:443".parse().unwrap())
}

/// One flow, opened and closed: two lines.
fn whole_flow(audit: &Audit) {
    let mut flow = flow(audit);
    wait(flow.open()).unwrap();
    flow.close(FlowEnd::ClosedByDevice, TrafficFacts::default());
}

/// The bytes of a segment, in whichever form it is there.
fn content(segment: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let plain = segment
        .with_file_name(segment.file_name().unwrap().to_str().unwrap().trim_end_matches(".gz"));
    if let Ok(bytes) = std::fs::read(&plain) {
        return bytes;
    }
    let compressed = std::fs::File::open(segment::other_form(&plain)).unwrap();
    flate2::read::MultiGzDecoder::new(compressed).read_to_end(&mut bytes).unwrap();
    bytes
}

/// Waits for what another thread does.
fn until(done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(60), "it never came");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until the clock of records goes on: what is written then is of another batch.
fn next_millisecond() {
    let now = super::clock::unix_ms();
    while super::clock::unix_ms() == now {
        std::hint::spin_loop();
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn records(directory: &Path) -> Vec<Value> {
    let mut lines = read::lines(directory).unwrap();
    let mut records = Vec::new();
    while let Some(line) = lines.next_line().unwrap() {
        records.push(serde_json::from_slice(line.bytes).unwrap());
    }
    records
}

/// What `status_code` says, flow record by flow record, of a directory with a whole chain.
fn codes(directory: &Path) -> Vec<String> {
    codes_of(directory, "flow")
}

/// The same of the records of the box's own.
fn system_codes(directory: &Path) -> Vec<String> {
    codes_of(directory, "system")
}

/// What a check against the log's own first key says.
fn verified(directory: &Path) -> Report {
    verify(directory, &pinned_key(directory).unwrap(), &Anchors::default())
}

fn codes_of(directory: &Path, log_name: &str) -> Vec<String> {
    let report = verified(directory);
    assert_eq!(report.result, Verdict::Intact, "{report:#?}");
    let records = records(directory);
    assert_eq!(report.records, records.len() as u64);
    let wanted = records.iter().filter(|record| record["metadata"]["log_name"] == log_name);
    wanted.map(|record| record["status_code"].as_str().unwrap().to_owned()).collect()
}

/// Takes a log's keys to where its segments are taken.
fn copy_keys(from: &Path, to: &Path) {
    std::fs::create_dir(to.join("keys")).unwrap();
    for file in ["keys/current", CERTIFICATES] {
        std::fs::copy(from.join(file), to.join(file)).unwrap();
    }
}
