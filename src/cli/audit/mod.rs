//! `sluicegate audit`: what the security team does with the log. Reads, and never changes it.

mod advice;
mod export;
mod key;
mod stats;
mod top;
mod verify;

use std::process::ExitCode;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Prove that nothing was changed or cut (exit 0: intact, 1: tampered, 2: incomplete, 3: cannot
    /// verify, 64: usage)
    Verify(verify::Options),
    /// The key to pin
    Key(key::Options),
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
        Action::Verify(options) => verify::run(options),
        Action::Key(options) => key::run(options),
        Action::Top(options) => top::run(options),
        Action::Stats(options) => stats::run(options),
        Action::Export(options) => export::run(options),
    }
}

/// The arguments make no sense (sysexits(3), `EX_USAGE`): 2 says something of the log.
pub(super) const EXIT_USAGE: u8 = 64;
const EXIT_TAMPERED: u8 = 1;
const EXIT_INCOMPLETE: u8 = 2;
const EXIT_UNVERIFIABLE: u8 = 3;
