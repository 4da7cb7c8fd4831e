//! `sluicegate policy diff`: recorded flows, judged again under another configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::flows::{Flow, Recorded};
use super::propose::{self, line};
use super::seen::Span;
use super::{MOST_GROUPS, Records, flows, moment, note_unread, unreadable};
use crate::cli::when::When;
use crate::cli::{load, print};
use crate::name::ServerName;
use crate::policy::{Asking, Policy};
use crate::reason::Reason;

#[derive(Debug, Args)]
#[command(
    after_help = "Learn mode of FILE plays no part: the verdicts are those that it enforces.\n\n\
    Examples:\n  \
    sluicegate policy diff new.toml\n  \
    sluicegate policy diff new.toml --since 2h --json | jq '.changes[] | select(.to == \"deny\")'"
)]
pub(super) struct Options {
    /// The other configuration file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    records: Records,
    /// From when on: 15m, 2h, 30d, an RFC 3339 date-time, or today (UTC)
    #[arg(long, value_name = "WHEN", default_value = "30d")]
    since: When,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> Result<(), ExitCode> {
    let policy = Policy::compile(&load(&options.file)?);
    let current = match &options.records.dir {
        Some(_) => None,
        None => options.records.site()?,
    };
    let directory = options.records.directory(current.as_ref())?;
    let since = options.since.at(OffsetDateTime::now_utc());
    let mut changes = Changes::default();
    let mut unread = flows::each(&directory, since, |flow| changes.judge(&policy, flow))
        .map_err(unreadable(&directory))?;
    unread.groups = changes.left_out;
    note_unread(unread);
    if options.json {
        print(&format!("{}\n", changes.document(since)));
    } else {
        print(&changes.text(since));
    }
    Ok(())
}

/// A verdict as people read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Said {
    Allow,
    /// Let through by learn mode, though it would be refused.
    Learn(Reason),
    Deny(Reason),
}

impl Said {
    fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Learn(_) => "learn",
            Self::Deny(_) => "deny",
        }
    }

    fn reason(self) -> Option<Reason> {
        match self {
            Self::Allow => None,
            Self::Learn(reason) | Self::Deny(reason) => Some(reason),
        }
    }

    fn text(self) -> String {
        match self {
            Self::Allow => "allow".to_owned(),
            Self::Learn(reason) => format!("learn (would_refuse_{reason})"),
            Self::Deny(reason) => format!("deny ({reason})"),
        }
    }
}

/// What is counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    device: String,
    name: ServerName,
    port: u16,
    was: Said,
    now: Said,
}

#[derive(Debug)]
struct Change {
    span: Span,
    rule: String,
    remedy: Option<String>,
}

#[derive(Debug, Default)]
struct Changes {
    judged: u64,
    not_judged: u64,
    changed: u64,
    left_out: u64,
    groups: BTreeMap<Group, Change>,
}

impl Changes {
    fn judge(&mut self, policy: &Policy, flow: Flow) {
        let was = match flow.verdict {
            Recorded::Allowed => Said::Allow,
            // What learn mode let on and resolution refused did not get through either.
            Recorded::Learnt(reason) if flow.behind.is_some() => Said::Deny(reason),
            Recorded::Learnt(reason) => Said::Learn(reason),
            Recorded::Denied(reason) => Said::Deny(reason),
            Recorded::Contradiction(_) => Said::Deny(Reason::DeviceNotAllowed),
            Recorded::NotJudged(_) => return self.not_judged += 1,
        };
        let device = flow.device.label();
        let Some(name) = flow.name else { return self.not_judged += 1 };
        self.judged += 1;
        let asking = Asking { address: flow.device.address, mac: flow.device.mac };
        let (now, rule, remedy) = match policy.judge(asking, &name, flow.port).outcome {
            Ok(grant) => (Said::Allow, grant.rule().to_string(), None),
            Err(denial) => (Said::Deny(denial.reason), denial.rule().to_string(), denial.remedy()),
        };
        if was.word() == now.word() {
            return;
        }
        self.changed += 1;
        let group = Group { device, name, port: flow.port, was, now };
        if self.groups.len() >= MOST_GROUPS && !self.groups.contains_key(&group) {
            self.left_out += 1;
            return;
        }
        let new = || Change { span: Span::new(flow.at), rule, remedy };
        self.groups.entry(group).or_insert_with(new).span.add(flow.at);
    }

    fn text(&self, since: OffsetDateTime) -> String {
        let mut out = String::new();
        let mut device = None;
        for (group, change) in &self.groups {
            if device != Some(&group.device) {
                line(&mut out, format_args!("{}", group.device.escape_debug()));
                device = Some(&group.device);
            }
            let (was, now) = (group.was.text(), group.now.text());
            let count = propose::flows(change.span.flows);
            let (first, last) = (moment(change.span.first), moment(change.span.last));
            line(&mut out, format_args!("  {}:{}: {was} -> {now}", group.name, group.port));
            line(
                &mut out,
                format_args!("    {count}, {first} to {last}, by rule \"{}\"", change.rule),
            );
            if let Some(remedy) = &change.remedy {
                line(&mut out, format_args!("    -> {remedy}"));
            }
        }
        let all = propose::flows(self.judged);
        line(
            &mut out,
            format_args!(
                "{} of {all} since {} would get another verdict ({} had no verdict by rules)",
                self.changed,
                moment(since),
                self.not_judged
            ),
        );
        out
    }

    fn document(&self, since: OffsetDateTime) -> Value {
        let changes: Vec<Value> = self
            .groups
            .iter()
            .map(|(group, change)| {
                json!({
                    "device": group.device,
                    "name": group.name,
                    "port": group.port,
                    "from": group.was.word(),
                    "from_reason": group.was.reason(),
                    "to": group.now.word(),
                    "to_reason": group.now.reason(),
                    "rule": change.rule,
                    "remedy": change.remedy,
                    "flows": change.span.flows,
                    "first": moment(change.span.first),
                    "last": moment(change.span.last),
                })
            })
            .collect();
        json!({
            "since": moment(since),
            "flows": self.judged,
            "not_judged": self.not_judged,
            "changed": self.changed,
            "left_out": self.left_out,
            "changes": changes,
        })
    }
}
