//! Devices' DNS: what they may reach is answered, everything else refused, and nothing leaves the box.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, a panic is the report"
)]

#[path = "dns/answers.rs"]
mod answers;
#[path = "dns/ask.rs"]
mod ask;
#[path = "support/gate.rs"]
mod gate;
