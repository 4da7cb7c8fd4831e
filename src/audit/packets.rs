//! Records of refused packets that never were a flow, counted together.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::count::{self, Counted};
use super::inbox::Shared;
use super::{kind, record};
use crate::config::MacAddr;
use crate::reason::Reason;

/// Refused packets that never were a flow, counted together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketFacts {
    /// Why they were refused.
    pub reason: Reason,
    /// Who sent them; `None` where many did, or nobody can say.
    pub device: Option<PacketDevice>,
    /// The number of their protocol (IANA), where they have one in common.
    pub protocol: Option<u8>,
    /// Where to.
    pub to: PacketDestination,
    /// How many.
    pub packets: u64,
    /// When they began to be counted; `None` where that was before this start.
    pub since: Option<SystemTime>,
    /// Until when they were counted.
    pub until: SystemTime,
}

/// Who sent packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketDevice {
    /// Its hardware address, as in the packets.
    pub mac: MacAddr,
    /// Its address, as in the packets.
    pub address: IpAddr,
    /// The `[[device]]` entry's name.
    pub name: Option<Arc<str>>,
    /// What it was recognised by: `mac`, `address`, `network` or `none`.
    pub identity: &'static str,
}

/// Where packets went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PacketDestination {
    /// All to one place; the port of TCP and UDP.
    One(IpAddr, Option<u16>),
    /// To several, of which these are some.
    Several(Vec<(IpAddr, Option<u16>)>),
}

/// The body of a record of packets.
pub(super) fn body(shared: &Shared, facts: &PacketFacts) -> Vec<u8> {
    let since = facts.since.map(unix_ms);
    let until = unix_ms(facts.until).max(since.unwrap_or(0));
    let samples = samples(&facts.to);
    let counted = Counted { count: facts.packets, since, until };
    let mut record = count::refusals(shared, &kind::REFUSED, facts.reason, counted);
    record.src_endpoint = source(facts.device.as_ref());
    record.dst_endpoint = match facts.to {
        PacketDestination::One(ip, port) => Some(record::DstEndpoint {
            hostname: None,
            ip: ip.to_canonical(),
            port,
            svc_name: None,
            proxy_endpoint: None,
        }),
        PacketDestination::Several(_) => None,
    };
    record.connection_info = facts.protocol.map(|protocol| connection(facts, protocol));
    let egress = &mut record.unmapped.egress;
    egress.identity = facts.device.as_ref().map(|device| device.identity);
    egress.destinations = Some(&*samples).filter(|samples| !samples.is_empty());
    record::body(&record)
}

fn source(device: Option<&PacketDevice>) -> record::SrcEndpoint<'_> {
    let Some(device) = device else { return record::SrcEndpoint::several() };
    record::SrcEndpoint {
        uid: device.name.as_deref(),
        name: device.name.as_deref(),
        ip: Some(device.address.to_canonical()),
        port: None,
        mac: Some(record::Text(device.mac)),
        type_id: kind::TYPE_IOT,
    }
}

fn connection(facts: &PacketFacts, protocol: u8) -> record::ConnectionInfo<'static> {
    let address = facts.device.as_ref().map(|device| device.address);
    record::ConnectionInfo {
        uid: None,
        direction_id: kind::OUTBOUND,
        protocol_num: protocol,
        protocol_name: protocol_name(protocol),
        protocol_ver_id: address.map(kind::ip_version),
        boundary_id: None,
        community_uid: None,
        flag_history: None,
    }
}

fn samples(to: &PacketDestination) -> Vec<String> {
    let PacketDestination::Several(places) = to else { return Vec::new() };
    let text = |(ip, port): &(IpAddr, Option<u16>)| match port {
        Some(port) => SocketAddr::new(*ip, *port).to_string(),
        None => ip.to_string(),
    };
    places.iter().take(kind::MAX_SAMPLES).map(text).collect()
}

/// The keywords of IANA's registry, in lower case as OCSF wants them.
pub(super) fn protocol_name(number: u8) -> Option<&'static str> {
    Some(match number {
        1 => "icmp",
        2 => "igmp",
        6 => "tcp",
        17 => "udp",
        47 => "gre",
        50 => "esp",
        51 => "ah",
        58 => "ipv6-icmp",
        132 => "sctp",
        _ => return None,
    })
}

pub(super) fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
