//! A disk that is really full: a small tmpfs in a mount namespace of the test's own.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount};
use sluicegate::audit::{Audit, FlowEnd, FlowRecord, TrafficFacts};
use sluicegate::config::{OnFull, Retention};
use sluicegate::reason::Reason;

use crate::support::{allowed, assert_promises, options, records, start, wait};

const INSIDE: &str = "SLUICEGATE_TEST_AUDIT_TMPFS";

#[test]
fn a_full_disk_refuses_flows_and_heals() {
    let test = "full::a_full_disk_refuses_flows_and_heals";
    let Some(directory) = std::env::var_os(INSIDE) else { return rerun_inside(test) };
    let directory = Path::new(&directory);
    mount("tmpfs", directory, "tmpfs", MountFlags::empty(), Some(c"size=2m")).unwrap();
    let log = directory.join("audit");
    let audit = start(&log, 4096);
    let ballast = directory.join("ballast");
    std::fs::write(&ballast, vec![1_u8; 1200 << 10]).unwrap();

    // Flows that have a slot already when room runs short.
    let mut late: Vec<_> = (0..200).map(|_| allowed(&audit)).collect();
    let mut running = fill(&audit);
    assert!(running.len() > 20, "{}", running.len());
    let status = audit.status();
    assert!(status.full, "{status:?}");
    // What room is left is theirs.
    assert_eq!(status.failure, None);
    for _ in 0..3 {
        audit.count_unrecorded();
    }
    let seq = audit.status().seq;
    running.remove(0).close(FlowEnd::ClosedByDevice, TrafficFacts::default());
    while audit.status().seq == seq {
        std::thread::sleep(Duration::from_millis(1));
    }
    // Until there is none at all.
    let mut opens = running.len() + 1;
    let refused = loop {
        let mut flow = late.pop().expect("there are more flows than room");
        match wait(flow.open()) {
            Ok(()) => running.push(flow),
            Err(error) => {
                assert!(error.0.contains("no space is left"), "{error}");
                break flow;
            }
        }
        opens += 1;
    };
    assert!(audit.status().failure.unwrap().contains("no space is left"));
    // Their ends wait in memory.
    for flow in running {
        flow.close(FlowEnd::ClosedByDevice, TrafficFacts::default());
    }
    let refusals = 1 + late.len();
    for flow in late.into_iter().chain([refused]) {
        flow.refuse(Reason::AuditUnavailable, None, None, None);
    }

    std::fs::remove_file(&ballast).unwrap();
    healed(&audit);
    let mut flow = allowed(&audit);
    wait(flow.open()).unwrap();
    flow.close(FlowEnd::Idle, TrafficFacts::default());
    audit.close();

    let records = assert_promises(&log);
    let count = |activity: u64| records.iter().filter(|r| r["activity_id"] == activity).count();
    assert_eq!(count(1), opens + 1);
    assert_eq!(count(2), opens + 1);
    // The flows whose Open did not fit were refused and have no Open; the others were counted.
    assert_eq!(count(5), refusals + 1);
    let counted: Vec<_> = records.iter().filter_map(|record| record.get("count")).collect();
    assert_eq!(counted, [3]);
}

#[test]
fn a_full_disk_overwrites_the_oldest_records() {
    let test = "full::a_full_disk_overwrites_the_oldest_records";
    let Some(directory) = std::env::var_os(INSIDE) else { return rerun_inside(test) };
    let directory = Path::new(&directory);
    mount("tmpfs", directory, "tmpfs", MountFlags::empty(), Some(c"size=4m")).unwrap();
    let log = directory.join("audit");
    let mut options = options(&log, 4096);
    // The quota is never reached; segments have 512 KiB.
    options.retention =
        Retention { on_full: OnFull::Overwrite, quota: 8 << 20, ..Retention::default() };
    let audit = Audit::start(options).unwrap();
    // Somebody else's files leave room for two segments.
    std::fs::write(directory.join("ballast"), vec![1_u8; 2200 << 10]).unwrap();
    let first = log.join("flow-00000000000000000001.ndjson");
    let (mut opened, mut began) = (0, Instant::now());
    while opened < 3000 || first.exists() || first.with_extension("ndjson.gz").exists() {
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", audit.status());
        let Ok(slot) = audit.reserve() else {
            healed(&audit);
            continue;
        };
        drop(slot);
        let mut flow = allowed(&audit);
        match wait(flow.open()) {
            Ok(()) => flow.close(FlowEnd::ClosedByDevice, TrafficFacts::default()),
            Err(_) => {
                flow.refuse(Reason::AuditUnavailable, None, None, None);
                continue;
            }
        }
        opened += 1;
        began = Instant::now();
    }
    healed(&audit);
    audit.close();
    crate::proof::assert_overwritten(&log);
    let records = records(&log);
    let gaps = records.iter().filter(|record| record["status_code"] == "gap");
    let gaps: Vec<_> = gaps.map(|gap| &gap["unmapped"]["system"]).collect();
    assert!(!gaps.is_empty());
    let last = gaps.last().unwrap()["segments"].as_array().unwrap().last().unwrap()["last"].clone();
    assert_eq!(records.first().unwrap()["metadata"]["sequence"], last.as_u64().unwrap() + 1);
    for record in &records {
        assert_eq!(crate::schema::problems(record), Vec::<String>::new(), "{record}");
    }
}

/// Opens flows until there is no room for another.
fn fill(audit: &Audit) -> Vec<FlowRecord> {
    let mut running = Vec::new();
    loop {
        match audit.reserve() {
            Ok(slot) => drop(slot),
            Err(error) => {
                assert!(error.0.contains("no space is left"), "{error}");
                return running;
            }
        }
        let mut flow = allowed(audit);
        wait(flow.open()).unwrap();
        running.push(flow);
    }
}

fn healed(audit: &Audit) {
    let began = Instant::now();
    while audit.status().full {
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", audit.status());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn rerun_inside(test: &str) {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, directory.path())
        .arg0("unshare");
    let output = command.output().expect("unshare(1) of util-linux is installed");
    assert!(
        output.status.success(),
        "the test inside the namespaces failed. If it could not start: allow unprivileged user \
         namespaces (sysctl kernel.unprivileged_userns_clone=1, \
         kernel.apparmor_restrict_unprivileged_userns=0).\n{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}
