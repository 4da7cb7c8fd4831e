//! The ways out: which one is taken, when it is left, and what becomes of the flows on it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, a panic is the report"
)]

#[path = "tunnels/failover.rs"]
mod failover;
#[path = "support/gate.rs"]
mod gate;
#[path = "tunnels/interfaces.rs"]
mod interfaces;
#[path = "tunnels/routes.rs"]
mod routes;
#[path = "tunnels/support.rs"]
mod support;
