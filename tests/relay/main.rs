//! The relay under fire, from outside: thousands of random flows, and a kernel that refuses.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure, as it should be"
)]

mod fire;
mod judge;
mod peer;
mod plan;
#[path = "../../src/relay/tests/ride.rs"]
mod ride;
mod rules;
mod sockets;
mod starved;

use sluicegate::relay::{
    End, FlowBytes, Key, Legs, Onlookers, Owner, Reactor, RelayEnd, RelayPool,
};
