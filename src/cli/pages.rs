//! `sluicegate pages`: the manual pages and completions, for the package.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate_to};

use super::{Cli, fail};

#[derive(Debug, Args)]
#[command(after_help = "Example: sluicegate pages target/pages")]
pub(super) struct Options {
    /// Where to: manual pages go to `man` in it, completions beside that
    directory: PathBuf,
}

pub(super) fn run(options: &Options) -> ExitCode {
    match write(&options.directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format_args!("{}: {error}", options.directory.display()), 1),
    }
}

fn write(directory: &Path) -> io::Result<()> {
    let manual = directory.join("man");
    fs::create_dir_all(&manual)?;
    let mut command = Cli::command();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command, "sluicegate", directory)?;
    }
    command.build();
    write_manual(&command, &manual)
}

/// A page for the command, and one for each below it: `sluicegate-audit-verify(8)`.
fn write_manual(command: &clap::Command, directory: &Path) -> io::Result<()> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let mut page = File::create(directory.join(format!("{name}.{SECTION}")))?;
    clap_mangen::Man::new(command.clone()).title(name).section(SECTION).render(&mut page)?;
    let shown = |below: &&clap::Command| !below.is_hide_set() && below.get_name() != "help";
    command.get_subcommands().filter(shown).try_for_each(|below| write_manual(below, directory))
}

/// Commands of whoever runs the machine (man-pages(7)).
const SECTION: &str = "8";
