//! The `sluicegate` command: arguments to subcommand to exit code.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// By measurement: see benches/README.md.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    sluicegate::cli::main()
}
