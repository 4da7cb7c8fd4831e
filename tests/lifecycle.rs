//! The running gate from its start to its end: drain, reload, status, degraded states.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, a panic is the report"
)]

#[path = "lifecycle/degraded.rs"]
mod degraded;
#[path = "lifecycle/drain.rs"]
mod drain;
#[path = "support/gate.rs"]
mod gate;
#[path = "lifecycle/long.rs"]
mod long;
#[path = "lifecycle/reload.rs"]
mod reload;
