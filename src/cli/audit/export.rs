//! `sluicegate audit export`: records in the form of other tools.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::audit::query::{AnswerError, Plan, Tally};
use crate::cli::filters::Filters;
use crate::cli::flows::found;
use crate::cli::forms::Form;
use crate::cli::log::{Log, unanswered};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    sluicegate audit export --format ocsf-1.3 --since today > flows.ndjson\n  \
    sluicegate audit export --format csv --denied --since 7d > refused.csv")]
pub(super) struct Options {
    #[command(flatten)]
    log: Log,
    #[command(flatten)]
    filters: Filters,
    /// The form; ndjson is the stored line, byte for byte
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Format::Ndjson)]
    format: Format,
}

/// What `--format` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Ndjson,
    Csv,
    Eve,
    Ecs,
    #[value(name = "ocsf-1.3")]
    Ocsf13,
}

pub(super) fn run(options: &Options) -> ExitCode {
    let directory = options.log.directory();
    match answer(options, &directory) {
        Ok(tally) => found(tally),
        Err(error) => unanswered(&directory, &error),
    }
}

fn answer(options: &Options, directory: &Path) -> Result<Tally, AnswerError> {
    let query = options.filters.query();
    let plan = Plan::new(directory, &query)?;
    let form = match options.format {
        Format::Ndjson => Form::Stored,
        Format::Csv => Form::Csv,
        Format::Eve => Form::Eve,
        Format::Ecs => Form::Ecs,
        Format::Ocsf13 => Form::Ocsf13,
    };
    let mut out = BufWriter::new(io::stdout().lock());
    out.write_all(form.head().as_bytes())?;
    plan.write(&query, 0, |text, line, view| form.append(text, line, view), &mut out)
}
