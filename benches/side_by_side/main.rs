//! `benches/compare`: Sluicegate beside its peers, in one run on one machine.
//!
//! Builds the lab, puts one subject after the other into the box, round by round, and lets the same
//! clients send the same traffic through each. What is compared are ratios of neighbours in one
//! round; their median over the rounds is what the targets are about. See `benches/README.md`.

mod drive;
mod figures;
mod load;
mod null;
mod plan;
mod probe;
mod report;
mod rounds;
mod sample;
mod stage;
mod subjects;
mod targets;

#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "it is given names of a usual length"
)]
#[path = "../../tests/support/client_hello.rs"]
mod client_hello;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use sluicegate::lab::{LabError, inside};

use plan::{Subject, Variant, Workload};

/// Compare Sluicegate with its peers on this machine.
#[derive(Debug, Parser)]
#[command(name = "compare", max_term_width = 100, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    options: Options,
}

/// What is compared, and how long.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Only these workloads
    #[arg(long, value_delimiter = ',', value_name = "WORKLOAD")]
    only: Vec<Workload>,
    /// Only these subjects
    #[arg(long, value_delimiter = ',', value_name = "SUBJECT")]
    subjects: Vec<Subject>,
    /// Only these variants of the wires
    #[arg(long, value_delimiter = ',', value_name = "VARIANT")]
    variants: Vec<Variant>,
    /// How often every subject has its turn; idle and storm have at most three
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long one measurement takes
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Where the figures of every round are written
    #[arg(long, default_value = "compare.json")]
    json: PathBuf,
    /// The gate's program
    #[arg(long, default_value = env!("CARGO_BIN_EXE_sluicegate"), hide_default_value = true)]
    gate: PathBuf,
}

/// Parts of the comparison that run as processes of their own.
#[derive(Debug, Subcommand)]
enum Part {
    /// Make traffic, or answer it
    #[command(hide = true)]
    Load(load::Load),
    /// A relay that decides nothing
    #[command(hide = true)]
    Null(null::Options),
}

/// Why the comparison, or a part of it, did not come about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The lab.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// A file, a pipe or a process.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Anything else, in one sentence.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    /// Names what was tried when the system said no.
    pub(crate) fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io { what: what.into(), source }
    }
}

fn main() -> ExitCode {
    // `cargo bench` tells every benchmark that it is one.
    let cli = Cli::parse_from(std::env::args_os().filter(|argument| argument != "--bench"));
    let ended = match &cli.part {
        Some(Part::Load(load)) => return load::run(load),
        Some(Part::Null(options)) => {
            null::run(options).map_err(|error| Failure::io("relay", error))
        }
        None if inside::is_inside() => compare(&cli.options),
        None => match inside::reexec_self(None) {
            Ok(code) => return ExitCode::from(code),
            Err(error) => Err(error.into()),
        },
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs all rounds, prints the tables and writes the figures.
fn compare(options: &Options) -> Result<(), Failure> {
    let records = rounds::run(options)?;
    print!("{}", report::tables(&records, &targets::judge(&records)));
    Ok(())
}

impl Options {
    fn length(&self) -> Duration {
        Duration::try_from_secs_f64(self.seconds).unwrap_or(Duration::from_secs(2))
    }
}
