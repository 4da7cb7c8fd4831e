//! `sluicegate doctor`: the whole path, checked with real packets.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Args;

use super::{ConfigFile, EXIT_DEGRADED, block_on, fail, load, print};
use crate::doctor::{self, Examination, Finding, State};

#[derive(Debug, Args)]
#[command(
    after_help = "Example: sluicegate doctor --json | jq '.findings[] | select(.state == \"failed\")'"
)]
pub(super) struct Options {
    #[command(flatten)]
    config: ConfigFile,
    /// Print one JSON document, at the end
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> ExitCode {
    let site = match load(&options.config.path) {
        Ok(site) => site,
        Err(code) => return code,
    };
    let paint = if std::io::stdout().is_terminal() { Paint::Colour } else { Paint::Plain };
    let json = options.json;
    let mut tell = move |finding: &Finding| {
        if !json {
            print(&line(finding, paint));
        }
    };
    let examination = match block_on(doctor::examine(&site, &mut tell)) {
        Ok(examination) => examination,
        Err(error) => return fail(&error, 1),
    };
    if json {
        match serde_json::to_string(&examination) {
            Ok(text) => print(&format!("{text}\n")),
            Err(error) => return fail(&error, 1),
        }
    } else {
        print(&summary(&examination));
    }
    if examination.healthy { ExitCode::SUCCESS } else { ExitCode::from(EXIT_DEGRADED) }
}

/// Whether a person looks at the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Paint {
    Colour,
    Plain,
}

fn line(finding: &Finding, paint: Paint) -> String {
    let (word, colour) = match finding.state {
        State::Ok => ("ok", "32"),
        State::Warning => ("warning", "33"),
        State::Failed => ("FAILED", "31"),
    };
    // Padded before it is dyed: escape sequences have no width.
    let word = format!("{word:<8}");
    let word = match paint {
        Paint::Colour => format!("\x1b[{colour}m{word}\x1b[0m"),
        Paint::Plain => word,
    };
    let mut text = format!("{word}{:<12}{}\n", finding.check, finding.sentence);
    if let Some(remedy) = &finding.remedy {
        let _ = writeln!(text, "{:20}-> {remedy}", "");
    }
    text
}

fn summary(examination: &Examination) -> String {
    let Examination { failed, warnings, findings, .. } = examination;
    let all = findings.len();
    match (failed, warnings) {
        (0, 0) => format!("\nHealthy: {all} checks, nothing to do.\n"),
        (0, _) => format!("\nHealthy: {all} checks, {warnings} warnings.\n"),
        _ => format!(
            "\nNot healthy: {failed} of {all} checks failed, {warnings} warnings. Begin with the \
             first that failed.\n"
        ),
    }
}
