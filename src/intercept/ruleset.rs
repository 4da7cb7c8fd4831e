//! Site to nftables ruleset: pure, and the only place that knows the rules.
//!
//! Three walls are made of rules: devices' packets never pass the box (`prerouting`, and `forward`
//! again for a box that forwards), the program's own packets leave by tunnels only (`output`), and
//! its answers to devices leave by device interfaces only (`output`). None of them uses connection
//! tracking: what a packet is follows from where it came in, its mark and its addresses.

use std::borrow::Cow;
use std::net::SocketAddr;

use ipnet::IpNet;
use nftables::expr::{Expression, MetaKey};
use nftables::schema::{FlushObject, NfListObject, Set, SetType, Table};
use nftables::stmt::{Reject, RejectType, Statement, TProxy};
use nftables::types::{NfFamily, NfHook, RejectCode};

use super::tally::{self, Generation};
use super::words::{
    Command, Object, addressed_to_one, addressed_to_the_box, base_chain, chain, count, counter,
    field_is, for_the_box, interfaces, jump, mark_intercepted, meta_is, meta_is_not,
    neighbour_discovery, network_set, no_route_back, not_unicast, own_socket, port_is, reference,
    rule, set, split, text,
};
use crate::config::{ForeignDns, InterfaceName, Site};
use crate::net::netlink::Families;
use crate::net::socket::{DNS_V4, DNS_V6, LISTEN_V4, LISTEN_V6};
use crate::net::{MARK_DEVICE, MARK_EGRESS, MARK_INTERCEPTED};
use crate::reason::Reason;

/// The gate's own table; no other table is ever touched.
pub const TABLE: &str = "sluicegate";

/// What the rules follow from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// `devices.interfaces`.
    pub device_interfaces: Vec<InterfaceName>,
    /// `devices.networks`.
    pub device_networks: Vec<IpNet>,
    /// `tunnel.interfaces`.
    pub tunnel_interfaces: Vec<InterfaceName>,
    /// `vpc.networks`.
    pub vpc_networks: Vec<IpNet>,
    /// The ports of all endpoints.
    pub ports: Vec<u16>,
    /// Where the transparent listeners are.
    pub listen_port: u16,
    /// What happens to devices' DNS; it is refused like everything else where absent.
    pub dns: Option<ForeignDns>,
}

/// Counters of the table that are not a [`Reason`]'s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WallCounter {
    /// Packets whose source no device there can have.
    SpoofedSource,
    /// Packets that would have been forwarded into the plant.
    IntoPlant,
    /// Packets of the program that would have left by a wrong way.
    EgressStopped,
    /// Answers to devices that would have left by a wrong way.
    AnswerStopped,
    /// Errors that the kernel would have sent to the VPC by a wrong way.
    ErrorStopped,
}

impl WallCounter {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::SpoofedSource,
        Self::IntoPlant,
        Self::EgressStopped,
        Self::AnswerStopped,
        Self::ErrorStopped,
    ];

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::SpoofedSource => "spoofed_source",
            Self::IntoPlant => "into_plant",
            Self::EgressStopped => "egress_stopped",
            Self::AnswerStopped => "answer_stopped",
            Self::ErrorStopped => "error_stopped",
        }
    }
}

/// Reasons that rules count, each in a counter with the reason's code.
pub const COUNTED: [Reason; 6] = [
    Reason::QuicBlocked,
    Reason::DnsForeignResolver,
    Reason::Ipv6Blocked,
    Reason::TcpPortBlocked,
    Reason::IcmpBlocked,
    Reason::UdpBlocked,
];

impl Plan {
    /// The plan of a site whose policy needs these ports.
    pub fn new(site: &Site, ports: &[u16]) -> Self {
        Self {
            device_interfaces: site.devices.interfaces.clone(),
            device_networks: site.devices.networks.clone(),
            tunnel_interfaces: site.tunnel.interfaces.clone(),
            vpc_networks: site.vpc.networks.iter().copied().map(IpNet::V4).collect(),
            ports: ports.to_vec(),
            listen_port: site.intercept.port,
            dns: site.dns.lan().map(|lan| lan.foreign),
        }
    }

    /// Which address families devices use.
    pub fn families(&self) -> Families {
        if self.device_networks.iter().any(|network| matches!(network, IpNet::V6(_))) {
            Families::Both
        } else {
            Families::V4
        }
    }

    /// The table as a list of objects, in the order in which they must be added.
    pub(super) fn objects(&self) -> Vec<Object> {
        let mut objects = vec![Object::Known(NfListObject::Table(own_table()))];
        objects.extend(COUNTED.iter().map(|reason| counter(reason.code())));
        objects.extend(tally::counters());
        objects.extend(WallCounter::ALL.iter().map(|wall| counter(wall.name())));
        let sets = self.sets().into_iter();
        objects.extend(sets.map(|set| Object::Known(NfListObject::Set(Box::new(set)))));
        objects.extend(tally::sets());
        for (name, hook, priority) in BASE_CHAINS {
            objects.push(base_chain(name, hook, priority));
        }
        objects.extend(CHAINS.into_iter().map(chain));
        objects.extend(self.rules());
        objects
    }

