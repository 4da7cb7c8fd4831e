//! One line for people.

use std::fmt::{Display, Write as _};
use std::net::IpAddr;

use time::Date;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::{Paint, formatted, moment, visible};
use crate::audit::view::{Sort, Verdict, View};

pub(super) fn compact(out: &mut Vec<u8>, view: &View<'_>, today: Date, paint: Paint) {
    let mut line = said(view, today, paint);
    line.push('\n');
    out.extend_from_slice(line.as_bytes());
}

pub(super) fn wide(out: &mut Vec<u8>, view: &View<'_>, today: Date, paint: Paint) {
    let mut line = said(view, today, paint);
    let mut add = |key: &str, value: Option<&dyn Display>| {
        if let Some(value) = value {
            let _ = write!(line, " {key}={}", visible(&value.to_string()));
        }
    };
    let eni = view.eni();
    let interface = eni.and_then(|eni| eni.interface_uid.as_ref());
    add("eni", eni.map(|eni| interface.map_or(&eni.ip as &dyn Display, |id| id as _)));
    add("zone", eni.and_then(|eni| eni.zone.as_ref()).map(|zone| zone as _));
    let total = view.total();
    add("up", total.as_ref().map(|total| &total.bytes_out as _));
    add("down", total.as_ref().map(|total| &total.bytes_in as _));
    let took = view.duration.map(took);
    add("took", took.as_ref().map(|took| took as _));
    add("tls", view.tls.as_ref().map(|tls| &tls.version as _));
    let alpn: Vec<&str> = view.alpn().iter().map(|protocol| &**protocol).collect();
    let alpn = (!alpn.is_empty()).then(|| alpn.join(","));
    add("alpn", alpn.as_ref().map(|alpn| alpn as _));
    let ja4 = view.ja4();
    add("ja4", ja4.as_ref().map(|ja4| ja4 as _));
    let mac = view.src_endpoint.mac.as_ref();
    add("mac", mac.map(|mac| mac as _));
    let flow = view.flow();
    add("flow", flow.as_ref().map(|flow| flow as _));
    add("seq", Some(&view.metadata.sequence));
    line.push('\n');
    out.extend_from_slice(line.as_bytes());
}

fn said(view: &View<'_>, today: Date, paint: Paint) -> String {
    let mut line = String::with_capacity(200);
    let format = if moment(view.time).date() == today { CLOCK } else { DAY };
    line.push_str(&formatted(view.time, format));
    line.push(' ');
    line.push_str(&word(view, paint));
    if view.sort() == Sort::System {
        let _ = write!(line, " {}", visible(&view.status_code));
        return line;
    }
    let source = &view.src_endpoint;
    let device = source.name.as_deref().map_or("-".into(), visible);
    let from = place(source.ip, source.port);
    let arrow = if view.sort() == Sort::Dns { '?' } else { '→' };
    let _ = write!(line, " {device:<12} {from:<21} {arrow} {}", target(view));
    let reason = &*view.status_code;
    let _ = write!(line, " {}", visible(reason));
    if let Some(rule) = view.rule() {
        let _ = write!(line, " [{}]", visible(rule));
    }
    if let Some(count) = view.count {
        let _ = write!(line, " ×{count}");
    }
    line
}

fn word(view: &View<'_>, paint: Paint) -> String {
    let (word, colour) = match view.verdict() {
        Some(Verdict::Allow) => ("ALLOW", "32"),
        Some(Verdict::Deny) => ("DENY ", "31"),
        Some(Verdict::Learn) => ("LEARN", "33"),
        Some(Verdict::Error) => ("ERROR", "35"),
        None => ("BOX  ", "36"),
    };
    match paint {
        Paint::Colour => format!("\u{1b}[{colour}m{word}\u{1b}[0m"),
        Paint::Plain => word.to_owned(),
    }
}

fn target(view: &View<'_>) -> String {
    if let Some(query) = &view.query {
        let kind = query.kind.as_deref().unwrap_or_default();
        return visible(&format!("{} {kind}", &*query.hostname)).into_owned();
    }
    let port = view.dst_endpoint.port;
    let mut target = match (view.name(), port) {
        (Some(name), Some(port)) => format!("{}:{port}", visible(name)),
        (Some(name), None) => visible(name).into_owned(),
        (None, port) => place(view.dst_endpoint.ip, port),
    };
    let protocol = view.connection_info.as_ref().and_then(|info| info.protocol_name.as_deref());
    if let Some(protocol) = protocol.filter(|protocol| *protocol != "tcp") {
        let _ = write!(target, "/{}", visible(protocol));
    }
    target
}

fn place(address: Option<IpAddr>, port: Option<u16>) -> String {
    match (address, port) {
        (None, _) => "-".to_owned(),
        (Some(address), None) => address.to_string(),
        (Some(address), Some(port)) => std::net::SocketAddr::new(address, port).to_string(),
    }
}

fn took(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{}m{}s", ms / 60_000, ms % 60_000 / 1_000),
        _ => format!("{}h{}m", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}

const CLOCK: &[BorrowedFormatItem<'_>] =
    format_description!("[hour]:[minute]:[second].[subsecond digits:3]");
const DAY: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:3]");
