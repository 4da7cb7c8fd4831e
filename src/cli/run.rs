//! `sluicegate run`: the daemon.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use super::{ConfigFile, EXIT_CONFIG, fail, load};
use crate::app::{self, StartError};
use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = "Example: sluicegate run --config /etc/sluicegate/sluicegate.toml\n\n\
    SIGTERM drains and ends, a second one ends at once; SIGHUP reloads the configuration.\n\
    The nftables rules stay when the gate ends, so nothing passes an unguarded box;\n\
    `sluicegate nft clear` removes them.")]
pub(super) struct Options {
    #[command(flatten)]
    config: ConfigFile,
    /// How much to log
    #[arg(long, value_name = "LEVEL", default_value = "info",
          value_parser = ["error", "warn", "info", "debug", "trace"])]
    log: String,
    /// Log JSON lines
    #[arg(long)]
    log_json: bool,
}

pub(super) fn run(options: &Options) -> ExitCode {
    start_logging(options);
    let site = match load(&options.config.path) {
        Ok(site) => site,
        Err(code) => return code,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, 1),
    };
    let outcome =
        runtime.block_on(async { app::build(site, &options.config.path).await?.serve().await });
    // Whatever still waits for another process is not waited for.
    runtime.shutdown_timeout(LAST_PATIENCE);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ StartError::Expectations(_)) => fail(&error, EXIT_CONFIG),
        Err(error) => fail(&error, 1),
    }
}

fn start_logging(options: &Options) {
    let level = options.log.parse().unwrap_or(tracing::Level::INFO);
    let log = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    if options.log_json { log.json().init() } else { log.init() }
}

const LAST_PATIENCE: Duration = Duration::from_secs(1);
