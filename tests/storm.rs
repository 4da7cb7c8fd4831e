//! What happens when everything comes at once, or when whole parts fall silent.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, a panic is the report"
)]

#[path = "storm/crowd.rs"]
mod crowd;
#[path = "storm/dials.rs"]
mod dials;
#[path = "support/gate.rs"]
mod gate;
#[path = "storm/returns.rs"]
mod returns;
#[path = "storm/tracking.rs"]
mod tracking;
#[path = "storm/uplink.rs"]
mod uplink;
