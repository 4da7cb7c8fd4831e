//! Site to nftables ruleset: pure, and the only place that knows the rules.
//!
//! Three walls are made of rules: devices' packets never pass the box (`prerouting`, and `forward`
//! again for a box that forwards), the program's own packets leave by tunnels only (`output`), and
//! its answers to devices leave by device interfaces only (`output`). None of them uses connection
//! tracking: what a packet is follows from where it came in, its mark and its addresses.

use std::borrow::Cow;
use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;
use nftables::expr::{
    Expression, Fib, FibFlag, FibResult, Meta, MetaKey, NamedExpression, Payload, PayloadField,
    Prefix, SetItem, Socket, SocketAttr,
};
use nftables::schema::{
    Chain, Counter, FlushObject, NfListObject, Rule, Set, SetFlag, SetType, SetTypeValue, Table,
};
use nftables::stmt::{
    Counter as CounterRef, JumpTarget, Mangle, Match, Operator, Reject, RejectType, Statement,
    TProxy,
};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook, RejectCode};

use serde::Serialize;

use super::tally::{self, CountingSet, Generation};
use crate::config::{InterfaceName, Site};
use crate::net::netlink::Families;
use crate::net::socket::{LISTEN_V4, LISTEN_V6};
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
}

impl WallCounter {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::SpoofedSource, Self::IntoPlant, Self::EgressStopped, Self::AnswerStopped];

    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::SpoofedSource => "spoofed_source",
            Self::IntoPlant => "into_plant",
            Self::EgressStopped => "egress_stopped",
            Self::AnswerStopped => "answer_stopped",
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

/// One object of the table, which serialises as nft's JSON has it (libnftables-json(5)).
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Object {
    /// Anything but a set that counts.
    Known(NfListObject<'static>),
    /// A set that counts.
    Counting(CountingSet),
}

/// One command of a transaction.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Command {
    /// Adds an object; one that is there already stays as it is.
    Add(Object),
    /// Deletes one.
    Delete(Object),
    /// Empties a chain or a set.
    Flush(FlushObject<'static>),
}

impl Command {
    /// Empties a chain.
    pub(super) fn flush_chain(name: &'static str) -> Self {
        Self::Flush(FlushObject::Chain(own_chain(name)))
    }
}

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
    pub fn objects(&self) -> Vec<Object> {
        let mut objects = vec![Object::Known(NfListObject::Table(own_table()))];
        objects.extend(COUNTED.iter().map(|reason| counter(reason.code())));
        objects.extend(tally::counters());
        objects.extend(WallCounter::ALL.iter().map(|wall| counter(wall.name())));
        objects.extend(self.sets().into_iter().map(|set| Object::Known(NfListObject::Set(set))));
        objects.extend(tally::sets());
        for (name, hook, priority) in BASE_CHAINS {
            objects.push(base_chain(name, hook, priority));
        }
        objects.extend(CHAINS.into_iter().map(chain));
        objects.extend(self.rules());
        objects
    }

    /// One transaction that replaces the table by this plan, whatever was there before.
    pub fn replacement(&self) -> Vec<Command> {
        let table = || Object::Known(NfListObject::Table(own_table()));
        // Deleting a table that is not there fails, so it is added first.
        let mut commands = vec![Command::Add(table()), Command::Delete(table())];
        commands.extend(self.objects().into_iter().map(Command::Add));
        commands
    }

    /// One transaction that makes a gate's table this plan and keeps what it has counted. Fails or
    /// leaves something over where the table was not a gate's.
    pub fn amendment(&self) -> Vec<Command> {
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
                _ => commands.push(Command::Add(object)),
            }
        }
        commands
    }

    fn sets(&self) -> Vec<Box<Set<'static>>> {
        let (device_v4, device_v6) = split(&self.device_networks);
        let (vpc_v4, _) = split(&self.vpc_networks);
        vec![
            Box::new(set(
                "device_interfaces",
                SetType::Ifname,
                interfaces(&self.device_interfaces),
            )),
            Box::new(set(
                "tunnel_interfaces",
                SetType::Ifname,
                interfaces(&self.tunnel_interfaces),
            )),
            network_set("device_v4", SetType::Ipv4Addr, device_v4),
            network_set("device_v6", SetType::Ipv6Addr, device_v6),
            network_set("vpc_v4", SetType::Ipv4Addr, vpc_v4),
            Box::new(set(
                "ports",
                SetType::InetService,
                self.ports.iter().map(|port| Expression::Number(u32::from(*port))).collect(),
            )),
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
        let mut rules = vec![self.tproxy("ip", "device_v4", LISTEN_V4)];
        if self.families() == Families::Both {
            rules.push(self.tproxy("ip6", "device_v6", LISTEN_V6));
        }
        rules
    }

    fn tproxy(&self, family: &'static str, devices: &'static str, listener: IpAddr) -> Object {
        rule(
            "from_device",
            vec![
                field_is(family, "saddr", reference(devices)),
                field_is("tcp", "dport", reference("ports")),
                Statement::TProxy(TProxy {
                    family: Some(Cow::Borrowed(family)),
                    port: self.listen_port,
                    addr: Some(Cow::Owned(listener.to_string())),
                }),
                mark_intercepted(),
                Statement::Accept(None),
            ],
        )
    }
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
    let port = |protocol, port| field_is(protocol, "dport", Expression::Number(port));
    let tcp = || meta_is(MetaKey::L4proto, text("tcp"));
    let ipv6 = || meta_is(MetaKey::Nfproto, text("ipv6"));
    vec![
        (vec![port("udp", 443)], Reason::QuicBlocked, prohibit()),
        (vec![port("udp", 53)], Reason::DnsForeignResolver, prohibit()),
        (vec![port("tcp", 53)], Reason::DnsForeignResolver, reset()),
        (vec![ipv6(), tcp()], Reason::Ipv6Blocked, reset()),
        (vec![ipv6()], Reason::Ipv6Blocked, prohibit()),
        (vec![tcp()], Reason::TcpPortBlocked, reset()),
        (vec![meta_is(MetaKey::L4proto, text("icmp"))], Reason::IcmpBlocked, prohibit()),
        (vec![], Reason::UdpBlocked, prohibit()),
    ]
}

