//! What is wrong from the start, and what devices send that no device should.

#[path = "bad_input/floods.rs"]
mod floods;
#[path = "support/gate.rs"]
mod gate;
#[path = "bad_input/startup.rs"]
mod startup;
