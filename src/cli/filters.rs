//! Filters: which records are meant.
//!
//! `--not` turns the filter behind it around, so the order of the arguments matters; for that the
//! list of filters is a table here, and not the fields of a struct.

use std::collections::BTreeSet;

use clap::builder::ValueParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use time::OffsetDateTime;

use super::when::When;
use crate::audit::query::{Compare, Glob, Order, Query, Sense, Term};
use crate::audit::view::{Sort, Verdict};

/// Which records are meant.
#[derive(Debug)]
pub(super) struct Filters {
    terms: Vec<(Sense, Term)>,
    since: Option<When>,
    until: Option<When>,
}

impl Filters {
    /// The query, with ages turned into times.
    pub(super) fn query(&self) -> Query {
        let now = OffsetDateTime::now_utc();
        let ms = |when: &When| {
            let ms = when.at(now).unix_timestamp_nanos().div_euclid(1_000_000);
            u64::try_from(ms).unwrap_or_default()
        };
        Query::new(self.terms.iter().cloned())
            .since(self.since.as_ref().map(ms))
            .until(self.until.as_ref().map(ms))
    }
}

impl Args for Filters {
    fn augment_args(command: Command) -> Command {
        let when = |name: &'static str, help: &'static str| {
            let parser = ValueParser::from(|text: &str| text.parse::<When>());
            arg(name, help).value_name("WHEN").value_parser(parser)
        };
        let not = arg(NOT, "Turn the next filter around")
            .num_args(0)
            .default_missing_value("true")
            .action(ArgAction::Append);
        let mut command = command
            .arg(when(SINCE, "From when on: 15m, 2h, 30d, an RFC 3339 date-time, or today (UTC)"))
            .arg(when(UNTIL, "Until when, written like --since"));
        for filter in FILTERS {
            let parse = filter.parse;
            let valued = arg(filter.name, filter.help)
                .value_name(filter.value)
                .value_parser(ValueParser::from(move |text: &str| parse(text)))
                .action(ArgAction::Append);
            command = command.arg(valued);
        }
        for (name, help, _) in SHORTHANDS {
            let flag = arg(name, help).num_args(0).default_missing_value("true");
            command = command.arg(flag.action(ArgAction::Append));
        }
        command.arg(not)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Filters {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut nots: BTreeSet<usize> = given(matches, NOT).collect();
        // Of a filter with a value, the value's place is known; the name stands right before it.
        let mut sense = |place: usize, width: usize| {
            let before = place.checked_sub(width);
            match before.is_some_and(|before| nots.remove(&before)) {
                true => Sense::IsNot,
                false => Sense::Is,
            }
        };
        let mut terms = Vec::new();
        for filter in FILTERS {
            let values = matches.get_many::<Term>(filter.name).into_iter().flatten();
            for (place, term) in given(matches, filter.name).zip(values) {
                terms.push((sense(place, 2), term.clone()));
            }
        }
        for (name, _, verdicts) in SHORTHANDS {
            for place in given(matches, name) {
                let sense = sense(place, 2);
                terms.extend(verdicts.iter().map(|verdict| (sense, Term::Verdict(*verdict))));
            }
        }
        if !nots.is_empty() {
            let message = "--not needs a filter right behind it, and not --since or --until\n";
            return Err(clap::Error::raw(ErrorKind::MissingRequiredArgument, message));
        }
        let when = |name| matches.get_one::<When>(name).copied();
        Ok(Self { terms, since: when(SINCE), until: when(UNTIL) })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// A filter with a value.
struct Filter {
    name: &'static str,
    value: &'static str,
    help: &'static str,
    parse: fn(&str) -> Result<Term, String>,
}

fn arg(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).help(help).help_heading(HEADING)
}

/// The places at which an argument was given, and not where a default stands for it.
fn given<'m>(matches: &'m ArgMatches, name: &str) -> impl Iterator<Item = usize> + 'm {
    matches.indices_of(name).into_iter().flatten()
}

fn verdict(text: &str) -> Result<Term, String> {
    let all = [Verdict::Allow, Verdict::Deny, Verdict::Learn, Verdict::Error];
    let found = all.into_iter().find(|verdict| verdict.as_str() == text);
    found.map(Term::Verdict).ok_or_else(|| "write allow, deny, learn or error".to_owned())
}