fn split(networks: &[IpNet]) -> (Vec<IpNet>, Vec<IpNet>) {
    // Overlapping intervals are refused by nft, so networks inside others are left out.
    IpNet::aggregate(&networks.to_vec()).into_iter().partition(|net| matches!(net, IpNet::V4(_)))
}

fn interfaces(names: &[InterfaceName]) -> Vec<Expression<'static>> {
    names.iter().map(|name| text(name.as_str().to_owned())).collect()
}

fn network_set(name: &'static str, kind: SetType, networks: Vec<IpNet>) -> Box<Set<'static>> {
    let elements = networks.into_iter().map(|network| {
        if network.prefix_len() == network.max_prefix_len() {
            return text(network.addr().to_string());
        }
        Expression::Named(NamedExpression::Prefix(Prefix {
            addr: Box::new(text(network.addr().to_string())),
            len: u32::from(network.prefix_len()),
        }))
    });
    Box::new(Set {
        flags: Some(HashSet::from([SetFlag::Interval])),
        ..set(name, kind, elements.collect())
    })
}

pub(super) fn set(
    name: &'static str,
    kind: SetType,
    elements: Vec<Expression<'static>>,
) -> Set<'static> {
    Set {
        family: NfFamily::INet,
        table: Cow::Borrowed(TABLE),
        name: Cow::Borrowed(name),
        set_type: SetTypeValue::Single(kind),
        elem: some_unless_empty(elements),
        ..Set::default()
    }
}

fn some_unless_empty(
    elements: Vec<Expression<'static>>,
) -> Option<Cow<'static, [Expression<'static>]>> {
    (!elements.is_empty()).then_some(Cow::Owned(elements))
}

pub(super) fn counter(name: impl Into<Cow<'static, str>>) -> Object {
    Object::Known(NfListObject::Counter(Counter {
        family: NfFamily::INet,
        table: Cow::Borrowed(TABLE),
        name: name.into(),
        handle: None,
        packets: Some(0),
        bytes: Some(0),
    }))
}

fn base_chain(name: &'static str, hook: NfHook, priority: i32) -> Object {
    Object::Known(NfListObject::Chain(Chain {
        _type: Some(NfChainType::Filter),
        hook: Some(hook),
        prio: Some(priority),
        policy: Some(NfChainPolicy::Accept),
        ..own_chain(name)
    }))
}

fn chain(name: &'static str) -> Object {
    Object::Known(NfListObject::Chain(own_chain(name)))
}

fn own_chain(name: &'static str) -> Chain<'static> {
    Chain {
        family: NfFamily::INet,
        table: Cow::Borrowed(TABLE),
        name: Cow::Borrowed(name),
        ..Chain::default()
    }
}

pub(super) fn rule(chain: &'static str, statements: Vec<Statement<'static>>) -> Object {
    Object::Known(NfListObject::Rule(Rule {
        family: NfFamily::INet,
        table: Cow::Borrowed(TABLE),
        chain: Cow::Borrowed(chain),
        expr: Cow::Owned(statements),
        ..Rule::default()
    }))
}

pub(super) fn matches(
    left: NamedExpression<'static>,
    op: Operator,
    right: Expression<'static>,
) -> Statement<'static> {
    Statement::Match(Match { left: Expression::Named(left), right, op })
}

