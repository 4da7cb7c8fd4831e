//! `sluicegate policy`: from recorded flows to rules, and what other rules would do to them.
//!
//! Reads the audit log as a stream, never changes it, and puts nothing in force.

mod diff;
mod endpoints;
mod flows;
mod learn;
mod propose;
mod seen;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{DEFAULT_CONFIG, EXIT_CONFIG, load, note};
use crate::audit::read::ReadError;
use crate::config::Site;
use flows::Unread;

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Propose [[device]] entries from recorded flows, as TOML to review (exit 0: done, 1: the
    /// records cannot be read, 2: bad configuration)
    Learn(learn::Options),
    /// Which recorded flows would get another verdict under another configuration (exit 0: done, 1:
    /// the records cannot be read, 2: bad configuration)
    Diff(diff::Options),
}

pub(super) fn run(options: &Options) -> ExitCode {
    let done = match &options.action {
        Action::Learn(options) => learn::run(options),
        Action::Diff(options) => diff::run(options),
    };
    done.err().unwrap_or(ExitCode::SUCCESS)
}

/// Where the records are.
#[derive(Debug, Args)]
struct Records {
    /// Directory of the audit log, instead of the configuration's
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Configuration file of the site [default: /etc/sluicegate/sluicegate.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Records {
    /// The site's configuration. It may be missing only where nothing depends on it: `--dir` is
    /// given, and `--config` is not.
    fn site(&self) -> Result<Option<Site>, ExitCode> {
        let path = self.config.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG));
        if self.dir.is_some() && self.config.is_none() && !path.exists() {
            note(&format!("without {DEFAULT_CONFIG}: the site's own endpoints are not known"));
            return Ok(None);
        }
        load(path).map(Some)
    }

    /// The directory, where `--dir` or a configuration says it.
    fn directory(&self, site: Option<&Site>) -> Result<PathBuf, ExitCode> {
        let configured = || site.map(|site| site.audit.directory.clone());
        self.dir.clone().or_else(configured).ok_or(ExitCode::from(EXIT_CONFIG))
    }
}

fn unreadable(directory: &Path) -> impl Fn(ReadError) -> ExitCode {
    move |error| {
        let place = error.path.as_deref().unwrap_or(directory).display().to_string();
        super::fail(&format!("{place}: {error}"), 1)
    }
}

/// Says what the answer leaves out.
fn note_unread(unread: Unread) {
    if unread.lines > 0 {
        note(&format!("{} lines of the log cannot be read and were left out", unread.lines));
    }
    if unread.groups > 0 {
        note(&format!("{} flows to still more names were left out", unread.groups));
    }
}

/// A moment for people and scripts: UTC, to the second.
fn moment(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_default()
}

/// How many pairs of device and name are told apart: what devices ask for must not fill the memory.
const MOST_GROUPS: usize = 100_000;
