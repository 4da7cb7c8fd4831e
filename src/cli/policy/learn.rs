//! `sluicegate policy learn`: what devices ask for, as rules to review.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::endpoints::Places;
use super::propose::{self, Entry, line};
use super::seen::Seen;
use super::{Records, flows, moment, note_unread, unreadable};
use crate::cli::print;
use crate::cli::when::When;
use crate::config::Site;

#[derive(Debug, Args)]
#[command(after_help = "Nothing is put in force: review the output, then copy what is right.\n\n\
    Examples:\n  \
    sluicegate policy learn --since 7d > proposed.toml\n  \
    sluicegate policy learn --dir ./audit --since today --json | jq '.devices[].names'")]
pub(super) struct Options {
    #[command(flatten)]
    records: Records,
    /// From when on: 15m, 2h, 30d, an RFC 3339 date-time, or today (UTC)
    #[arg(long, value_name = "WHEN", default_value = "7d")]
    since: When,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> Result<(), ExitCode> {
    let site = options.records.site()?;
    let directory = options.records.directory(site.as_ref())?;
    let since = options.since.at(OffsetDateTime::now_utc());
    let mut seen = Seen::default();
    let mut unread =
        flows::each(&directory, since, |flow| seen.add(flow)).map_err(unreadable(&directory))?;
    unread.groups = seen.left_out;
    note_unread(unread);
    let places = Places::find(&seen.names(), site.as_ref());
    if options.json {
        print(&format!("{}\n", document(&seen, &places, site.as_ref(), since)));
    } else {
        print(&text(&seen, &places, site.as_ref(), since));
    }
    Ok(())
}

fn text(seen: &Seen, places: &Places, site: Option<&Site>, since: OffsetDateTime) -> String {
    let mut out = String::new();
    let what = propose::flows(seen.flows);
    line(&mut out, format_args!("# Proposed from {what} since {}.", moment(since)));
    line(
        &mut out,
        format_args!(
            "# To review: a device is allowed whole endpoints, and what it did not do in this time \
             is not here."
        ),
    );
    propose::tables_toml(&places.new, &mut out);
    for (label, device) in &seen.devices {
        let entry = Entry::of(label, device, places, site);
        propose::device_toml(label, device, places, &entry, &mut out);
    }
    out
}

fn document(seen: &Seen, places: &Places, site: Option<&Site>, since: OffsetDateTime) -> Value {
    let devices: Vec<Value> = seen
        .devices
        .iter()
        .map(|(label, device)| {
            let entry = Entry::of(label, device, places, site);
            propose::device_json(label, device, places, &entry)
        })
        .collect();
    json!({
        "since": moment(since),
        "flows": seen.flows,
        "left_out": seen.left_out,
        "endpoints": propose::tables_json(&places.new),
        "devices": devices,
    })
}
