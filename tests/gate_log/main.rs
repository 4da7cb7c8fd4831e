//! The real gate's log under load, through kills and full disks: what the records say is what the
//! devices did.
//!
//! In the suite these run short. As long as an auditor would want them:
//!
//! ```text
//! SLUICEGATE_TEST_FLOWS=1000000 cargo test --release --test gate_log counted
//! SLUICEGATE_TEST_KILLS=200 cargo test --release --test gate_log killed
//! SLUICEGATE_TEST_FULL_SECONDS=120 cargo test --release --test gate_log full
//! ```
//!
//! `SLUICEGATE_TEST_REPORT=FILE` has them append what they counted to a file.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that meets the unexpected has to fail"
)]

use std::fs::OpenOptions;
use std::io::Write as _;

mod counted;
mod crowd;
mod full;
#[path = "../support/gate.rs"]
mod gate;
mod killed;
mod manipulated;
#[path = "../support/schema.rs"]
mod schema;

/// A number from the environment, or the suite's own.
fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |number| number.parse().unwrap())
}

/// Tells the report what was counted.
fn say(text: &str) {
    let Some(path) = std::env::var_os("SLUICEGATE_TEST_REPORT") else { return };
    let mut report = OpenOptions::new().create(true).append(true).open(path).unwrap();
    writeln!(report, "{text}").unwrap();
}
