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
#[path = "dns/faults.rs"]
mod faults;
#[path = "dns/forward.rs"]
mod forward;
#[path = "support/gate.rs"]
mod gate;
#[path = "dns/limits.rs"]
mod limits;
#[path = "dns/records.rs"]
mod records;
#[path = "dns/synthetic.rs"]
mod synthetic;
#[path = "dns/wire.rs"]
mod wire;
