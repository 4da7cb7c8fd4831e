//! `sluicegate audit stats`: how large the log is, how fast it grows, and where it ends.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::audit::query::{Place, Stats};
use crate::cli::forms::rfc3339;
use crate::cli::log::{Log, unreadable};
use crate::cli::{EXIT_NONE, print};

#[derive(Debug, Args)]
#[command(after_help = "Example: sluicegate audit stats --json | jq .newest.hash")]
pub(super) struct Options {
    #[command(flatten)]
    log: Log,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> ExitCode {
    let directory = options.log.directory();
    let stats = match Stats::of(&directory) {
        Ok(stats) => stats,
        Err(error) => return unreadable(&directory, &error),
    };
    if options.json {
        print(&format!("{}\n", json!(stats)));
    } else {
        print(&text(&stats));
    }
    if stats.records > 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NONE) }
}

fn text(stats: &Stats) -> String {
    let mut out = String::new();
    let Stats { segments, bytes, records, last_hour, .. } = stats;
    let _ = writeln!(out, "Records     {records}, {last_hour} of them in the last hour");
    let per_record = bytes.checked_div(*records).unwrap_or(0);
    let _ =
        writeln!(out, "Disk        {bytes} bytes in {segments} segments, {per_record} per record");
    let places =
        [("Oldest", &stats.oldest), ("Newest", &stats.newest), ("Checkpoint", &stats.checkpoint)];
    for (what, place) in places {
        if let Some(Place { seq, time, hash }) = place {
            let _ = writeln!(out, "{what:<11} {seq} of {}, sha256:{hash}", rfc3339(*time));
        }
    }
    out
}
