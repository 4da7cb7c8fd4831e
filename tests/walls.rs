//! Each wall alone holds: every test first shows that without it the leak would succeed.

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
#[path = "walls/sockets.rs"]
mod sockets;
