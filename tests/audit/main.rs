//! The audit log from outside: what its records say, and what it keeps through crashes and full
//! disks.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that meets the unexpected has to fail"
)]

mod checker;
mod crash;
mod dns;
mod full;
mod long;
mod projection;
#[path = "../support/proof.rs"]
mod proof;
mod records;
mod run;
#[path = "../support/schema.rs"]
mod schema;
mod support;
