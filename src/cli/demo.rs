//! `sluicegate demo`: a plant, the gate and a VPC on this machine.

use std::process::ExitCode;

use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = "Example: sluicegate demo --json | jq .ok")]
pub(super) struct Options {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(_options: &Options) -> ExitCode {
    ExitCode::FAILURE
}