    /// One transaction that replaces the table by this plan, whatever was there before.
    pub(super) fn replacement(&self) -> Vec<Command> {
        let table = || Object::Known(NfListObject::Table(own_table()));
        // Deleting a table that is not there fails, so it is added first.
        let mut commands = vec![Command::Add(table()), Command::Delete(table())];
        commands.extend(self.objects().into_iter().map(Command::Add));
        commands
    }

    /// One transaction that makes a gate's table this plan and keeps what it has counted. Fails or
    /// leaves something over where the table was not a gate's.
    pub(super) fn amendment(&self) -> Vec<Command> {
        let mut commands = Vec::new();
        for object in self.objects() {
            match &object {
                Object::Known(NfListObject::Set(set)) => {
                    let empty = Box::new(Set { elem: None, ..Set::clone(set) });
                    commands.push(Command::Add(Object::Known(NfListObject::Set(empty.clone()))));
                    commands.push(Command::Flush(FlushObject::Set(empty)));
                    commands.push(Command::Add(object));
                }
                Object::Known(NfListObject::Chain(chain)) => {
                    let flush = Command::Flush(FlushObject::Chain(chain.clone()));
                    commands.extend([Command::Add(object), flush]);
                }
                // They hold what was counted. Without them the rules cannot be added.
                Object::Counting(_) => {}
                Object::Known(_) => commands.push(Command::Add(object)),
            }
        }
        commands
    }

    fn sets(&self) -> Vec<Set<'static>> {
        let (device_v4, device_v6) = split(&self.device_networks);
        let (vpc_v4, _) = split(&self.vpc_networks);
        vec![
            set("device_interfaces", SetType::Ifname, interfaces(&self.device_interfaces)),
            set("tunnel_interfaces", SetType::Ifname, interfaces(&self.tunnel_interfaces)),
            network_set("device_v4", SetType::Ipv4Addr, device_v4),
            network_set("device_v6", SetType::Ipv6Addr, device_v6),
            network_set("vpc_v4", SetType::Ipv4Addr, vpc_v4),
            set(
                "ports",
                SetType::InetService,
                self.ports.iter().map(|port| Expression::Number(u32::from(*port))).collect(),
            ),
        ]
    }

    fn rules(&self) -> Vec<Object> {
        let mut rules = vec![
            rule(
                "prerouting",
                vec![
                    meta_is(MetaKey::Iifname, reference("device_interfaces")),
                    jump("from_device"),
                ],
            ),
            // Answers to a source that is not behind the same interface would leave by another one.
            rule(
                "from_device",
                vec![no_route_back(), count("spoofed_source"), Statement::Drop(None)],
            ),
            // Packets of flows that live: also when the port has left the set by a reload.
            rule("from_device", vec![own_socket(), mark_intercepted(), Statement::Accept(None)]),
        ];
        rules.extend(self.interception());
        rules.extend([
            rule("from_device", vec![for_the_box(), Statement::Accept(None)]),
            rule("from_device", vec![jump("refuse")]),
            rule(
                "input",
                vec![meta_is(MetaKey::Iifname, reference("device_interfaces")), jump("to_box")],
            ),
            rule(
                "to_box",
                vec![
                    meta_is(MetaKey::Mark, Expression::Number(MARK_INTERCEPTED)),
                    Statement::Accept(None),
                ],
            ),
            rule("to_box", vec![neighbour_discovery(), Statement::Accept(None)]),
            rule("to_box", vec![not_unicast(), Statement::Drop(None)]),
            rule("to_box", vec![jump("refuse")]),
            rule(
                "forward",
                vec![meta_is(MetaKey::Iifname, reference("device_interfaces")), jump("refuse")],
            ),
            rule(
                "forward",
                vec![
                    meta_is(MetaKey::Oifname, reference("device_interfaces")),
                    count("into_plant"),
                    Statement::Drop(None),
                ],
            ),
            rule(
                "output",
                vec![meta_is(MetaKey::Mark, Expression::Number(MARK_EGRESS)), jump("egress")],
            ),
            rule(
                "output",
                vec![
                    meta_is(MetaKey::Mark, Expression::Number(MARK_DEVICE)),
                    meta_is_not(MetaKey::Oifname, reference("device_interfaces")),
                    count("answer_stopped"),
                    Statement::Drop(None),
                ],
            ),
            // A late answer to a socket that is closed already: the kernel's error has no mark, and
            // quotes what was asked.
            rule(
                "output",
                vec![
                    field_is("icmp", "type", text("destination-unreachable")),
                    field_is("ip", "daddr", reference("vpc_v4")),
                    meta_is_not(MetaKey::Oifname, reference("tunnel_interfaces")),
                    count("error_stopped"),
                    Statement::Drop(None),
                ],
            ),
            rule(
                "egress",
                vec![
                    meta_is(MetaKey::Oifname, reference("tunnel_interfaces")),
                    field_is("ip", "daddr", reference("vpc_v4")),
                    Statement::Accept(None),
                ],
            ),
            rule("egress", vec![count("egress_stopped"), Statement::Drop(None)]),
        ]);
        for generation in Generation::ALL {
            rules.extend(tally::rules(generation));
        }
        rules.extend(refuse_rules(Generation::A));
        rules
    }

    fn interception(&self) -> Vec<Object> {
        let both = self.families() == Families::Both;
        let families =
            [("ip", "device_v4", LISTEN_V4, DNS_V4), ("ip6", "device_v6", LISTEN_V6, DNS_V6)];
        let mut rules = Vec::new();
        for (family, devices, listener, resolver) in
            families.into_iter().take(1 + usize::from(both))
        {
            let from_devices = || field_is(family, "saddr", reference(devices));
            for protocol in ["udp", "tcp"] {
                let Some(foreign) = self.dns else { continue };
                let mut matching = vec![from_devices(), port_is(protocol, DNS_PORT)];
                matching.push(match foreign {
                    ForeignDns::Redirect => addressed_to_one(),
                    ForeignDns::Refuse => addressed_to_the_box(),
                });
                rules.push(tproxy(matching, family, SocketAddr::new(resolver, DNS_PORT)));
            }
            let ports = field_is("tcp", "dport", reference("ports"));
            let listener = SocketAddr::new(listener, self.listen_port);
            rules.push(tproxy(vec![from_devices(), ports], family, listener));
        }
        rules
    }
}

