//! The command line: one file per subcommand.
//!
//! Data goes to standard output, notes to standard error. Exit codes are an interface: scripts
//! trust them, so each command documents its own.

mod audit;
mod canary;
mod check;
mod demo;
mod doctor;
mod explain;
mod filters;
mod flows;
mod forms;
mod hello;
mod log;
mod nft;
mod pages;
mod policy;
mod run;
mod status;
mod when;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config;

/// A transparent, TLS-aware egress gate for plant devices that must reach AWS over private networks
/// only.
#[derive(Debug, Parser)]
#[command(name = "sluicegate", version, about, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gate (exit 0: ended by a signal, 1: could not start, 2: bad configuration)
    Run(run::Options),
    /// Check a configuration file (exit 0: valid, 2: not)
    Check(check::Options),
    /// Show what a captured ClientHello says (exit 0: read, 3: refused, 1: no hello in the input)
    Hello(hello::Options),
    /// Explain what would happen to a flow, and why (exit 0: allowed, 3: denied, 1: cannot tell)
    Explain(explain::Options),
    /// Play a plant, the gate and a VPC on this machine (exit 0: all as expected, 1: not)
    Demo(demo::Options),
    /// Show how the running gate is (exit 0: healthy, 4: something is wrong, 1: cannot tell)
    Status(status::Options),
    /// Check the whole path with real packets, each fault with its fix (exit 0: healthy, 4: not)
    Doctor(doctor::Options),
    /// Try from the devices' side what must never work (exit 0: all refused, 5: something got out, 1:
    /// nothing is proven, or the gate was not told)
    Canary(canary::Options),
    /// Show what is on record: flows and refusals (exit 0: found, 1: none, 2: usage, or the log cannot
    /// be read)
    Flows(flows::Options),
    /// Prove the audit log, count, measure and export what is on record
    Audit(audit::Options),
    /// Print, apply, verify or remove the nftables rules (exit 0: done, 1: not)
    Nft(nft::Options),
    /// Turn recorded flows into rules, or see what other rules would do to them
    Policy(policy::Options),
    /// Write the manual pages and the completions of shells
    #[command(hide = true)]
    Pages(pages::Options),
}

/// Where the configuration is.
#[derive(Clone, Debug, Args)]
struct ConfigFile {
    /// Configuration file
    #[arg(long = "config", value_name = "FILE", default_value = DEFAULT_CONFIG)]
    path: PathBuf,
}

/// Parses the arguments, runs the subcommand and returns its exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match cli.command {
        Command::Run(options) => run::run(&options),
        Command::Check(options) => check::run(&options),
        Command::Hello(options) => hello::run(&options),
        Command::Explain(options) => explain::run(&options),
        Command::Demo(options) => demo::run(&options),
        Command::Status(options) => status::run(&options),
        Command::Doctor(options) => doctor::run(&options),
        Command::Canary(options) => canary::run(&options),
        Command::Flows(options) => flows::run(&options),
        Command::Audit(options) => audit::run(&options),
        Command::Nft(options) => nft::run(&options),
        Command::Policy(options) => policy::run(&options),
        Command::Pages(options) => pages::run(&options),
    }
}

/// Says what is wrong with the arguments, or shows the help that was asked for.
fn usage(error: &clap::Error) -> ExitCode {
    // Where a log is proven, 2 says something of the log.
    let mut words = std::env::args_os().skip(1);
    let audit = words.next().is_some_and(|word| word == "audit")
        && words.next().is_none_or(|word| !["top", "stats", "export"].iter().any(|of| word == *of));
    if !audit || !error.use_stderr() {
        error.exit();
    }
    let _ = error.print();
    ExitCode::from(audit::EXIT_USAGE)
}

/// Writes to standard output; a reader that went away (`| head`) is not an error.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

fn note(text: &str) {
    let mut out = std::io::stderr().lock();
    let _ = writeln!(out, "{text}");
}

/// Says what went wrong and returns the exit code.
fn fail(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    note(&format!("sluicegate: {error}"));
    ExitCode::from(code)
}

/// Loads a configuration; problems and warnings go to standard error.
fn load(path: &Path) -> Result<config::Site, ExitCode> {
    let style = stderr_style();
    match config::load(path) {
        Ok(loaded) => {
            if !loaded.warnings.is_empty() {
                note(&loaded.warnings.render(style));
            }
            Ok(loaded.site)
        }
        Err(problems) => {
            note(&problems.render(style));
            Err(ExitCode::from(EXIT_CONFIG))
        }
    }
}

/// A path that a configuration file has, also one that is refused: it must not keep anybody from
/// looking at the gate that runs.
fn path_in_broken(file: &Path, table: &str, key: &str) -> Option<PathBuf> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let file = text.parse::<toml::Table>().ok()?;
    Some(PathBuf::from(file.get(table)?.get(key)?.as_str()?))
}

/// Colour only where a person looks.
fn stderr_style() -> config::Style {
    if std::io::stderr().is_terminal() { config::Style::Colour } else { config::Style::Plain }
}

/// A runtime for commands that ask or change the kernel once.
fn block_on<T>(work: impl Future<Output = T>) -> std::io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(work))
}

const DEFAULT_CONFIG: &str = "/etc/sluicegate/sluicegate.toml";
/// A question found nothing.
const EXIT_NONE: u8 = 1;
const EXIT_CONFIG: u8 = 2;
/// The arguments make no sense, or the log cannot be read.
const EXIT_USAGE: u8 = 2;
const EXIT_DENIED: u8 = 3;
const EXIT_DEGRADED: u8 = 4;
