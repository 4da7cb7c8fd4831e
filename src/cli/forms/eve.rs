//! Suricata EVE: `tls` for an Open, `drop` for what was refused, `flow` for an end, `dns`.
//!
//! Directions are Suricata's: the device is the client. What EVE has no place for is in `sluicegate`.
//! Records of the box itself have no form here.

use serde_json::{Map, Value, json};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::formatted;
use crate::audit::view::{Sort, Verdict, View};

pub(super) fn event(view: &View<'_>) -> Option<Value> {
    let kind = match (view.sort(), view.verdict()) {
        (Sort::System, _) => return None,
        (Sort::Dns, _) => "dns",
        (_, Some(Verdict::Deny)) if !view.ends() => "drop",
        _ if view.ends() => "flow",
        _ if view.begins() => "tls",
        _ => "flow",
    };
    let mut event = Map::new();
    let mut put = |key: &str, value: Value| {
        if !value.is_null() {
            event.insert(key.to_owned(), value);
        }
    };
    let info = view.connection_info.as_ref();
    let protocol = info.and_then(|info| info.protocol_name.as_deref()).unwrap_or("tcp");
    put("timestamp", stamp(view.time).into());
    put("flow_id", view.flow().and_then(flow_id).into());
    put("event_type", kind.into());
    put("host", view.device.as_ref().map(|device| &*device.name).into());
    put("src_ip", json!(view.src_endpoint.ip));
    put("src_port", view.src_endpoint.port.into());
    put("dest_ip", json!(view.dst_endpoint.ip));
    put("dest_port", view.dst_endpoint.port.into());
    put("proto", protocol.to_uppercase().into());
    put("community_id", info.and_then(|info| info.community_uid.as_deref()).into());
    let app = if kind == "dns" { Some("dns") } else { view.tls.as_ref().map(|_| "tls") };
    put("app_proto", app.into());
    put("tls", tls(view));
    match kind {
        "drop" => {
            put("drop", json!({ "reason": &*view.status_code }));
            put("verdict", json!({ "action": "drop" }));
        }
        "flow" => put("flow", flow(view)),
        "dns" => put("dns", dns(view)),
        _ => {}
    }
    put("sluicegate", own(view));
    Some(event.into())
}

fn tls(view: &View<'_>) -> Value {
    let Some(tls) = &view.tls else { return Value::Null };
    let version = match &*tls.version {
        "1.0" => "TLSv1".to_owned(),
        "3.0" => "SSLv3".to_owned(),
        hex if hex.starts_with("0x") => hex.to_owned(),
        version => format!("TLS {version}"),
    };
    let mut object = Map::new();
    object.insert("version".to_owned(), version.into());
    object.extend(tls.sni.as_ref().map(|sni| ("sni".to_owned(), Value::from(&**sni))));
    object.extend(view.ja4().map(|ja4| ("ja4".to_owned(), Value::from(ja4))));
    let alpn: Vec<Value> = view.alpn().iter().map(|protocol| Value::from(&**protocol)).collect();
    if !alpn.is_empty() {
        object.insert("client_alpns".to_owned(), alpn.into());
    }
    object.into()
}

fn flow(view: &View<'_>) -> Value {
    let mut flow = Map::new();
    if let Some(total) = view.total() {
        flow.insert("bytes_toserver".to_owned(), total.bytes_out.into());
        flow.insert("bytes_toclient".to_owned(), total.bytes_in.into());
    }
    flow.extend(view.start_time.map(|start| ("start".to_owned(), stamp(start).into())));
    flow.extend(view.end_time.map(|end| ("end".to_owned(), stamp(end).into())));
    flow.extend(view.duration.map(|ms| ("age".to_owned(), (ms / 1_000).into())));
    let state = if view.ends() { "closed" } else { "established" };
    flow.insert("state".to_owned(), state.into());
    flow.insert("reason".to_owned(), (*view.status_code).into());
    flow.insert("alerted".to_owned(), false.into());
    flow.into()
}

fn dns(view: &View<'_>) -> Value {
    let Some(query) = &view.query else { return Value::Null };
    json!({
        "type": "answer",
        "rrname": &*query.hostname,
        "rrtype": query.kind.as_deref(),
        "rcode": view.rcode_id.map(|rcode| match rcode {
            0 => "NOERROR".to_owned(),
            3 => "NXDOMAIN".to_owned(),
            5 => "REFUSED".to_owned(),
            other => other.to_string(),
        }),
    })
}

fn own(view: &View<'_>) -> Value {
    let text = |text: Option<&str>| text.map(Value::from);
    let members = [
        ("uid", text(view.flow())),
        ("sequence", Some(view.metadata.sequence.into())),
        ("verdict", text(view.verdict().map(Verdict::as_str))),
        ("reason", text(Some(&view.status_code))),
        ("rule", text(view.rule())),
        ("policy", text(view.policy.as_ref().map(|policy| &*policy.version))),
        ("device", text(view.src_endpoint.name.as_deref())),
        ("mac", text(view.src_endpoint.mac.as_deref())),
        ("eni", view.eni().map(|eni| json!(eni.ip))),
        ("egress", view.proxy_endpoint.as_ref().map(|own| json!(own.ip))),
        ("count", view.count.map(Value::from)),
    ];
    let members = members.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Object(members.collect())
}

/// EVE's flow ids are numbers: 53 random bits of the UUID, which every reader of JSON keeps exact.
fn flow_id(uid: &str) -> Option<u64> {
    let (_, low) = uid.parse::<uuid::Uuid>().ok()?.as_u64_pair();
    Some(low & ((1 << 53) - 1))
}

fn stamp(ms: u64) -> String {
    formatted(ms, STAMP)
}

const STAMP: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]+0000");
