//! `sluicegate canary`: tries, from the devices' side, what must never work.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::{ConfigFile, block_on, fail, load, note, print};
use crate::admin::{self, AskError, Question};
use crate::canary::{self, CanaryResult, Examination, Outcome};

#[derive(Debug, Args)]
#[command(after_help = "Example: ip netns exec sluicegate-canary sluicegate canary --report\n\n\
                  It must run in a network namespace behind a device interface: appliance/canary.")]
pub(super) struct Options {
    #[command(flatten)]
    config: ConfigFile,
    /// Tell the running gate, which records it and, by its setting, closes
    #[arg(long)]
    report: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> ExitCode {
    let site = match load(&options.config.path) {
        Ok(site) => site,
        Err(code) => return code,
    };
    let examination = match block_on(canary::examine(&site)) {
        Ok(Ok(examination)) => examination,
        Ok(Err(error)) => return fail(&error, EXIT_UNTRIED),
        Err(error) => return fail(&error, EXIT_UNTRIED),
    };
    if options.json {
        match serde_json::to_string(&examination) {
            Ok(text) => print(&format!("{text}\n")),
            Err(error) => return fail(&error, EXIT_UNTRIED),
        }
    } else {
        print(&text(&examination));
    }
    let reported = match Wanted::of(options, &examination) {
        Wanted::Report(result) => report(&site.admin.socket, result),
        Wanted::Nothing => Ok(()),
    };
    if let Err(error) = &reported {
        note(&format!("sluicegate: the gate was not told: {error}"));
    }
    if examination.leaked {
        return ExitCode::from(EXIT_LEAK);
    }
    if !examination.is_complete() {
        return fail(&"not every way could be tried, so nothing is proven", EXIT_UNTRIED);
    }
    if examination.answered == 0 {
        note(
            "sluicegate: nothing answered at all: make sure that this namespace's way out is the box",
        );
    }
    if reported.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_UNTRIED) }
}

/// What the gate is to hear.
enum Wanted {
    Report(CanaryResult),
    Nothing,
}

impl Wanted {
    /// A leak always. That there is none only where every way was tried: the gate takes silence for
    /// a canary that does not work.
    fn of(options: &Options, examination: &Examination) -> Self {
        let says_something = examination.leaked || examination.is_complete();
        if options.report && says_something {
            Self::Report(examination.result())
        } else {
            Self::Nothing
        }
    }
}

fn report(socket: &Path, result: CanaryResult) -> Result<(), AskError> {
    let asked = block_on(admin::ask(socket, &Question::Canary(result)));
    let answer = asked.map_err(|error| AskError::NoAnswer(error.to_string()))??;
    if let Some(error) = answer.get("error").and_then(Value::as_str) {
        return Err(AskError::NoAnswer(error.to_owned()));
    }
    if answer.get("gate").and_then(Value::as_str) == Some("closed") {
        note("sluicegate: the gate is closed until it is restarted");
    }
    Ok(())
}

fn text(examination: &Examination) -> String {
    let mut text = String::new();
    for attempt in &examination.attempts {
        let word = match attempt.outcome {
            Outcome::Leaked => "LEAKED",
            Outcome::Refused => "refused",
            Outcome::Silent => "silent",
            Outcome::Untried => "untried",
        };
        let (way, target) = (attempt.way.as_str(), attempt.target.to_string());
        let _ = writeln!(text, "{word:<8}{way:<11}{target:<28}{}", attempt.detail);
    }
    let Examination { tried, answered, attempts, .. } = examination;
    let leaks = attempts.iter().filter(|attempt| attempt.outcome == Outcome::Leaked).count();
    let _ = match leaks {
        0 => writeln!(
            text,
            "\nNothing got out: {tried} attempts, {answered} refused with an answer."
        ),
        _ => writeln!(text, "\nLEAK: {leaks} of {tried} attempts got out past the gate."),
    };
    text
}

/// Nothing could be tried or told.
const EXIT_UNTRIED: u8 = 1;
/// Something got out.
const EXIT_LEAK: u8 = 5;
