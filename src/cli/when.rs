//! `--since`, `--until`: a time that is said as an age, as a moment, or as `today`.

use std::str::FromStr;

use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime, Time};

/// A time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Ago(Duration),
    At(OffsetDateTime),
    /// Midnight, UTC, as records have it.
    Today,
}

impl When {
    pub(super) fn at(self, now: OffsetDateTime) -> OffsetDateTime {
        match self {
            Self::Ago(age) => now.checked_sub(age).unwrap_or(OffsetDateTime::UNIX_EPOCH),
            Self::At(moment) => moment,
            Self::Today => now.replace_time(Time::MIDNIGHT),
        }
    }
}

impl FromStr for When {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "today" {
            return Ok(Self::Today);
        }
        if let Ok(moment) = OffsetDateTime::parse(text, &Rfc3339) {
            return Ok(Self::At(moment));
        }
        let seconds = match text.chars().last() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3_600,
            Some('d') => 86_400,
            Some('w') => 604_800,
            _ => return Err(EXPECTED),
        };
        let number = text.get(..text.len() - 1).unwrap_or_default();
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        let number: i64 = number.parse().ok().filter(|_| digits).ok_or(EXPECTED)?;
        number.checked_mul(seconds).map(|s| Self::Ago(Duration::seconds(s))).ok_or(EXPECTED)
    }
}

const EXPECTED: &str = "write an age (15m, 2h, 30d), a moment (2030-01-31T18:00:00Z) or today";

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn ages_moments_and_today() {
        let now = datetime!(2030-01-31 18:00:00 UTC);
        for (text, expected) in [
            ("15m", datetime!(2030-01-31 17:45:00 UTC)),
            ("2h", datetime!(2030-01-31 16:00:00 UTC)),
            ("30d", datetime!(2030-01-01 18:00:00 UTC)),
            ("today", datetime!(2030-01-31 00:00:00 UTC)),
            ("2030-01-30T19:00:00+01:00", datetime!(2030-01-30 18:00:00 UTC)),
            ("9000000000000000s", OffsetDateTime::UNIX_EPOCH),
        ] {
            assert_eq!(text.parse::<When>().map(|when| when.at(now)), Ok(expected), "{text}");
        }
        for text in ["", "d", "5", "-5m", "+5m", "1.5h", "5y", "5é", "yesterday", "2030-01-31"] {
            assert_eq!(text.parse::<When>(), Err(EXPECTED), "{text}");
        }
        assert_eq!("99999999999999999d".parse::<When>(), Err(EXPECTED));
    }
}
