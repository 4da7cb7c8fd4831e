//! What people ask: `sluicegate hello` and `sluicegate explain`, through the program itself.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure, as it should be"
)]

mod capture;
mod catalogue;
#[path = "../support/client_hello.rs"]
mod client_hello;
mod hello;
mod names;
mod offline;
mod online;
mod rows;
#[path = "../support/rustls_oracle.rs"]
#[allow(dead_code, reason = "only the name is compared here")]
mod rustls_oracle;

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// Runs the program with these arguments and this standard input.
fn sluicegate(args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sluicegate"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The program may end before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn words(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
