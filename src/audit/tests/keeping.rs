//! How much is kept: quota and age.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::super::segment::{self, SegmentName};
use super::super::verify::Verdict;
use super::super::{Audit, Disk, Tuning};
use super::sealing::manifest;
use super::{options, records, tail, until, verified, wait, whole_flow};
use crate::config::{OnFull, Retention};

/// Sixteen segments of 64 KiB.
const QUOTA: u64 = 1 << 20;

fn start(directory: &Path, on_full: OnFull) -> Audit {
    let mut options = options(directory);
    options.retention = Retention { on_full, quota: QUOTA, retain: None };
    Audit::start_with(&options, Disk, Tuning::default()).unwrap()
}

fn segments(directory: &Path) -> Vec<SegmentName> {
    segment::segments(directory).unwrap()
}

/// The system records of a kind.
fn said(directory: &Path, code: &str) -> Vec<Value> {
    let records = records(directory).into_iter();
    records.filter(|record| record["status_code"] == code).collect()
}

/// The newest segments that the manifest has and the directory has not are said to be removed, with
/// the hashes that they had.
fn assert_accounted(directory: &Path, code: &str, reason: &str) {
    let present: HashSet<u64> = segments(directory).iter().map(|segment| segment.first).collect();
    let removed: Vec<Value> = said(directory, code)
        .into_iter()
        .flat_map(|record| {
            let facts = record["unmapped"]["system"].clone();
            assert_eq!(facts["reason"], reason);
            let segments = facts["segments"].as_array().unwrap().clone();
            let of =
                |name: &str| segments.iter().map(|s| s[name].as_u64().unwrap()).collect::<Vec<_>>();
            let records: u64 =
                of("last").iter().zip(of("first")).map(|(last, first)| last - first + 1).sum();
            assert_eq!(facts["records"], records);
            segments
        })
        .collect();
    let listed = manifest(directory);
    let listed = listed.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let missing: Vec<_> =
        listed.take_while(|line| !present.contains(&line["first"].as_u64().unwrap())).collect();
    let is_said = |line: &Value| {
        removed.iter().any(|removed| {
            (&removed["first"], &removed["sha256"], &removed["name"])
                == (&line["first"], &line["sha256"], &line["segment"])
        })
    };
    // What was said of older ones may have been removed itself.
    let unsaid = missing.iter().take_while(|line| !is_said(line)).count();
    assert!(missing.len() > unsaid && missing[unsaid..].iter().all(is_said), "{missing:?}");
}

#[test]
fn a_full_quota_overwrites_the_oldest_and_says_what_is_lost() {
    let directory = tail::directory();
    let audit = start(directory.path(), OnFull::Overwrite);
    let first = || segments(directory.path()).first().unwrap().first;
    let mut flows = 0;
    while first() == 1 || flows < 500 {
        // Who writes faster than the keeper removes has to wait for it.
        until(|| audit.reserve().is_ok());
        whole_flow_if_room(&audit);
        flows += 1;
    }
    until(|| audit.status().used_bytes < QUOTA / 10 * 9);
    assert!(!audit.status().full);
    audit.close();
    assert_eq!(verified(directory.path()).result, Verdict::Incomplete);
    assert!(said(directory.path(), "gap").iter().all(|gap| gap["severity_id"] == 4));
    assert_accounted(directory.path(), "gap", "quota");
    // The next start goes on behind what was removed.
    let audit = start(directory.path(), OnFull::Overwrite);
    whole_flow(&audit);
    audit.close();
    assert_eq!(verified(directory.path()).result, Verdict::Incomplete);
}

#[test]
fn a_full_quota_refuses_flows_but_not_their_ends() {
    let directory = tail::directory();
    let audit = start(directory.path(), OnFull::Refuse);
    let mut running = super::flow(&audit);
    wait(running.open()).unwrap();
    let refused = loop {
        match audit.reserve() {
            Ok(slot) => drop(slot),
            Err(error) => break error,
        }
        whole_flow_if_room(&audit);
    };
    assert!(refused.0.contains("quota"), "{refused}");
    let status = audit.status();
    assert!(status.full && status.failure.is_none(), "{status:?}");
    assert!(status.used_bytes >= QUOTA / 16 * 15 && status.quota_bytes == QUOTA);
    assert!(status.oldest.is_some());
    let seq = status.seq;
    running.close(super::FlowEnd::Idle, super::TrafficFacts::default());
    until(|| audit.status().seq > seq);
    (0..5).for_each(|_| audit.count_unrecorded());
    // A higher quota is enough.
    let more = Retention { quota: 2 * QUOTA, ..Retention::default() };
    audit.set_retention(more);
    until(|| !audit.status().full);
    whole_flow(&audit);
    audit.close();
    assert_eq!(verified(directory.path()).result, Verdict::Intact);
    assert_eq!(segments(directory.path()).first().unwrap().first, 1, "nothing was removed");
    let all = records(directory.path());
    let counted: u64 = all.iter().filter_map(|record| record["count"].as_u64()).sum();
    assert_eq!(counted, 5);
}

fn whole_flow_if_room(audit: &Audit) {
    if let Ok(slot) = audit.reserve() {
        let device = super::DeviceFacts {
            address: "10.10.3.7:51522".parse().unwrap(),
            mac: None,
            name: None,
            identity: "none",
        };
        let mut flow = slot.begin(device, "203.0.113.80:443".parse().unwrap());
        wait(flow.open()).unwrap();
        flow.close(super::FlowEnd::ClosedByDevice, super::TrafficFacts::default());
    }
}

#[test]
fn what_is_too_old_is_removed_with_a_record() {
    let directory = tail::directory();
    let audit = start(directory.path(), OnFull::Refuse);
    while segments(directory.path()).len() < 4 {
        whole_flow(&audit);
    }
    until(|| manifest(directory.path()).len() >= 3);
    assert_eq!(segments(directory.path()).first().unwrap().first, 1);
    let retain = Some(Duration::from_millis(1));
    audit.set_retention(Retention { retain, ..Retention::default() });
    until(|| segments(directory.path()).len() == 1);
    whole_flow(&audit);
    audit.close();
    assert_eq!(verified(directory.path()).result, Verdict::Intact);
    assert_accounted(directory.path(), "retention", "age");
    assert!(said(directory.path(), "gap").is_empty());
}