fn sort(text: &str) -> Result<Term, String> {
    let all = [Sort::Flow, Sort::Dns, Sort::Packet, Sort::System];
    let found = all.into_iter().find(|sort| sort.as_str() == text);
    found.map(Term::Sort).ok_or_else(|| "write flow, dns, packet or system".to_owned())
}

fn net(text: &str) -> Result<ipnet::IpNet, String> {
    let address = || text.parse().ok().map(|ip: std::net::IpAddr| ip.to_canonical().into());
    let net = text.parse().ok().or_else(address);
    net.ok_or_else(|| "write an address (10.10.3.7) or a network (10.10.0.0/16)".to_owned())
}

fn eni(text: &str) -> Result<Term, String> {
    match net(text) {
        Ok(net) => Ok(Term::EniAddress(net)),
        Err(_) if text.starts_with("eni-") => Ok(Term::EniId(Glob::new(text))),
        Err(error) => Err(format!("{error}, or an id (eni-…)")),
    }
}

fn sequence(text: &str) -> Result<Term, String> {
    let expected = || "write first:last, such as 100:200, 100: or :200".to_owned();
    let number = |text: &str, none: u64| match text {
        "" => Ok(none),
        text => digits(text).ok_or_else(expected),
    };
    let (first, last) = text.split_once(':').ok_or_else(expected)?;
    Ok(Term::Sequence(number(first, 0)?, number(last, u64::MAX)?))
}

fn compare(text: &str, units: &[(&str, u64)], expected: &str) -> Result<Compare, String> {
    let orders = [
        (">=", Order::AtLeast),
        ("<=", Order::AtMost),
        (">", Order::Greater),
        ("<", Order::Less),
        ("=", Order::Equal),
    ];
    let order =
        orders.into_iter().find_map(|(sign, order)| Some((order, text.strip_prefix(sign)?)));
    let (order, number) = order.unwrap_or((Order::Equal, text));
    let number = number.trim();
    let unit = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    let (number, unit) = number.split_at(unit);
    let factor = units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let with = digits(number).zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    with.map(|with| Compare { order, with }).ok_or_else(|| expected.to_owned())
}

fn digits(text: &str) -> Option<u64> {
    let all_digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| all_digits)
}

const SINCE: &str = "since";
const UNTIL: &str = "until";
const NOT: &str = "not";
const HEADING: &str = "Filters (repeated: either; different: both)";

const FILTERS: &[Filter] = &[
    Filter {
        name: "device",
        value: "GLOB",
        help: "The device's name, MAC or address",
        parse: |text| Ok(Term::Device(Glob::new(text))),
    },
    Filter {
        name: "mac",
        value: "MAC",
        help: "The device's MAC address",
        parse: |text| text.parse().map(Term::Mac).map_err(|_| "write 00:00:5e:00:53:07".to_owned()),
    },
    Filter {
        name: "src",
        value: "CIDR",
        help: "The device's address or network",
        parse: |text| net(text).map(Term::Source),
    },
    Filter {
        name: "dst",
        value: "CIDR",
        help: "The address that the device dialled, or its network",
        parse: |text| net(text).map(Term::Destination),
    },
    Filter {
        name: "eni",
        value: "CIDR|ID",
        help: "The endpoint network interface that was used",
        parse: eni,
    },
    Filter {
        name: "name",
        value: "GLOB",
        help: "The name that the device asked for",
        parse: |text| Ok(Term::Name(Glob::new(&text.to_lowercase()))),
    },
    Filter {
        name: "port",
        value: "PORT",
        help: "The port that the device dialled",
        parse: |text| text.parse().map(Term::Port).map_err(|_| "write 0 to 65535".to_owned()),
    },
    Filter {
        name: "verdict",
        value: "VERDICT",
        help: "allow, deny, learn (would be refused) or error (allowed, but failed)",
        parse: verdict,
    },
    Filter {
        name: "reason",
        value: "GLOB",
        help: "Why it was or would be refused, or how it ended",
        parse: |text| Ok(Term::Reason(Glob::new(text))),
    },
    Filter {
        name: "rule",
        value: "GLOB",
        help: "The rule that decided",
        parse: |text| Ok(Term::Rule(Glob::new(text))),
    },
    Filter {
        name: "ja4",
        value: "PREFIX",
        help: "The beginning of the device's JA4 fingerprint",
        parse: |text| Ok(Term::Ja4(text.to_owned())),
    },
    Filter {
        name: "alpn",
        value: "PROTOCOL",
        help: "An application protocol that the device offered",
        parse: |text| Ok(Term::Alpn(text.to_owned())),
    },
    Filter {
        name: "bytes",
        value: "COMPARE",
        help: "Bytes moved, such as '>1M' (k, M, G; Ki, Mi, Gi)",
        parse: |text| {
            compare(text, BYTES, "write a number of bytes, such as '>1M'").map(Term::Bytes)
        },
    },
    Filter {
        name: "duration",
        value: "COMPARE",
        help: "How long it took, such as '>1h' (ms, s, m, h, d)",
        parse: |text| compare(text, TIMES, "write a time, such as '>1h'").map(Term::Duration),
    },
    Filter {
        name: "flow",
        value: "UID",
        help: "All records of one flow",
        parse: |text| Ok(Term::Flow(text.to_ascii_lowercase())),
    },
    Filter {
        name: "seq",
        value: "A:B",
        help: "Sequence numbers, both included; either may be left out",
        parse: sequence,
    },
    Filter {
        name: "type",
        value: "TYPE",
        help: "flow, dns, packet or system [default: flow and packet]",
        parse: sort,
    },
];

