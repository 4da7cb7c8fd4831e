//! Elastic Common Schema. What it has no place for is in `sluicegate`.

use serde_json::{Map, Value, json};

use super::rfc3339;
use crate::audit::view::{Sort, Verdict, View};

pub(super) fn event(view: &View<'_>) -> Value {
    pruned(json!({
        "@timestamp": rfc3339(view.time),
        "ecs": { "version": "8.11.0" },
        "event": about(view),
        "observer": {
            "name": view.device.as_ref().map(|device| &*device.name),
            "vendor": "Sluicegate",
            "product": "Sluicegate",
            "type": "firewall",
            "egress": { "interface": { "name":
                view.proxy_endpoint.as_ref().and_then(|own| own.interface_name.as_deref()) } },
        },
        "source": source(view),
        "destination": destination(view),
        "network": network(view),
        "tls": tls(view),
        "dns": view.query.as_ref().map(|query| json!({
            "question": { "name": &*query.hostname, "type": query.kind.as_deref() },
        })),
        "rule": { "name": view.rule(),
            "version": view.policy.as_ref().map(|policy| &*policy.version) },
        "sluicegate": {
            "flow": view.flow(),
            "verdict": view.verdict().map(Verdict::as_str),
            "device": view.src_endpoint.name.as_deref(),
            "identity": view.unmapped.egress.identity.as_deref(),
            "would_refuse": view.unmapped.egress.would_refuse.as_deref(),
            "ja4": view.ja4(),
            "eni": { "ip": view.eni().map(|eni| eni.ip),
                "zone": view.eni().and_then(|eni| eni.zone.as_deref()) },
            "count": view.count,
        },
    }))
    .unwrap_or_default()
}

fn about(view: &View<'_>) -> Value {
    let denied = view.verdict() == Some(Verdict::Deny);
    let mut types = Vec::new();
    match view.sort() {
        Sort::System => types.push("info"),
        Sort::Dns => types.push("protocol"),
        Sort::Flow | Sort::Packet => types.push("connection"),
    }
    if view.verdict().is_some() {
        types.push(if denied { "denied" } else { "allowed" });
    }
    if view.begins() && !denied {
        types.push("start");
    }
    if view.ends() {
        types.push("end");
    }
    json!({
        "kind": "event",
        "category": [if view.sort() == Sort::System { "configuration" } else { "network" }],
        "type": types,
        "module": "sluicegate",
        "dataset": format!("sluicegate.{}", view.sort().as_str()),
        "provider": "sluicegate",
        "action": &*view.status_code,
        "reason": view.status_detail.as_deref(),
        "outcome": view.status_id.map(|status| match status {
            1 => "success",
            2 => "failure",
            _ => "unknown",
        }),
        "id": view.metadata.uid.as_deref(),
        "sequence": view.metadata.sequence,
        "created": rfc3339(view.metadata.logged_time),
        "start": view.start_time.map(rfc3339),
        "end": view.end_time.map(rfc3339),
        // Nanoseconds.
        "duration": view.duration.map(|ms| ms.saturating_mul(1_000_000)),
        "severity": view.severity_id,
    })
}

fn source(view: &View<'_>) -> Value {
    let source = &view.src_endpoint;
    json!({
        "ip": source.ip,
        "address": source.ip,
        "port": source.port,
        // RFC 7042 section 2.1, as ECS asks.
        "mac": source.mac.as_deref().map(|mac| mac.to_uppercase().replace(':', "-")),
        "bytes": view.total().map(|total| total.bytes_out),
        "nat": { "ip": view.proxy_endpoint.as_ref().map(|own| own.ip),
            "port": view.proxy_endpoint.as_ref().and_then(|own| own.port) },
    })
}

fn destination(view: &View<'_>) -> Value {
    let destination = &view.dst_endpoint;
    let domain = destination.hostname.as_deref();
    json!({
        "ip": destination.ip,
        "address": domain.map_or_else(|| json!(destination.ip), Value::from),
        "domain": domain,
        "port": destination.port,
        "bytes": view.total().map(|total| total.bytes_in),
        "nat": { "ip": view.eni().map(|eni| eni.ip),
            "port": view.eni().and_then(|eni| eni.port) },
    })
}

fn network(view: &View<'_>) -> Value {
    let Some(info) = &view.connection_info else { return Value::Null };
    json!({
        "transport": info.protocol_name.as_deref(),
        "type": info.protocol_ver_id.map(|version| format!("ipv{version}")),
        "protocol": view.tls.as_ref().map(|_| "tls"),
        "direction": "outbound",
        "community_id": info.community_uid.as_deref(),
        "bytes": view.bytes(),
    })
}

fn tls(view: &View<'_>) -> Value {
    let Some(tls) = &view.tls else { return Value::Null };
    json!({
        "version": &*tls.version,
        "version_protocol": if &*tls.version == "3.0" { "ssl" } else { "tls" },
        "cipher": tls.cipher.as_deref(),
        "client": { "server_name": tls.sni.as_deref() },
    })
}

/// Leaves out what is null, and objects that have nothing in them then.
fn pruned(value: Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Object(members) => {
            let kept: Map<_, _> = members
                .into_iter()
                .filter_map(|(key, value)| Some((key, pruned(value)?)))
                .collect();
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
        other => Some(other),
    }
}
