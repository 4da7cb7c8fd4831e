//! OCSF 1.3.0, which Security Lake's custom sources take: the stored record, with what that version
//! does not know moved to `unmapped`.

use serde_json::{Map, Value};

pub(super) fn project(line: &[u8]) -> Option<Value> {
    let mut record: Map<String, Value> = serde_json::from_slice(line).ok()?;
    let mut moved = Map::new();
    for name in NOT_IN_RECORD {
        moved.extend(record.remove_entry(*name));
    }
    if let Some(info) = record.get_mut("connection_info").and_then(Value::as_object_mut) {
        for name in NOT_IN_CONNECTION {
            moved.extend(info.remove_entry(*name));
        }
    }
    if matches!(record.get("action_id").and_then(Value::as_u64), Some(3 | 4)) {
        moved.extend(record.get("action").map(|caption| ("action".to_owned(), caption.clone())));
        record.insert("action_id".to_owned(), OTHER.into());
    }
    let metadata = record.get_mut("metadata")?.as_object_mut()?;
    metadata.insert("version".to_owned(), "1.3.0".into());
    let unmapped = record.entry("unmapped").or_insert_with(|| Map::new().into());
    unmapped.as_object_mut()?.append(&mut moved);
    Some(record.into())
}

const NOT_IN_RECORD: &[&str] = &["is_alert", "policy", "app_protocol_name", "cumulative_traffic"];
const NOT_IN_CONNECTION: &[&str] = &["community_uid", "flag_history"];
/// `action_id`: what it is stands in `action`.
const OTHER: u8 = 99;
