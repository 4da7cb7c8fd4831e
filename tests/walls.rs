//! Each wall alone holds: every test first shows that without it the leak would succeed.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, a panic is the report"
)]

#[path = "walls/address.rs"]
mod address;
#[path = "walls/crash.rs"]
mod crash;
#[path = "walls/damage.rs"]
mod damage;
#[path = "support/gate.rs"]
mod gate;
#[path = "walls/packets.rs"]
mod packets;
#[path = "walls/situations.rs"]
mod situations;
#[path = "walls/sockets.rs"]
mod sockets;
