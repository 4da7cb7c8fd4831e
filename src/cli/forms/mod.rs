//! The forms in which records are given out.
//!
//! Each form is a function that appends one record. What stands in a record may come from a device, so
//! forms for people escape what could move a terminal's cursor or turn its text around.

mod csv;
mod ecs;
mod eve;
mod line;
mod ocsf13;

use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{Date, OffsetDateTime};

use crate::audit::view::View;

/// Whether lines have colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    Colour,
    Plain,
}

/// The form of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// One line for people; days other than this one are named.
    Compact(Date, Paint),
    /// The same with all that is known.
    Wide(Date, Paint),
    /// The stored line, byte for byte.
    Stored,
    /// Comma-separated values (RFC 4180).
    Csv,
    /// Suricata EVE.
    Eve,
    /// Elastic Common Schema.
    Ecs,
    /// OCSF 1.3.0.
    Ocsf13,
}

impl Form {
    /// What stands before the first record.
    pub(super) fn head(self) -> String {
        match self {
            Self::Csv => csv::head(),
            _ => String::new(),
        }
    }

    /// Appends a record. What has no place in a form is left out of it.
    pub(super) fn append(self, out: &mut Vec<u8>, line: &[u8], view: &View<'_>) {
        match self {
            Self::Compact(today, paint) => line::compact(out, view, today, paint),
            Self::Wide(today, paint) => line::wide(out, view, today, paint),
            Self::Stored => {
                out.extend_from_slice(line);
                out.push(b'\n');
            }
            Self::Csv => csv::append(out, view),
            Self::Eve => json(out, eve::event(view)),
            Self::Ecs => json(out, Some(ecs::event(view))),
            Self::Ocsf13 => json(out, ocsf13::project(line)),
        }
    }
}

fn json(out: &mut Vec<u8>, value: Option<serde_json::Value>) {
    if let Some(value) = value {
        // Writing to memory does not fail, and all keys are strings.
        let _ = serde_json::to_writer(&mut *out, &value);
        out.push(b'\n');
    }
}

/// A Unix time in ms.
fn moment(ms: u64) -> OffsetDateTime {
    let nanos = i128::from(ms) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn formatted(ms: u64, format: &[BorrowedFormatItem<'_>]) -> String {
    moment(ms).format(format).unwrap_or_default()
}

/// RFC 3339, UTC, to the millisecond.
pub(super) fn rfc3339(ms: u64) -> String {
    formatted(ms, RFC3339)
}

/// Text that a terminal shows and does not obey: control characters, and those that change the
/// direction of text, as `\u{…}`.
pub(super) fn visible(text: &str) -> std::borrow::Cow<'_, str> {
    let bad = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    if !text.contains(bad) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if bad(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown.into()
}

const RFC3339: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_a_terminal() {
        let text = "press\u{1b}[2J \r\n\u{7f}\u{9b}1m\u{202e}é\u{2028}";
        let shown = visible(text);
        assert_eq!(shown, "press\\u{1b}[2J \\u{d}\\u{a}\\u{7f}\\u{9b}1m\\u{202e}é\\u{2028}",);
        assert_eq!(visible("Presse 3 – Öl"), "Presse 3 – Öl");
    }
}
