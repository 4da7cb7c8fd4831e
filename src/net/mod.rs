//! The kernel's network interface: addresses as types, every socket option, netlink.
//!
//! Nothing else in the program sets a socket option or speaks netlink, so that what a socket may do
//! is read in one place.

pub mod addr;
pub mod datagram;
pub mod neighbour;
pub mod netlink;
pub mod pulse;
pub mod socket;

/// Packet mark (`SO_MARK`, `meta mark`) of what the gate intercepted from devices. Routing delivers
/// it to the box by its own rule.
pub const MARK_INTERCEPTED: u32 = 0x51c0_0001;
/// Packet mark of everything the program itself sends towards the VPC. The output wall lets it
/// leave by tunnel interfaces only, and only to the VPC's networks.
pub const MARK_EGRESS: u32 = 0x51c0_0002;
/// Packet mark of what the program answers to devices. It leaves by device interfaces only.
pub const MARK_DEVICE: u32 = 0x51c0_0003;
/// The routing table that delivers intercepted packets to the box.
pub const ROUTE_TABLE: u32 = 5100;
/// The priority of the rule that leads there: before any table of a VPN daemon.
pub const RULE_PRIORITY: u32 = 100;
/// The routing table that leads nowhere: all that comes from devices and is neither intercepted nor
/// for the box itself.
pub const DEAD_END_TABLE: u32 = 5101;
/// The priority of the rules that lead there.
pub const DEAD_END_PRIORITY: u32 = 101;
/// The routing table of [`MARK_EGRESS`]: the tunnels, and else nothing.
pub const EGRESS_TABLE: u32 = 5102;
/// The priority of the rule that leads there.
pub const EGRESS_PRIORITY: u32 = 102;
