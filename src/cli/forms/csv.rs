//! Comma-separated values (RFC 4180), with a line of names first.
//!
//! Control characters are escaped, so a cell never holds a line's end. A cell that a spreadsheet would
//! take for a formula begins with an apostrophe.

use super::{rfc3339, visible};
use crate::audit::view::{Traffic, View};

pub(super) fn head() -> String {
    let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
    format!("{}\r\n", names.join(","))
}

pub(super) fn append(out: &mut Vec<u8>, view: &View<'_>) {
    for (index, (_, value)) in COLUMNS.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        if let Some(text) = value(view) {
            cell(out, &text);
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn cell(out: &mut Vec<u8>, text: &str) {
    let shown = visible(text);
    let formula = shown.starts_with(['=', '+', '-', '@']);
    let quoted = shown.contains([',', '"']) || shown.starts_with(' ') || shown.ends_with(' ');
    if quoted {
        out.push(b'"');
    }
    if formula {
        out.push(b'\'');
    }
    out.extend_from_slice(shown.replace('"', "\"\"").as_bytes());
    if quoted {
        out.push(b'"');
    }
}

type Column = (&'static str, fn(&View<'_>) -> Option<String>);

fn text(value: Option<&impl ToString>) -> Option<String> {
    value.map(ToString::to_string)
}

fn total(view: &View<'_>, of: fn(Traffic) -> u64) -> Option<String> {
    view.total().map(|total| of(total).to_string())
}

const COLUMNS: &[Column] = &[
    ("time", |view| Some(rfc3339(view.time))),
    ("seq", |view| Some(view.metadata.sequence.to_string())),
    ("flow", |view| text(view.flow().as_ref())),
    ("type", |view| Some(view.sort().as_str().to_owned())),
    ("verdict", |view| view.verdict().map(|verdict| verdict.as_str().to_owned())),
    ("reason", |view| Some(view.status_code.to_string())),
    ("device", |view| text(view.src_endpoint.name.as_ref())),
    ("mac", |view| text(view.src_endpoint.mac.as_ref())),
    ("src_ip", |view| text(view.src_endpoint.ip.as_ref())),
    ("src_port", |view| text(view.src_endpoint.port.as_ref())),
    ("name", |view| text(view.name().as_ref())),
    ("dst_ip", |view| text(view.dst_endpoint.ip.as_ref())),
    ("dst_port", |view| text(view.dst_endpoint.port.as_ref())),
    ("protocol", |view| {
        text(view.connection_info.as_ref().and_then(|info| info.protocol_name.as_ref()))
    }),
    ("eni_ip", |view| text(view.eni().map(|eni| &eni.ip))),
    ("eni_zone", |view| text(view.eni().and_then(|eni| eni.zone.as_ref()))),
    ("egress_ip", |view| text(view.proxy_endpoint.as_ref().map(|own| &own.ip))),
    ("egress_port", |view| text(view.proxy_endpoint.as_ref().and_then(|own| own.port.as_ref()))),
    ("egress_interface", |view| {
        text(view.proxy_endpoint.as_ref().and_then(|own| own.interface_name.as_ref()))
    }),
    ("rule", |view| text(view.rule().as_ref())),
    ("policy", |view| text(view.policy.as_ref().map(|policy| &policy.version))),
    ("bytes_out", |view| total(view, |total| total.bytes_out)),
    ("bytes_in", |view| total(view, |total| total.bytes_in)),
    ("duration_ms", |view| text(view.duration.as_ref())),
    ("tls", |view| text(view.tls.as_ref().map(|tls| &tls.version))),
    ("alpn", |view| {
        let offered: Vec<&str> = view.alpn().iter().map(|protocol| &**protocol).collect();
        (!offered.is_empty()).then(|| offered.join(" "))
    }),
    ("ja4", |view| text(view.ja4().as_ref())),
    ("count", |view| text(view.count.as_ref())),
    ("box", |view| text(view.device.as_ref().map(|device| &device.name))),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_are_no_formulas() {
        for (text, expected) in [
            ("press-3", "press-3"),
            ("Press 3, hall \"B\"", "\"Press 3, hall \"\"B\"\"\""),
            (" a", "\" a\""),
            ("a\r\nb", "a\\u{d}\\u{a}b"),
            ("=cmd(1,2)", "\"'=cmd(1,2)\""),
            ("-1", "'-1"),
            ("", ""),
        ] {
            let mut out = Vec::new();
            cell(&mut out, text);
            assert_eq!(String::from_utf8_lossy(&out), expected, "{text}");
        }
    }
}