fn meta_is(key: MetaKey, right: Expression<'static>) -> Statement<'static> {
    matches(NamedExpression::Meta(Meta { key }), Operator::EQ, right)
}

fn meta_is_not(key: MetaKey, right: Expression<'static>) -> Statement<'static> {
    matches(NamedExpression::Meta(Meta { key }), Operator::NEQ, right)
}

fn field_is(
    protocol: &'static str,
    name: &'static str,
    right: Expression<'static>,
) -> Statement<'static> {
    Statement::Match(Match { left: field(protocol, name), right, op: Operator::EQ })
}

/// A field of the packet.
pub(super) fn field(protocol: &'static str, name: &'static str) -> Expression<'static> {
    let field = PayloadField { protocol: Cow::Borrowed(protocol), field: Cow::Borrowed(name) };
    Expression::Named(NamedExpression::Payload(Payload::PayloadField(field)))
}

/// What the kernel knows of the packet.
pub(super) fn meta(key: MetaKey) -> Expression<'static> {
    Expression::Named(NamedExpression::Meta(Meta { key }))
}

/// `fib saddr . iif oif missing`: no route to the source leads back by the same interface.
fn no_route_back() -> Statement<'static> {
    let fib = Fib { result: FibResult::Oif, flags: HashSet::from([FibFlag::Saddr, FibFlag::Iif]) };
    matches(NamedExpression::Fib(fib), Operator::EQ, Expression::Boolean(false))
}

/// The packet is for the box itself, or for everybody on the link.
fn for_the_box() -> Statement<'static> {
    let fib = Fib { result: FibResult::Type, flags: HashSet::from([FibFlag::Daddr]) };
    matches(
        NamedExpression::Fib(fib),
        Operator::EQ,
        any_of(&["local", "broadcast", "anycast", "multicast"]),
    )
}

fn not_unicast() -> Statement<'static> {
    meta_is(MetaKey::Pkttype, any_of(&["broadcast", "multicast"]))
}

/// What IPv6 needs to find its neighbours (RFC 4861); ARP does not pass these hooks.
fn neighbour_discovery() -> Statement<'static> {
    field_is(
        "icmpv6",
        "type",
        any_of(&["nd-router-solicit", "nd-neighbor-solicit", "nd-neighbor-advert"]),
    )
}

/// The packet belongs to a connection of the gate's own, by the mark of its socket; also an ICMP
/// error about one. Not a socket in TIME_WAIT, whose addresses a new SYN may use again: that has no
/// mark, and `tproxy` knows what to do with it.
fn own_socket() -> Statement<'static> {
    let socket = Socket { key: Cow::Owned(SocketAttr::Mark) };
    matches(NamedExpression::Socket(socket), Operator::EQ, Expression::Number(MARK_DEVICE))
}

fn mark_intercepted() -> Statement<'static> {
    Statement::Mangle(Mangle {
        key: Expression::Named(NamedExpression::Meta(Meta { key: MetaKey::Mark })),
        value: Expression::Number(MARK_INTERCEPTED),
    })
}

pub(super) fn any_of(values: &[&'static str]) -> Expression<'static> {
    Expression::Named(NamedExpression::Set(
        values.iter().map(|value| SetItem::Element(text(*value))).collect(),
    ))
}

pub(super) fn jump(target: &'static str) -> Statement<'static> {
    Statement::Jump(JumpTarget { target: Cow::Borrowed(target) })
}

pub(super) fn count(name: impl Into<Cow<'static, str>>) -> Statement<'static> {
    Statement::Counter(CounterRef::Named(name.into()))
}

fn reference(set: &'static str) -> Expression<'static> {
    text(format!("@{set}"))
}

fn text(value: impl Into<Cow<'static, str>>) -> Expression<'static> {
    Expression::String(value.into())
}

/// Priorities as nft(8) names them: mangle -150, filter 0.
const BASE_CHAINS: [(&str, NfHook, i32); 4] = [
    ("prerouting", NfHook::Prerouting, -150),
    ("input", NfHook::Input, 0),
    ("forward", NfHook::Forward, 0),
    ("output", NfHook::Output, 0),
];
const CHAINS: [&str; 6] = ["from_device", "to_box", "egress", "tally_a", "tally_b", "refuse"];
