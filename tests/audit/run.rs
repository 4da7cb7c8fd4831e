//! A run of many flows on many threads, restarts, and the directory's lock.

use std::os::unix::fs::PermissionsExt;

use sluicegate::audit::{Audit, FlowEnd, TrafficFacts};
use sluicegate::reason::Reason;

use crate::support::{allowed, assert_promises, dial, options, start, wait};

const THREADS: usize = 8;
const FLOWS: usize = 400;

/// One thread's flows, of mixed fates, several alive at once.
fn flows(audit: &Audit, thread: usize) {
    let tasks = tokio::task::LocalSet::new();
    wait(tasks.run_until(async {
        let mut running = Vec::new();
        for number in 0..FLOWS {
            let audit = audit.clone();
            running.push(tokio::task::spawn_local(async move {
                fate(&audit, number + thread).await;
            }));
        }
        for task in running {
            let _ = task.await;
        }
    }));
}

async fn fate(audit: &Audit, number: usize) {
    let mut flow = allowed(audit);
    let traffic = TrafficFacts { up: number as u64, down: 7, spliced: 0 };
    if number.is_multiple_of(7) {
        return flow.refuse(Reason::NameNotAllowed, None, None, Some(112));
    }
    let open = flow.open();
    if number.is_multiple_of(11) {
        return drop(open);
    }
    open.await.expect("the record is durable");
    if number.is_multiple_of(5) {
        return flow.fail(Reason::EndpointRefused, None);
    }
    flow.set_dial(dial());
    assert!(!number.is_multiple_of(13), "this flow's task breaks");
    flow.close(FlowEnd::ClosedByEndpoint, traffic);
}

#[test]
fn every_promise_holds_over_a_mixed_run() {
    let directory = tempfile::tempdir().unwrap();
    let audit = start(directory.path(), THREADS * FLOWS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let audit = &audit;
            scope.spawn(move || flows(audit, thread));
        }
    });
    let status = audit.status();
    assert!(!status.full && status.failure.is_none());
    audit.close();
    let records = assert_promises(directory.path());
    let opens = records.iter().filter(|record| record["activity_id"] == 1).count();
    let refused = records.iter().filter(|record| record["activity_id"] == 5).count();
    assert_eq!(opens + refused, THREADS * FLOWS);
}

#[test]
fn a_restart_continues_the_chain_in_the_same_segment() {
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("audit");
    for round in 1..=3_u64 {
        let audit = start(&inner, 1);
        // A start leaves a boot record and a checkpoint, an end a stop record and a checkpoint.
        assert_eq!(audit.status().seq, (round - 1) * 6 + 2);
        let mut flow = allowed(&audit);
        wait(flow.open()).unwrap();
        flow.close(FlowEnd::Drained, TrafficFacts::default());
        audit.close();
    }
    assert_eq!(assert_promises(&inner).len(), 6);
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&inner), 0o750);
    assert_eq!(mode(&inner.join("flow-00000000000000000001.ndjson")), 0o640);
    let report = crate::proof::assert_intact(&inner);
    assert_eq!(report.segments, 1);
}

#[test]
fn one_directory_has_one_writer() {
    let directory = tempfile::tempdir().unwrap();
    let audit = start(directory.path(), 1);
    let error = Audit::start(options(directory.path(), 1)).unwrap_err();
    assert!(error.0.contains("in use by another process"), "{error}");
    // The last handle gives the directory back.
    drop(audit);
    start(directory.path(), 1).close();
}

#[test]
fn slots_bound_the_flows_and_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let audit = start(directory.path(), 2);
    let one = audit.reserve().unwrap();
    let two = allowed(&audit);
    assert!(audit.reserve().is_err());
    assert!(audit.status().full);
    audit.count_unrecorded();
    audit.count_unrecorded();
    drop(one);
    drop(audit.reserve().expect("a slot without records comes back at once"));
    two.refuse(Reason::NameNotAllowed, None, None, None);
    audit.close();
    let records = assert_promises(directory.path());
    let counted: Vec<_> = records.iter().filter(|record| record.get("count").is_some()).collect();
    assert_eq!(counted.len(), 1);
    assert_eq!(counted[0]["count"], 2);
    assert_eq!(counted[0]["disposition_id"], 27);
    assert_eq!(counted[0]["severity_id"], 4);
}

#[test]
fn a_closed_log_takes_no_flow() {
    let directory = tempfile::tempdir().unwrap();
    let audit = start(directory.path(), 2);
    let mut open = allowed(&audit);
    wait(open.open()).unwrap();
    let mut late = allowed(&audit);
    audit.clone().close();
    assert!(audit.reserve().is_err());
    assert!(wait(late.open()).is_err());
    drop((open, late, audit));
    // The next start finds the open flow.
    start(directory.path(), 2).close();
    let records = assert_promises(directory.path());
    assert_eq!(records.last().unwrap()["status_code"], "unknown_crash");
}
