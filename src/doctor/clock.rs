//! The box's clock, against what an endpoint says.

use time::OffsetDateTime;
use time::PrimitiveDateTime;
use time::macros::format_description;

use super::Chart;
use super::endpoints::Told;

pub(super) fn check(now: OffsetDateTime, told: Option<Told>, chart: &mut Chart<'_>) {
    let Some(told) = told else { return };
    let Some(at) = read(&told.date) else { return };
    let off = (now - at).whole_seconds();
    let (by, away) = (&told.by, off.unsigned_abs());
    let where_to = if off > 0 { "ahead of" } else { "behind" };
    if away <= UNNOTICED {
        chart.ok("clock", "clock", format!("The clock agrees with that of {by}."));
        return;
    }
    let sentence = format!("The clock is {away} s {where_to} that of {by}.");
    let remedy = "Give the box a time server that it can reach (`timedatectl timesync-status`).";
    if away >= REFUSED {
        chart.failed("clock", "clock", sentence, remedy);
    } else {
        chart.warning("clock", "clock", sentence, remedy);
    }
}

/// An IMF-fixdate (RFC 9110 section 5.6.7).
fn read(date: &str) -> Option<OffsetDateTime> {
    let format = format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    PrimitiveDateTime::parse(date, format).ok().map(PrimitiveDateTime::assume_utc)
}

/// Seconds that nobody notices: the answer's way, and its whole seconds.
const UNNOTICED: u64 = 5;
/// AWS refuses signatures that are five minutes off (Signature Version 4).
const REFUSED: u64 = 300;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Finding, State};

    fn judged(seconds: i64) -> Vec<Finding> {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let at = read(date).expect("the RFC's own example");
        let told = Told { by: "10.20.0.13:443".to_owned(), date: date.to_owned() };
        let mut chart = Chart { findings: Vec::new(), tell: &mut |_| {} };
        check(at + time::Duration::seconds(seconds), Some(told), &mut chart);
        chart.findings
    }

    #[test]
    fn a_clock_is_judged_by_what_aws_makes_of_it() {
        let cases = [
            (0, State::Ok),
            (5, State::Ok),
            (-6, State::Warning),
            (299, State::Warning),
            (300, State::Failed),
            (-86_400, State::Failed),
        ];
        for (seconds, state) in cases {
            let found = judged(seconds);
            assert_eq!(found.first().map(|finding| finding.state), Some(state), "{seconds}");
        }
        assert!(judged(600).iter().all(|finding| finding.sentence.contains("600 s ahead of")));
        assert!(judged(-600).iter().all(|finding| finding.sentence.contains("600 s behind")));
    }

    #[test]
    fn a_time_that_is_none_says_nothing() {
        for date in ["", "yesterday", "Sun, 06 Nov 1994"] {
            assert_eq!(read(date), None, "{date}");
        }
    }
}
