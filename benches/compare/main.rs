//! Compares the gate with its peers.

#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "it is given names of a usual length"
)]
#[path = "../../tests/support/client_hello.rs"]
mod client_hello;
mod load;

use std::process::ExitCode;

use clap::Parser;

#[derive(Debug, Parser)]
enum Compare {
    /// One end of the traffic
    #[command(hide = true)]
    Load(load::Load),
}

fn main() -> ExitCode {
    match Compare::parse() {
        Compare::Load(load) => load::run(&load),
    }
}
