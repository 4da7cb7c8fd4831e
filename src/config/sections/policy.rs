//! `[policy]`: whether refusals are enforced, and what devices without an entry may reach.

use std::sync::Arc;

use time::format_description::well_known::Rfc3339;
use time::{Date, Month, OffsetDateTime, Time, UtcOffset};
use toml::value::{Datetime, Offset};

use crate::config::diagnostics::{Problem, Report};
use crate::config::reader::{At, List, Table, Value};
use crate::config::values::{Fault, shown};
use crate::config::{PolicyConfig, PolicyMode};

use super::endpoint;

/// `policy.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ModeWord {
    Enforce,
    Learn,
}

/// `[policy]`.
pub(in crate::config) struct Draft {
    mode: Option<At<ModeWord>>,
    until: Option<At<OffsetDateTime>>,
    default: Option<List<Arc<str>>>,
}

impl Draft {
    pub(super) fn read(root: &mut Table<'_>, endpoints: &endpoint::Draft, report: &Report) -> Self {
        let mut draft = Self { mode: None, until: None, default: None };
        let Some(mut table) = root.optional_table("policy") else { return draft };
        let modes = [("enforce", ModeWord::Enforce), ("learn", ModeWord::Learn)];
        let mode = table.optional("mode");
        let known = mode.is_none();
        draft.mode = mode.and_then(|value| value.choice(&modes));
        let until = table.optional("learn-until");
        match (&draft.mode, &until) {
            (Some(mode), None) if mode.value == ModeWord::Learn => {
                let what = "learning has no end: `learn-until` is missing";
                let help = "add it, for example: learn-until = 2030-01-31T18:00:00Z";
                report.error(Problem::at(mode.span.clone(), what).help(help).needs_whole_file());
            }
            (Some(mode), Some(until)) if mode.value == ModeWord::Enforce => {
                let problem = misplaced(until).also(mode.span.clone(), "the mode");
                report.error(problem);
            }
            (None, Some(until)) if known => report.error(misplaced(until)),
            _ => {}
        }
        draft.until = until.and_then(|value| instant(&value));
        draft.default = table
            .optional("default")
            .map(|value| value.list(|item| endpoints.resolve(item, report)));
        table.finish();
        draft
    }

    pub(super) fn finish(self, endpoints: &endpoint::Draft) -> Option<PolicyConfig> {
        let mode = match self.mode.map_or(ModeWord::Enforce, |mode| mode.value) {
            ModeWord::Enforce => PolicyMode::Enforce,
            ModeWord::Learn => PolicyMode::Learn { until: self.until?.value },
        };
        let default = self.default.map_or_else(|| endpoints.ids(), List::into_values);
        Some(PolicyConfig { mode, default })
    }
}

fn misplaced(until: &Value<'_>) -> Problem {
    Problem::at(until.key_span.clone(), "`learn-until` belongs to mode = \"learn\" only")
        .help("remove it: refusals are enforced")
}

fn instant(value: &Value<'_>) -> Option<At<OffsetDateTime>> {
    let example = "write date, time and zone, for example 2030-01-31T18:00:00Z";
    let Some(datetime) = value.datetime() else {
        return value.parse(|text| {
            OffsetDateTime::parse(text, &Rfc3339).map(|t| t.to_offset(UtcOffset::UTC)).map_err(
                |_| Fault::new(format!("`{}` is not an RFC 3339 date-time", shown(text)), example),
            )
        });
    };
    let Some(instant) = from_toml(datetime) else {
        value.fault(Fault::new(format!("`{datetime}` does not say one moment"), example));
        return None;
    };
    Some(At { value: instant, span: value.span.clone() })
}

/// `None` for a date-time without a zone, and for one outside of the calendar.
fn from_toml(datetime: Datetime) -> Option<OffsetDateTime> {
    let (date, time, offset) = (datetime.date?, datetime.time?, datetime.offset?);
    let month = Month::try_from(date.month).ok()?;
    let date = Date::from_calendar_date(i32::from(date.year), month, date.day).ok()?;
    let nanosecond = time.nanosecond.unwrap_or(0);
    let time = Time::from_hms_nano(time.hour, time.minute, time.second.unwrap_or(0), nanosecond);
    let minutes = match offset {
        Offset::Z => 0,
        Offset::Custom { minutes } => i32::from(minutes),
    };
    let offset = UtcOffset::from_whole_seconds(minutes * 60).ok()?;
    let instant = OffsetDateTime::new_in_offset(date, time.ok()?, offset);
    instant.checked_to_offset(UtcOffset::UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_moment_in_every_spelling() {
        let expected = OffsetDateTime::from_unix_timestamp(1_896_112_800).expect("a moment");
        for text in
            ["2030-01-31T18:00:00Z", "2030-01-31 19:00:00+01:00", "2030-01-31T12:30:00.0-05:30"]
        {
            let read = from_toml(text.parse().expect("TOML takes it")).expect("one moment");
            assert_eq!(read, expected, "{text}");
            assert_eq!(read.offset(), UtcOffset::UTC);
        }
        for text in ["2030-01-31T18:00:00", "2030-01-31", "18:00:00"] {
            assert_eq!(from_toml(text.parse().expect("TOML takes it")), None, "{text}");
        }
    }
}