/// Hands what matches to a listener of the gate.
fn tproxy(
    mut matching: Vec<Statement<'static>>,
    family: &'static str,
    listener: SocketAddr,
) -> Object {
    matching.extend([
        Statement::TProxy(TProxy {
            family: Some(Cow::Borrowed(family)),
            port: listener.port(),
            addr: Some(Cow::Owned(listener.ip().to_string())),
        }),
        mark_intercepted(),
        Statement::Accept(None),
    ]);
    rule("from_device", matching)
}

/// The gate's table.
pub fn own_table() -> Table<'static> {
    Table { family: NfFamily::INet, name: Cow::Borrowed(TABLE), handle: None }
}

/// What happens to everything that is not intercepted: it is counted, by who and where to and under
/// its reason, and answered, so that the device fails at once instead of hanging.
pub(super) fn refuse_rules(generation: Generation) -> Vec<Object> {
    let mut rules = vec![rule("refuse", vec![jump(generation.chain())])];
    for (mut matching, reason, answer) in rows() {
        matching.extend([count(reason.code()), answer]);
        rules.push(rule("refuse", matching));
    }
    rules
}

/// Which refused packets have which reason and answer; the first row that matches counts.
pub(super) fn rows() -> Vec<(Vec<Statement<'static>>, Reason, Statement<'static>)> {
    let prohibit = || {
        Statement::Reject(Some(Reject {
            _type: Some(RejectType::ICMPX),
            expr: Some(RejectCode::AdminProhibited),
        }))
    };
    let reset =
        || Statement::Reject(Some(Reject { _type: Some(RejectType::TCPReset), expr: None }));
    let tcp = || meta_is(MetaKey::L4proto, text("tcp"));
    let ipv6 = || meta_is(MetaKey::Nfproto, text("ipv6"));
    vec![
        (vec![port_is("udp", 443)], Reason::QuicBlocked, prohibit()),
        (vec![port_is("udp", DNS_PORT)], Reason::DnsForeignResolver, prohibit()),
        (vec![port_is("tcp", DNS_PORT)], Reason::DnsForeignResolver, reset()),
        (vec![port_is("udp", ENCRYPTED_DNS_PORT)], Reason::DnsForeignResolver, prohibit()),
        (vec![port_is("tcp", ENCRYPTED_DNS_PORT)], Reason::DnsForeignResolver, reset()),
        (vec![ipv6(), tcp()], Reason::Ipv6Blocked, reset()),
        (vec![ipv6()], Reason::Ipv6Blocked, prohibit()),
        (vec![tcp()], Reason::TcpPortBlocked, reset()),
        (vec![meta_is(MetaKey::L4proto, text("icmp"))], Reason::IcmpBlocked, prohibit()),
        (vec![], Reason::UdpBlocked, prohibit()),
    ]
}

/// RFC 1035 section 4.2.
const DNS_PORT: u16 = 53;
/// DNS over TLS (RFC 7858) and over QUIC (RFC 9250), which the gate could not judge.
const ENCRYPTED_DNS_PORT: u16 = 853;
/// Priorities as nft(8) names them: mangle -150, filter 0.
const BASE_CHAINS: [(&str, NfHook, i32); 4] = [
    ("prerouting", NfHook::Prerouting, -150),
    ("input", NfHook::Input, 0),
    ("forward", NfHook::Forward, 0),
    ("output", NfHook::Output, 0),
];
const CHAINS: [&str; 6] = ["from_device", "to_box", "egress", "tally_a", "tally_b", "refuse"];
