//! One report for all who ask within a second: however many look, data threads are asked once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;
use tokio::sync::Mutex;

use crate::admin::report::{Report, Reporter};

/// A report, and what is sent of it.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    made: Instant,
    pub(super) report: Arc<Report>,
    /// The whole report.
    pub(super) document: Bytes,
    /// What changes every second.
    pub(super) pulse: Bytes,
}

/// Makes snapshots.
#[derive(Debug)]
pub(super) struct Snapshots {
    reporter: Arc<Reporter>,
    last: Mutex<Option<Snapshot>>,
}

impl Snapshots {
    pub(super) fn new(reporter: Arc<Reporter>) -> Self {
        Self { reporter, last: Mutex::default() }
    }

    /// A snapshot that is hardly a second old. Who asks while one is made waits for it.
    pub(super) async fn fresh(&self) -> Snapshot {
        let mut last = self.last.lock().await;
        if let Some(snapshot) = last.as_ref().filter(|of| of.made.elapsed() < FRESH) {
            return snapshot.clone();
        }
        let report = Arc::new(self.reporter.glance().await);
        // A report is plain data, which has a JSON form.
        let document = serde_json::to_vec(&*report).unwrap_or_default().into();
        let snapshot = Snapshot { made: Instant::now(), document, pulse: pulse(&report), report };
        *last = Some(snapshot.clone());
        snapshot
    }
}

fn pulse(report: &Report) -> Bytes {
    let Report { flows, relay, audit, .. } = report;
    let pulse = json!({
        "uptime_seconds": report.uptime_seconds,
        "flows": {
            "live": flows.live,
            "allowed_total": flows.allowed_total,
            "denied_total": flows.denied_total,
        },
        "states": report.states,
        "relay": { "copied": relay.copied, "spliced": relay.spliced },
        "audit": {
            "seq": audit.seq,
            "head": audit.head,
            "waiting": audit.waiting,
            "lag_seconds": audit.lag_seconds,
        },
    });
    pulse.to_string().into()
}

const FRESH: Duration = Duration::from_millis(900);
