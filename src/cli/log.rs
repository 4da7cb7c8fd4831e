//! Where the audit log is, for the commands that ask it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::{DEFAULT_CONFIG, EXIT_USAGE, fail, path_in_broken};
use crate::audit::query::AnswerError;
use crate::audit::read::ReadError;
use crate::config;

#[derive(Debug, Args)]
pub(super) struct Log {
    /// Directory of the audit log, instead of the configuration's
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Log {
    /// The directory: as asked, or what the configuration says, or the default where there is none.
    pub(super) fn directory(&self) -> PathBuf {
        let file = Path::new(DEFAULT_CONFIG);
        let configured = || config::load(file).ok().map(|loaded| loaded.site.audit.directory);
        self.dir
            .clone()
            .or_else(configured)
            .or_else(|| path_in_broken(file, "audit", "directory"))
            .unwrap_or_else(|| PathBuf::from(DEFAULT_DIRECTORY))
    }
}

/// Says which part of the log cannot be read.
pub(super) fn unreadable(directory: &Path, error: &ReadError) -> ExitCode {
    let place = error.path.as_deref().unwrap_or(directory).display();
    fail(&format!("{place}: {error}"), EXIT_USAGE)
}

/// What ended an answer. That nobody reads it any more is no failure.
pub(super) fn unanswered(directory: &Path, error: &AnswerError) -> ExitCode {
    match error {
        AnswerError::Write(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        AnswerError::Write(_) => fail(error, EXIT_USAGE),
        AnswerError::Read(error) => unreadable(directory, error),
    }
}

const DEFAULT_DIRECTORY: &str = "/var/lib/sluicegate/audit";
