//! Flows of every fate: the log's counts are those of who made the flows.

use std::collections::{BTreeMap, HashMap};

use rustix::process::Signal;
use serde_json::Value;
use sluicegate::audit::read;
use sluicegate::lab::{Daemon, inside};

use crate::crowd::{Fate, Plant};
use crate::gate::{SOON, audit_directory, proof};
use crate::{number, say, schema};

#[test]
fn the_log_counts_what_the_devices_did() {
    inside::test("counted::the_log_counts_what_the_devices_did", || {
        let flows = number("SLUICEGATE_TEST_FLOWS", 3_000);
        let plant = Plant::up();
        let daemon = plant.start();
        let began = std::time::Instant::now();
        plant.flows(flows);
        let took = began.elapsed();
        end(&daemon);
        let strange = plant.seen.strange.lock().unwrap();
        assert!(strange.is_empty(), "{strange:?}\n{}", daemon.stderr_text());
        let mut expected = BTreeMap::new();
        for (fate, count) in plant.seen.done.lock().unwrap().iter() {
            *expected.entry(fate.recorded()).or_default() += count;
        }
        let counted = count(&plant);
        let opened: u64 =
            expected.iter().filter(|((activity, _), _)| *activity != 5).map(|(_, n)| n).sum();
        assert_eq!(counted.opens, opened);
        let ends: BTreeMap<(u64, &str), u64> = counted
            .ends
            .iter()
            .map(|((activity, code), n)| ((*activity, code.as_str()), *n))
            .collect();
        assert_eq!(ends, expected);
        say(&format!("{flows} flows in {took:?}: {} records, {ends:?}", counted.records));
    });
}

/// Ends the gate in order.
pub(crate) fn end(daemon: &Daemon) {
    daemon.signal(Signal::TERM).unwrap();
    let status = daemon.wait(3 * SOON).unwrap().expect("it ends");
    assert_eq!(status.code(), Some(0), "{}", daemon.stderr_text());
}

/// What a log holds.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    pub(crate) records: u64,
    pub(crate) opens: u64,
    /// Ends and refusals by activity and `status_code`; those that were counted together count each.
    pub(crate) ends: HashMap<(u64, String), u64>,
    /// Opens by the device's address and port.
    pub(crate) opened_by: HashMap<String, u64>,
    /// Records of the box's own.
    pub(crate) system: HashMap<String, u64>,
}

/// Reads the log of a gate that has ended. The chain is whole, each record fits the closed schema, and
/// each Open has exactly one end.
pub(crate) fn count(plant: &Plant) -> Counted {
    let directory = audit_directory(&plant.lab);
    let report = proof::assert_intact(&directory);
    let mut counted = Counted::default();
    let mut flows: HashMap<u128, (u8, u8)> = HashMap::new();
    let mut lines = read::lines(&directory).unwrap();
    while let Some(line) = lines.next_line().unwrap() {
        let record: Value = serde_json::from_slice(line.bytes).unwrap();
        assert_eq!(schema::problems(&record), Vec::<String>::new(), "{record}");
        counted.records += 1;
        let code = record["status_code"].as_str().unwrap();
        if record["class_uid"] == 6002 {
            *counted.system.entry(code.to_owned()).or_default() += 1;
            continue;
        }
        let activity = record["activity_id"].as_u64().unwrap();
        let uid = record["metadata"]["correlation_uid"].as_str();
        let flow = uid.map(|uid| uid.parse::<uuid::Uuid>().unwrap().as_u128());
        let (opens, ends) =
            flow.map_or((0, 0), |flow| flows.get(&flow).copied().unwrap_or_default());
        let now = match activity {
            1 => {
                counted.opens += 1;
                let source = &record["src_endpoint"];
                let from = format!("{}:{}", source["ip"].as_str().unwrap(), source["port"]);
                *counted.opened_by.entry(from).or_default() += 1;
                (opens + 1, ends)
            }
            6 => (opens, ends),
            _ => {
                let count = record["count"].as_u64().unwrap_or(1);
                *counted.ends.entry((activity, code.to_owned())).or_default() += count;
                (opens, ends + 1)
            }
        };
        assert!(
            now.0 <= 1 && now.1 <= 1 && (activity == 5 || now.0 == 1 || flow.is_none()),
            "{record}"
        );
        flow.map(|flow| flows.insert(flow, now));
    }
    assert_eq!(report.records, counted.records);
    let without = flows.values().filter(|(_, ends)| *ends != 1).count();
    assert_eq!(without, 0, "flows without an end");
    counted
}

/// Every flow of which bytes reached the endpoint has its Open.
pub(crate) fn assert_recorded_first(plant: &Plant, counted: &Counted) {
    let reached = plant.seen.reached.lock().unwrap();
    for (from, times) in reached.iter() {
        let opens = counted.opened_by.get(&from.to_string()).copied().unwrap_or_default();
        assert!(opens >= *times, "{from} reached the endpoint {times} times, with {opens} Opens");
    }
    assert!(!reached.is_empty());
}

#[test]
fn every_fate_is_among_the_first_flows() {
    let fates: std::collections::HashSet<Fate> = (0..crate::crowd::SLOW).map(Fate::of).collect();
    assert_eq!(fates.len(), 10);
}
