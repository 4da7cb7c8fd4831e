//! `sluicegate check`: is this configuration valid?

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{DEFAULT_CONFIG, EXIT_CONFIG, note, print, stderr_style};
use crate::config;
use crate::policy::Policy;

#[derive(Debug, Args)]
#[command(after_help = "Example: sluicegate check /etc/sluicegate/sluicegate.toml")]
pub(super) struct Options {
    /// Configuration file
    #[arg(value_name = "FILE", default_value = DEFAULT_CONFIG)]
    path: PathBuf,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> ExitCode {
    let loaded = match config::load(&options.path) {
        Ok(loaded) => loaded,
        Err(problems) => {
            if options.json {
                let problems = problems.to_json();
                print(&format!("{}\n", json!({ "valid": false, "problems": problems })));
            } else {
                note(&problems.render(stderr_style()));
                note(&format!("{}: {}", options.path.display(), count(problems.len())));
            }
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    let policy = Policy::compile(&loaded.site);
    let failed = policy.check_expectations(&loaded.site);
    if options.json {
        let failed: Vec<_> = failed
            .iter()
            .map(|f| json!({ "line": f.line, "device": f.device, "name": f.name, "port": f.port, "sentence": f.sentence }))
            .collect();
        let report = json!({
            "valid": failed.is_empty(),
            "problems": [],
            "warnings": loaded.warnings.to_json(),
            "failed_expectations": failed,
            "hash": loaded.site.hash,
        });
        print(&format!("{report}\n"));
    } else {
        if !loaded.warnings.is_empty() {
            note(&loaded.warnings.render(stderr_style()));
        }
        for failure in &failed {
            let place = format!("{}:{}", options.path.display(), failure.line);
            note(&format!("{place}: this [[expect]] fails: {}", failure.sentence));
        }
        if failed.is_empty() {
            let site = &loaded.site;
            print(&format!(
                "{}: valid; {} endpoints, {} devices, {} expectations hold\n",
                options.path.display(),
                site.endpoints.len(),
                site.device_entries.len(),
                site.expectations.len()
            ));
        }
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_CONFIG) }
}

fn count(problems: usize) -> String {
    match problems {
        1 => "1 problem".to_owned(),
        many => format!("{many} problems"),
    }
}
