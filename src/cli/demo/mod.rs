//! demo
use clap::Args;
#[derive(Debug, Args)]
pub(super) struct Options {}
pub(super) fn run(_: &Options) -> std::process::ExitCode {
    std::process::ExitCode::FAILURE
}
