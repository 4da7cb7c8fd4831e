//! `sluicegate audit top`: what occurs most, counted exactly.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::audit::query::Plan;
use crate::audit::view::{Verdict, View};
use crate::cli::filters::Filters;
use crate::cli::flows::found;
use crate::cli::forms::visible;
use crate::cli::log::{Log, unreadable};
use crate::cli::{note, print};

#[derive(Debug, Args)]
#[command(
    after_help = "A flow counts once, by its first record; its bytes are those of its last one, \
    so a flow\nthat is still open has none yet.\n\n\
    Examples:\n  \
    sluicegate audit top name --by denies --since 24h\n  \
    sluicegate audit top device --by bytes --json | jq '.rows[0]'"
)]
pub(super) struct Options {
    /// What to count
    #[arg(value_name = "WHAT", value_enum)]
    what: What,
    /// What to count it by
    #[arg(long, value_name = "BY", value_enum, default_value_t = By::Flows)]
    by: By,
    /// How many to show
    #[arg(short = 'n', value_name = "N", default_value_t = 20)]
    number: usize,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    log: Log,
    #[command(flatten)]
    filters: Filters,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    Device,
    Name,
    Rule,
    Reason,
    Eni,
    Ja4,
    Port,
}

/// What it is counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    Flows,
    Bytes,
    Denies,
}

/// Of one key.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    flows: u64,
    bytes: u64,
    denies: u64,
}

/// Counts by key, of so many keys at most.
#[derive(Debug, Default)]
struct Counts {
    by_key: HashMap<String, Count>,
    /// What belongs to still more keys.
    others: Count,
}

pub(super) fn run(options: &Options) -> ExitCode {
    let directory = options.log.directory();
    let query = options.filters.query();
    let folded = Plan::new(&directory, &query).and_then(|plan| {
        plan.fold(&query, Counts::default, |counts, view| counts.add(options.what, view))
    });
    let (parts, tally) = match folded {
        Ok(folded) => folded,
        Err(error) => return unreadable(&directory, &error),
    };
    let mut all = Counts::default();
    parts.into_iter().for_each(|part| all.join(part));
    let mut rows: Vec<(String, Count)> = std::mem::take(&mut all.by_key).into_iter().collect();
    rows.retain(|(_, count)| count.of(options.by) > 0);
    rows.sort_by(|a, b| {
        (Reverse(a.1.of(options.by)), &a.0).cmp(&(Reverse(b.1.of(options.by)), &b.0))
    });
    let keys = rows.len();
    rows.truncate(options.number);
    if options.json {
        print(&document(options, &rows, keys, all.others));
    } else {
        print(&table(&rows));
    }
    let others = all.others.of(options.by);
    if others > 0 {
        note(&format!(
            "there are more than {MOST_KEYS} different ones: {others} were not told apart, and may be \
             missing above"
        ));
    }
    found(tally)
}

impl Counts {
    fn add(&mut self, what: What, view: &View<'_>) {
        let count = Count::one(view);
        if count.is_nothing() {
            return;
        }
        let key = what.key(view);
        match self.by_key.get_mut(&*key) {
            Some(known) => known.join(count),
            None => self.put(key.into_owned(), count),
        }
    }

    fn put(&mut self, key: String, count: Count) {
        if let Some(known) = self.by_key.get_mut(&key) {
            known.join(count);
        } else if self.by_key.len() < MOST_KEYS {
            self.by_key.insert(key, count);
        } else {
            self.others.join(count);
        }
    }

    fn join(&mut self, other: Self) {
        self.others.join(other.others);
        for (key, count) in other.by_key {
            self.put(key, count);
        }
    }
}

impl Count {
    fn one(view: &View<'_>) -> Self {
        let denied = view.verdict() == Some(Verdict::Deny);
        Self {
            flows: if view.ends() || view.goes_on() { 0 } else { view.weight() },
            bytes: if view.ends() { view.bytes().unwrap_or(0) } else { 0 },
            denies: if denied { view.weight() } else { 0 },
        }
    }

    fn is_nothing(self) -> bool {
        self.flows == 0 && self.bytes == 0 && self.denies == 0
    }

    fn of(self, by: By) -> u64 {
        match by {
            By::Flows => self.flows,
            By::Bytes => self.bytes,
            By::Denies => self.denies,
        }
    }

    fn join(&mut self, other: Self) {
        self.flows = self.flows.saturating_add(other.flows);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.denies = self.denies.saturating_add(other.denies);
    }
}

impl What {
    fn key<'v>(self, view: &'v View<'_>) -> std::borrow::Cow<'v, str> {
        let source = &view.src_endpoint;
        let number = |number: Option<String>| number.unwrap_or_else(|| NONE.to_owned()).into();
        let text = match self {
            Self::Device => match (&source.name, &source.mac) {
                (Some(name), _) => Some(&**name),
                (None, Some(mac)) => Some(&**mac),
                (None, None) => return number(source.ip.map(|ip| ip.to_string())),
            },
            Self::Name => view.name(),
            Self::Rule => view.rule(),
            Self::Reason => Some(&*view.status_code),
            Self::Eni => match view.eni().map(|eni| (&eni.interface_uid, eni.ip)) {
                Some((Some(id), _)) => Some(&**id),
                eni => return number(eni.map(|(_, ip)| ip.to_string())),
            },
            Self::Ja4 => view.ja4(),
            Self::Port => return number(view.dst_endpoint.port.map(|port| port.to_string())),
        };
        text.unwrap_or(NONE).into()
    }
}

fn table(rows: &[(String, Count)]) -> String {
    let mut out = String::new();
    if !rows.is_empty() {
        let _ = writeln!(out, "{:>12} {:>12} {:>18}  ", "FLOWS", "DENIES", "BYTES");
    }
    for (key, count) in rows {
        let Count { flows, bytes, denies } = count;
        let _ = writeln!(out, "{flows:>12} {denies:>12} {bytes:>18}  {}", visible(key));
    }
    out
}

fn document(options: &Options, rows: &[(String, Count)], keys: usize, others: Count) -> String {
    let counted = |count: &Count| json!({ "flows": count.flows, "bytes": count.bytes, "denies": count.denies });
    let rows: Vec<_> = rows
        .iter()
        .map(|(key, count)| {
            let mut row = counted(count);
            if let Some(row) = row.as_object_mut() {
                row.insert("key".to_owned(), key.as_str().into());
            }
            row
        })
        .collect();
    let name = |value: &dyn Fn() -> Option<clap::builder::PossibleValue>| {
        value().map(|value| value.get_name().to_owned())
    };
    let document = json!({
        "what": name(&|| options.what.to_possible_value()),
        "by": name(&|| options.by.to_possible_value()),
        "keys": keys,
        "rows": rows,
        "others": counted(&others),
    });
    format!("{document}\n")
}

/// What devices ask for must not fill the memory.
const MOST_KEYS: usize = 100_000;
/// The key of records that have none.
const NONE: &str = "-";
