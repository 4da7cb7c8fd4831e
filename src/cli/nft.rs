//! `sluicegate nft`: the rules in the kernel.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{ConfigFile, block_on, fail, load, note, print};
use crate::intercept::nft::{self, Verified};
use crate::intercept::{self, Plan, render};
use crate::policy::Policy;

#[derive(Debug, Args)]
#[command(after_help = "Example: sluicegate nft print --config site.toml")]
pub(super) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print the rules of a configuration in nft syntax; needs no privileges
    Print(ConfigFile),
    /// Put the rules and their routing into the kernel; devices reach nothing until the gate runs
    Apply(ConfigFile),
    /// Compare the kernel's rules with the configuration's (exit 0: the same, 1: not)
    Verify(ConfigFile),
    /// Remove the rules and their routing: the box then forwards what it is set up to forward
    Clear,
}

pub(super) fn run(options: &Options) -> ExitCode {
    match &options.action {
        Action::Print(config) => with_plan(config, |plan| {
            print(&render::text(plan));
            ExitCode::SUCCESS
        }),
        Action::Apply(config) => {
            with_plan(config, |plan| finish(block_on(intercept::set_up(plan))))
        }
        Action::Verify(config) => with_plan(config, verify),
        Action::Clear => finish(block_on(intercept::clear())),
    }
}

fn with_plan(config: &ConfigFile, work: impl FnOnce(&Plan) -> ExitCode) -> ExitCode {
    match load(&config.path) {
        Ok(site) => work(&Plan::new(&site, Policy::compile(&site).ports())),
        Err(code) => code,
    }
}

fn verify(plan: &Plan) -> ExitCode {
    match nft::verify(plan) {
        Ok(Verified::Same) => {
            print("the kernel's rules are those of the configuration\n");
            ExitCode::SUCCESS
        }
        Ok(Verified::Absent) => {
            note("the kernel has no table `inet sluicegate`; apply it with `sluicegate nft apply`");
            ExitCode::FAILURE
        }
        Ok(Verified::Different(lines)) => {
            lines.iter().for_each(|line| note(line));
            note("the kernel's rules differ (- missing, + not expected)");
            ExitCode::FAILURE
        }
        Err(error) => fail(&error, 1),
    }
}

fn finish(outcome: std::io::Result<Result<(), intercept::InterceptError>>) -> ExitCode {
    match outcome {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => fail(&error, 1),
        Err(error) => fail(&error, 1),
    }
}
