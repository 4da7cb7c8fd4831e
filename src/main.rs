//! The `sluicegate` command: arguments to subcommand to exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    sluicegate::cli::main()
}