const SHORTHANDS: &[(&str, &str, &[Verdict])] = &[
    ("denied", "What was refused: --verdict deny", &[Verdict::Deny]),
    (
        "allowed",
        "What was let through: --verdict allow --verdict learn",
        &[Verdict::Allow, Verdict::Learn],
    ),
];

const BYTES: &[(&str, u64)] = &[
    ("", 1),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
];
/// In ms.
const TIMES: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Probe {
        #[command(flatten)]
        filters: Filters,
    }

    fn terms(line: &str) -> Result<Vec<(Sense, Term)>, String> {
        let words = std::iter::once("probe").chain(line.split(' ').filter(|word| !word.is_empty()));
        Probe::try_parse_from(words)
            .map(|probe| probe.filters.terms)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn not_turns_the_next_filter_around_and_no_other() {
        use Sense::{Is, IsNot};
        let port = |port| Term::Port(port);
        for (line, expected) in [
            ("", vec![]),
            ("--port 1", vec![(Is, port(1))]),
            ("--not --port 1", vec![(IsNot, port(1))]),
            ("--not --port=1", vec![(IsNot, port(1))]),
            (
                "--port 1 --not --port 2 --port 3",
                vec![(Is, port(1)), (IsNot, port(2)), (Is, port(3))],
            ),
            ("--denied --not --port 1", vec![(IsNot, port(1)), (Is, Term::Verdict(Verdict::Deny))]),
            ("--not --denied --port 1", vec![(Is, port(1)), (IsNot, Term::Verdict(Verdict::Deny))]),
            ("--not --denied", vec![(IsNot, Term::Verdict(Verdict::Deny))]),
        ] {
            assert_eq!(terms(line), Ok(expected), "{line}");
        }
        for line in ["--not", "--port 1 --not", "--not --since 1h", "--not --not --port 1"] {
            let error = terms(line).expect_err(line);
            assert!(error.contains("--not needs a filter"), "{line}: {error}");
        }
    }

    #[test]
    fn values_are_checked() {
        let bytes = |order, with| Term::Bytes(Compare { order, with });
        for (line, expected) in [
            ("--bytes >1M", bytes(Order::Greater, 1_000_000)),
            ("--bytes <=2Ki", bytes(Order::AtMost, 2048)),
            ("--bytes 7", bytes(Order::Equal, 7)),
            ("--seq 5:", Term::Sequence(5, u64::MAX)),
            ("--seq :5", Term::Sequence(0, 5)),
            ("--src ::ffff:10.0.0.1", Term::Source("10.0.0.1/32".parse().expect("a network"))),
            ("--name *.Example", Term::Name(Glob::new("*.example"))),
            ("--eni eni-0*", Term::EniId(Glob::new("eni-0*"))),
        ] {
            assert_eq!(terms(line), Ok(vec![(Sense::Is, expected)]), "{line}");
        }
        for line in [
            "--bytes M",
            "--bytes >-1",
            "--bytes 18446744073709551615k",
            "--duration >5",
            "--seq 5",
            "--seq a:b",
            "--src 10.0.0.0/33",
            "--eni x",
            "--port 65536",
            "--mac 1",
            "--verdict no",
            "--type tcp",
            "--since yesterday",
        ] {
            assert!(terms(line).is_err(), "{line}");
        }
    }
}
