//! A hello for people.

use std::fmt::Write as _;

use super::outlook;
use crate::hello::input::Found;
use crate::hello::{HelloFacts, Refusal, version_name};

/// One hello, a line per fact.
pub(super) fn hello(found: &Found) -> String {
    let mut out = String::new();
    if let Some((client, server)) = found.between {
        let _ = writeln!(out, "{client} -> {server}");
    }
    match &found.answer {
        Ok(hello) => {
            line(&mut out, "name", hello.name.as_str());
            facts(&mut out, &hello.facts);
        }
        Err(refusal) => refused(&mut out, refusal),
    }
    for remark in &found.remarks {
        line(&mut out, "note", remark);
    }
    let outlook = outlook::of(found);
    if outlook.accepts == Some(true) {
        line(&mut out, "AWS", "accepts a hello like this one");
    }
    for note in &outlook.notes {
        line(&mut out, "AWS", note);
    }
    out
}

fn refused(out: &mut String, refusal: &Refusal) {
    line(out, "REFUSED", &format!("{}: {}", refusal.reason, refusal.reason.sentence()));
    if !refusal.detail.is_empty() {
        line(out, "fault", &refusal.detail);
    }
    if !refusal.first_bytes.is_empty() {
        let hex: Vec<String> = refusal.first_bytes.iter().map(|b| format!("{b:02x}")).collect();
        let shown = format!("{}  {}", hex.join(" "), refusal.first_bytes.escape_ascii());
        line(out, "first bytes", &shown);
    }
    line(out, "remedy", refusal.reason.remedy());
    if let Some(read) = &refusal.facts {
        facts(out, read);
    }
}

fn facts(out: &mut String, facts: &HelloFacts) {
    let versions: Vec<_> = if facts.versions.is_empty() {
        vec![version_name(facts.legacy_version)]
    } else {
        facts.versions.iter().map(|version| version_name(*version)).collect()
    };
    line(out, "versions", &versions.join(", "));
    let alpn: Vec<_> = facts.alpn.iter().map(|name| name.escape_ascii().to_string()).collect();
    line(out, "ALPN", if alpn.is_empty() { "none".to_owned() } else { alpn.join(", ") }.as_str());
    line(out, "JA4", facts.ja4().as_str());
    if facts.ech {
        line(out, "ECH", "encrypted_client_hello is present; the name above is the outer one");
    }
    let records = if facts.records == 1 { "record" } else { "records" };
    let mut size = format!("{} bytes in {} {records}", facts.bytes, facts.records);
    if facts.trailing_bytes > 0 {
        let _ = write!(size, ", {} bytes behind it", facts.trailing_bytes);
    }
    line(out, "size", &size);
    for note in &facts.notes {
        line(out, "note", note);
    }
}

fn line(out: &mut String, what: &str, said: &str) {
    let _ = writeln!(out, "  {what:<12}{said}");
}
