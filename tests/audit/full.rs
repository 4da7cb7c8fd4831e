//! A disk that is really full: a small tmpfs in a mount namespace of the test's own.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount};
use sluicegate::audit::{Audit, FlowEnd, FlowRecord, TrafficFacts};
use sluicegate::reason::Reason;

use crate::support::{allowed, assert_promises, start, wait};

const INSIDE: &str = "SLUICEGATE_TEST_AUDIT_TMPFS";

#[test]
fn a_full_disk_refuses_flows_and_heals() {
    let Some(directory) = std::env::var_os(INSIDE) else { return rerun_inside() };
    let directory = Path::new(&directory);
    mount("tmpfs", directory, "tmpfs", MountFlags::empty(), Some(c"size=1m")).unwrap();
    let log = directory.join("audit");
    let audit = start(&log, 4096);
    let ballast = directory.join("ballast");
    std::fs::write(&ballast, vec![1_u8; 700 << 10]).unwrap();

    let (running, refused) = fill(&audit);
    assert!(running.len() > 20, "{}", running.len());
    let status = audit.status();
    assert!(status.full, "{status:?}");
    assert!(status.failure.unwrap().contains("no space is left"));
    let error = audit.reserve().unwrap_err();
    assert!(error.0.contains("no space is left"), "{error}");
    for _ in 0..3 {
        audit.count_unrecorded();
    }
    // Flows that run end while the disk is full; their ends wait in memory.
    let opens = running.len();
    for flow in running {
        flow.close(FlowEnd::ClosedByDevice, TrafficFacts::default());
    }
    refused.refuse(Reason::AuditUnavailable, None, None, None);

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
    // The flow whose Open did not fit was refused and has no Open; the others were counted.
    assert_eq!(count(5), 2);
    let counted: Vec<_> = records.iter().filter_map(|record| record.get("count")).collect();
    assert_eq!(counted, [3]);
}

/// Opens flows until one cannot be recorded.
fn fill(audit: &Audit) -> (Vec<FlowRecord>, FlowRecord) {
    let mut running = Vec::new();
    loop {
        let mut flow = allowed(audit);
        match wait(flow.open()) {
            Ok(()) => running.push(flow),
            Err(error) => {
                assert!(error.0.contains("no space is left"), "{error}");
                return (running, flow);
            }
        }
    }
}

fn healed(audit: &Audit) {
    let began = Instant::now();
    while audit.status().failure.is_some() {
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", audit.status());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn rerun_inside() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "full::a_full_disk_refuses_flows_and_heals", "--nocapture"])
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
