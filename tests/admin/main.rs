//! The admin listener, asked by real clients: metrics, health, who may come in, and that nothing that is done
//! to it is felt by flows.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, a panic is the report"
)]

#[path = "../support/gate.rs"]
mod gate;

mod access;
mod hostile;
mod metrics;
mod page;
mod support;
