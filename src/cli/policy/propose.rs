//! The proposal as a file: TOML to review, with what it rests on in comments.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::endpoints::{Known, NewTable, Places};
use super::moment;
use super::seen::{SeenDevice, SeenName};
use crate::config::Site;
use crate::name::ServerName;

/// A `[[device]]` entry.
#[derive(Debug)]
pub(super) struct Entry {
    name: String,
    mac: Option<String>,
    address: Option<String>,
    allow: BTreeSet<String>,
}

impl Entry {
    /// The entry of a device: what it is recognised by is the site's where the site has it.
    pub(super) fn of(
        label: &str,
        device: &SeenDevice,
        places: &Places,
        site: Option<&Site>,
    ) -> Self {
        let tables = device.names.keys().filter_map(|name| places.names.get(name)?.table.clone());
        let allow = tables.collect();
        let entries = site.map(|site| site.device_entries.as_slice()).unwrap_or_default();
        let known = entries.iter().find(|entry| device.is_named && *entry.name == *label);
        if let Some(entry) = known {
            let mac = entry.mac.map(|mac| mac.to_string());
            let address = entry.address.map(|net| {
                let host = net.prefix_len() == net.max_prefix_len();
                if host { net.addr().to_string() } else { net.to_string() }
            });
            return Self { name: label.to_owned(), mac, address, allow };
        }
        let mac = device.mac.map(|mac| mac.to_string());
        let address = mac.is_none().then(|| device.address.to_string());
        let name = match device.is_named {
            true => label.to_owned(),
            false => format!("device-{}", label.replace([':', '.'], "-")),
        };
        Self { name, mac, address, allow }
    }

    fn toml(&self, out: &mut String) {
        line(out, format_args!("[[device]]"));
        line(out, format_args!("name = {}", quoted(&self.name)));
        for (key, value) in [("mac", &self.mac), ("address", &self.address)] {
            if let Some(value) = value {
                line(out, format_args!("{key} = {}", quoted(value)));
            }
        }
        line(out, format_args!("allow = {}", list(&self.allow)));
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name, "mac": self.mac, "address": self.address, "allow": self.allow,
        })
    }
}

/// The tables that the site lacks.
pub(super) fn tables_toml(tables: &BTreeMap<String, NewTable>, out: &mut String) {
    for (id, table) in tables {
        line(out, format_args!("\n# To be added, once the VPC has this endpoint."));
        line(out, format_args!("[endpoint.{id}]"));
        let texts =
            [("hosts", &table.hosts), ("buckets", &table.buckets), ("accounts", &table.accounts)];
        for (key, values) in texts.into_iter().filter(|(_, values)| !values.is_empty()) {
            line(out, format_args!("{key} = {}", list(values)));
        }
        if !table.ports.is_empty() && !table.ports.iter().eq(&[443]) {
            line(out, format_args!("ports = [{}]", joined(&table.ports)));
        }
        if table.path_style {
            line(out, format_args!("path-style = true # any bucket of the region can be reached"));
        }
    }
}

pub(super) fn tables_json(tables: &BTreeMap<String, NewTable>) -> Value {
    let one = |(id, table): (&String, &NewTable)| {
        let value = json!({
            "hosts": table.hosts, "buckets": table.buckets, "accounts": table.accounts,
            "ports": table.ports, "path_style": table.path_style,
        });
        (id.clone(), value)
    };
    Value::Object(tables.iter().map(one).collect())
}

/// One device: what was seen as comments, then its entry.
pub(super) fn device_toml(
    label: &str,
    device: &SeenDevice,
    places: &Places,
    entry: &Entry,
    out: &mut String,
) {
    let span = &device.span;
    let (first, last) = (moment(span.first), moment(span.last));
    let at = match device.mac {
        Some(mac) => format!("{mac} at {}", device.address),
        None => format!("{}, MAC not known", device.address),
    };
    let label = label.escape_debug();
    line(out, format_args!("\n# {label} ({at}): {}, {first} to {last}", flows(span.flows)));
    for (name, seen) in &device.names {
        if let Some(known) = places.names.get(name) {
            name_toml(name, seen, known, out);
        }
    }
    for (reason, count) in &device.others {
        let reason = reason.escape_debug();
        line(out, format_args!("#   {}, no name to allow: {reason}", flows(*count)));
    }
    if entry.allow.is_empty() {
        line(out, format_args!("# Nothing was seen that could be allowed: no entry is proposed."));
    } else {
        entry.toml(out);
    }
}

fn name_toml(name: &ServerName, seen: &SeenName, known: &Known, out: &mut String) {
    let ports = joined(&seen.ports);
    let table = known.table.as_ref().map(|id| format!(" [endpoint.{id}]")).unwrap_or_default();
    line(out, format_args!("#   {:<11} {name} port {ports}{table}", known.class.word()));
    let mut counts = Vec::new();
    for (count, what) in [
        (seen.allowed, "allowed"),
        (seen.would_be_refused, "only by learn mode"),
        (seen.refused, "refused"),
    ] {
        if count > 0 {
            counts.push(format!("{count} {what}"));
        }
    }
    let (first, last) = (moment(seen.span.first), moment(seen.span.last));
    let all = flows(seen.span.flows);
    line(out, format_args!("#     {all}: {}; {first} to {last}", counts.join(", ")));
    if !seen.reasons.is_empty() {
        let reasons: Vec<_> =
            seen.reasons.iter().map(|(code, count)| format!("{code} {count}")).collect();
        line(out, format_args!("#     {}", reasons.join(", ")));
    }
    if let Some(remedy) = &known.remedy {
        line(out, format_args!("#     -> {remedy}"));
    }
}

pub(super) fn device_json(
    label: &str,
    device: &SeenDevice,
    places: &Places,
    entry: &Entry,
) -> Value {
    let names: Vec<Value> = device
        .names
        .iter()
        .filter_map(|(name, seen)| Some(name_json(name, seen, places.names.get(name)?)))
        .collect();
    json!({
        "device": label,
        "mac": device.mac.map(|mac| mac.to_string()),
        "address": device.address,
        "flows": device.span.flows,
        "first": moment(device.span.first),
        "last": moment(device.span.last),
        "names": names,
        "without_name": device.others,
        "proposed": (!entry.allow.is_empty()).then(|| entry.json()),
    })
}

fn name_json(name: &ServerName, seen: &SeenName, known: &Known) -> Value {
    json!({
        "name": name,
        "ports": seen.ports,
        "class": known.class.word(),
        "endpoint": known.table,
        "remedy": known.remedy,
        "flows": seen.span.flows,
        "allowed": seen.allowed,
        "would_refuse": seen.would_be_refused,
        "refused": seen.refused,
        "reasons": seen.reasons,
        "first": moment(seen.span.first),
        "last": moment(seen.span.last),
    })
}

/// `1 flow`, `2 flows`.
pub(super) fn flows(count: u64) -> String {
    if count == 1 { "1 flow".to_owned() } else { format!("{count} flows") }
}

/// A TOML basic string. JSON's escapes are TOML's too, but for DEL, which JSON leaves as it is.
fn quoted(text: &str) -> String {
    Value::from(text).to_string().replace('\x7f', "\\u007f")
}

fn list(texts: &BTreeSet<String>) -> String {
    let quoted: Vec<_> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", quoted.join(", "))
}

fn joined(ports: &BTreeSet<u16>) -> String {
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}

pub(super) fn line(out: &mut String, words: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{words}");
}
