//! The gate's own records, read after its end and checked as a whole.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use sluicegate::audit::read;

/// An allowed flow: its Open and its one end.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) open: Value,
    pub(crate) end: Value,
}

impl Flow {
    /// How it ended: `status_code` of its end.
    pub(crate) fn ended(&self) -> &str {
        self.end["status_code"].as_str().unwrap()
    }

    /// Device to endpoint, in bytes.
    pub(crate) fn up(&self) -> u64 {
        self.end["traffic"]["bytes_out"].as_u64().unwrap()
    }

    /// Endpoint to device, in bytes.
    pub(crate) fn down(&self) -> u64 {
        self.end["traffic"]["bytes_in"].as_u64().unwrap()
    }

    /// The highest TLS version that the hello offered.
    pub(crate) fn tls_version(&self) -> &str {
        self.open["tls"]["version"].as_str().unwrap()
    }
}

/// All flows of a finished log, in the order in which they were opened. Its chain is whole, each Open
/// has exactly one end, and nothing was refused.
pub(crate) fn flows(directory: &Path) -> Vec<Flow> {
    let report = crate::proof::assert_intact(directory);
    let mut lines = read::lines(directory).unwrap();
    let (mut opens, mut ends) = (Vec::new(), BTreeMap::new());
    let mut count = 0;
    while let Some(line) = lines.next_line().unwrap() {
        count += 1;
        let record: Value = serde_json::from_slice(line.bytes).unwrap();
        if record["metadata"]["log_name"] == "system" {
            continue;
        }
        let id = record["metadata"]["correlation_uid"].as_str().unwrap().to_owned();
        match record["activity_id"].as_u64() {
            Some(OPEN) => opens.push((id, record)),
            Some(CLOSE | RESET) => {
                let second = ends.insert(id, record.clone());
                assert!(second.is_none(), "a second end: {record}\nafter {second:?}");
            }
            // What it has moved so far; its end has all.
            Some(TRAFFIC) => {}
            _ => panic!("neither the beginning nor the end of an allowed flow: {record}"),
        }
    }
    assert_eq!(report.records, count, "{report:?}");
    let flows = opens.into_iter().map(|(id, open)| {
        let end = ends.remove(&id).unwrap_or_else(|| panic!("opened but never ended: {open}"));
        Flow { open, end }
    });
    let flows = flows.collect();
    assert!(ends.is_empty(), "ended but never opened: {ends:?}");
    flows
}

const OPEN: u64 = 1;
const CLOSE: u64 = 2;
const RESET: u64 = 3;
const TRAFFIC: u64 = 6;
