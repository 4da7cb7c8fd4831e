//! `sluicegate audit key show`: the public key that the security team keeps.

use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::EXIT_UNVERIFIABLE;
use crate::audit::{self, read};
use crate::cli::log::Log;
use crate::cli::{fail, print};

#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print the public key file, with the fingerprint (exit 0: printed, 3: there is no key)
    Show(Show),
}

#[derive(Debug, Args)]
#[command(after_help = "Example: sluicegate audit key show > augsburg-2.pub")]
struct Show {
    #[command(flatten)]
    log: Log,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> ExitCode {
    let Action::Show(options) = &options.action;
    show(&options.log.directory(), options.json)
}

fn show(directory: &Path, as_json: bool) -> ExitCode {
    let key = match audit::pinned_key(directory) {
        Ok(key) => key,
        Err(error) => {
            let place = directory.display();
            let sentence = format!(
                "no key of an audit log in {place}: {error}; the daemon makes it at its first start"
            );
            return fail(&sentence, EXIT_UNVERIFIABLE);
        }
    };
    let site = site(directory).unwrap_or_else(|| "unnamed".to_owned());
    let file = key.file(&site);
    if as_json {
        let (id, fingerprint) = (key.id(), key.fingerprint());
        let document = json!({
            "site": site,
            "algorithm": "ed25519",
            "id": id,
            "fingerprint": fingerprint,
            "file": file,
        });
        print(&format!("{document}\n"));
    } else {
        print(&file);
    }
    ExitCode::SUCCESS
}

/// The site that the log's first record names.
fn site(directory: &Path) -> Option<String> {
    let mut lines = read::lines(directory).ok()?;
    let line = lines.next_line().ok()??;
    let record: Value = serde_json::from_slice(line.bytes).ok()?;
    Some(record.pointer("/metadata/tenant_uid")?.as_str()?.to_owned())
}
