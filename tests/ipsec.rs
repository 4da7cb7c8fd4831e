//! The gate over real IKEv2 and ESP tunnels.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, a panic is the report"
)]

#[path = "ipsec/fleet.rs"]
mod fleet;
#[path = "support/gate.rs"]
mod gate;
#[path = "tunnels/support.rs"]
mod support;
#[path = "ipsec/templates.rs"]
mod templates;
#[path = "ipsec/tunnels.rs"]
mod tunnels;
