//! `sluicegate audit`: what the security team does with the log. Reads, and never changes it.

mod export;
mod stats;
mod top;

use std::process::ExitCode;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// What occurs most: devices, names, rules, reasons (exit 0: found, 1: none, 2: usage, or the log
    /// cannot be read)
    Top(top::Options),
    /// How large the log is, how fast it grows, and where it ends (exit 0: there are records, 1: none,
    /// 2: usage, or the log cannot be read)
    Stats(stats::Options),
    /// Give records out in the form of another tool (exit 0: found, 1: none, 2: usage, or the log
    /// cannot be read)
    Export(export::Options),
}

pub(super) fn run(options: &Options) -> ExitCode {
    match &options.action {
        Action::Top(options) => top::run(options),
        Action::Stats(options) => stats::run(options),
        Action::Export(options) => export::run(options),
    }
}
