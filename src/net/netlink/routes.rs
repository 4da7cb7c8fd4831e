//! The fixed routes of the gate's own tables.

use std::net::{Ipv4Addr, Ipv6Addr};

use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{RouteMessage, RouteScope, RouteType};

use super::{DEAD_END_TABLE, EGRESS_TABLE, ROUTE_TABLE};

pub(super) fn local_v4(lo: u32) -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(Ipv4Addr::UNSPECIFIED, 0)
        .output_interface(lo)
        .table_id(ROUTE_TABLE)
        .scope(RouteScope::Host)
        .kind(RouteType::Local)
        .build()
}

pub(super) fn local_v6(lo: u32) -> RouteMessage {
    RouteMessageBuilder::<Ipv6Addr>::new()
        .destination_prefix(Ipv6Addr::UNSPECIFIED, 0)
        .output_interface(lo)
        .table_id(ROUTE_TABLE)
        .kind(RouteType::Local)
        .build()
}

/// `prohibit` answers with ICMP "administratively prohibited", so devices fail at once.
pub(super) fn dead_end_v4() -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(Ipv4Addr::UNSPECIFIED, 0)
        .table_id(DEAD_END_TABLE)
        .kind(RouteType::Prohibit)
        .build()
}

pub(super) fn dead_end_v6() -> RouteMessage {
    RouteMessageBuilder::<Ipv6Addr>::new()
        .destination_prefix(Ipv6Addr::UNSPECIFIED, 0)
        .table_id(DEAD_END_TABLE)
        .kind(RouteType::Prohibit)
        .build()
}

/// What has the gate's mark and finds no tunnel goes nowhere: the sender hears at once.
pub(super) fn no_way_v4() -> RouteMessage {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(Ipv4Addr::UNSPECIFIED, 0)
        .table_id(EGRESS_TABLE)
        .priority(LAST)
        .kind(RouteType::Unreachable)
        .build()
}

pub(super) fn no_way_v6() -> RouteMessage {
    RouteMessageBuilder::<Ipv6Addr>::new()
        .destination_prefix(Ipv6Addr::UNSPECIFIED, 0)
        .table_id(EGRESS_TABLE)
        .priority(LAST)
        .kind(RouteType::Unreachable)
        .build()
}

/// Behind every tunnel.
const LAST: u32 = 1 << 20;
