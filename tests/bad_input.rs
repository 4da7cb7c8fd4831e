//! What is wrong from the start, and what devices send that no device should.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, a panic is the report"
)]

#[path = "bad_input/floods.rs"]
mod floods;
#[path = "support/gate.rs"]
mod gate;
#[path = "support/mistakes.rs"]
mod mistakes;
#[path = "bad_input/startup.rs"]
mod startup;
