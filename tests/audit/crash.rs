//! `kill -9` in the middle of everything: what was acknowledged is on disk, and every Open has one
//! end after the next start.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use sluicegate::audit::{Audit, FlowEnd, TrafficFacts};
use sluicegate::reason::Reason;

use crate::support::{allowed, assert_promises, options, start, wait};

const CHILD: &str = "SLUICEGATE_TEST_AUDIT_LOAD";
/// How many times; more of them where this says so.
const ROUNDS: u32 = 20;
const ROUNDS_VARIABLE: &str = "SLUICEGATE_TEST_KILLS";

/// Flows without end on four threads; prints each flow's id once its Open is acknowledged.
fn load(directory: &Path) -> ! {
    let mut options = options(directory, 4096);
    // Segments small enough that some are full, compressed, and cut off in the middle of that.
    options.retention.quota = 32 << 20;
    let audit = Audit::start(options).expect("the log starts");
    let thread = |number: usize| {
        for turn in number.. {
            let mut flow = allowed(&audit);
            if turn % 5 == 0 {
                flow.refuse(Reason::NameNotAllowed, None, None, None);
                continue;
            }
            wait(flow.open()).expect("the record is durable");
            let acknowledged = format!("acknowledged {}\n", flow.uid());
            std::io::stdout().lock().write_all(acknowledged.as_bytes()).expect("the pipe is read");
            if turn % 3 == 0 {
                // Stays open until the process is killed.
                std::mem::forget(flow);
            } else {
                flow.close(FlowEnd::ClosedByDevice, TrafficFacts::default());
            }
        }
    };
    std::thread::scope(|scope| {
        for number in 0..4 {
            scope.spawn(move || thread(number));
        }
    });
    unreachable!("the load has no end")
}

#[test]
fn a_killed_process_loses_nothing_that_it_acknowledged() {
    if let Some(directory) = std::env::var_os(CHILD) {
        load(Path::new(&directory));
    }
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = HashSet::new();
    let rounds = std::env::var(ROUNDS_VARIABLE).map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::a_killed_process_loses_nothing_that_it_acknowledged"])
            .arg("--nocapture")
            .env(CHILD, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        // A different moment in each round.
        let kill_at = 10 + round % ROUNDS * 7;
        while let Some(Ok(line)) = lines.next() {
            acknowledged.extend(uid(&line));
            seen += 1;
            if seen == kill_at {
                child.kill().unwrap();
            }
        }
        assert!(!child.wait().unwrap().success());
        assert!(seen >= kill_at, "the child ended by itself");
    }
    start(directory.path(), 1).close();
    let records = assert_promises(directory.path());
    let opens: HashSet<_> = records
        .iter()
        .filter(|record| record["activity_id"] == 1)
        .filter_map(|record| record["metadata"]["correlation_uid"].as_str())
        .collect();
    let lost: Vec<_> = acknowledged.iter().filter(|uid| !opens.contains(uid.as_str())).collect();
    assert_eq!(lost, Vec::<&String>::new());
    let crashed = records.iter().filter(|record| record["status_code"] == "unknown_crash").count();
    assert!(crashed as u32 >= rounds, "{crashed}");
}

/// The id in a line of the child; the test harness prints lines of its own.
fn uid(line: &str) -> Option<String> {
    line.split_once("acknowledged ").map(|(_, uid)| uid.to_owned())
}
