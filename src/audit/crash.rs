//! The end of a flow that was open when the box stopped, made from its Open.

use std::io;

use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::clock;
use super::inbox::Shared;
use super::kind;
use super::record::{self, Class, Metadata};

/// The `unknown_crash` record of a flow, from the line of its Open. What the Open said of the flow
/// is taken over; how much it moved and when it ended is not known, and not said.
///
/// # Errors
/// The line is no record: without it, starting would forget the flow for good.
pub(super) fn end(shared: &Shared, flow: Uuid, line: &[u8]) -> io::Result<Vec<u8>> {
    let mut open: Map<String, Value> = serde_json::from_slice(line)?;
    let start = open.get("start_time").and_then(Value::as_u64).unwrap_or_default();
    let mut facts = Map::new();
    for name in TAKEN_OVER {
        facts.extend(open.remove_entry(*name));
    }
    let unmapped = open.remove("unmapped").unwrap_or_default();
    let mut egress = unmapped.get("egress").and_then(Value::as_object).cloned().unwrap_or_default();
    egress.insert("mono_ns".to_owned(), clock::mono_ns().into());
    egress.insert("clock".to_owned(), shared.clock().into());
    egress.insert("conn_state".to_owned(), kind::STATE_OTHER.into());
    Ok(record::body(&CrashEnd {
        metadata: metadata(shared, flow),
        class: (&kind::CRASHED).into(),
        time: clock::unix_ms().max(start),
        start_time: start,
        status_code: kind::CODE_CRASH,
        status_detail: "The box stopped while the flow was open; how it ended is not known.",
        facts,
        unmapped: Unmapped { egress },
    }))
}

fn metadata(shared: &Shared, flow: Uuid) -> Metadata<'_> {
    Metadata::new(&shared.site, kind::PROFILES_ALLOWED, Some(flow))
}

#[derive(Serialize)]
struct CrashEnd<'a> {
    metadata: Metadata<'a>,
    #[serde(flatten)]
    class: Class,
    time: u64,
    start_time: u64,
    status_code: &'static str,
    status_detail: &'static str,
    #[serde(flatten)]
    facts: Map<String, Value>,
    unmapped: Unmapped,
}

#[derive(Serialize)]
struct Unmapped {
    egress: Map<String, Value>,
}

/// What stays true of a flow, however it ended.
const TAKEN_OVER: &[&str] = &[
    "policy",
    "firewall_rule",
    "app_protocol_name",
    "src_endpoint",
    "dst_endpoint",
    "connection_info",
    "tls",
    "ja4_fingerprint_list",
    "device",
];
