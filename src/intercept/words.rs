//! The vocabulary of the rules: objects of the table, commands, statements and expressions.

use std::borrow::Cow;
use std::collections::HashSet;

use ipnet::IpNet;
use nftables::expr::{
    Expression, Fib, FibFlag, FibResult, Meta, MetaKey, NamedExpression, Payload, PayloadField,
    Prefix, SetItem, Socket, SocketAttr,
};
use nftables::schema::{
    Chain, Counter, FlushObject, NfListObject, Rule, Set, SetFlag, SetType, SetTypeValue,
};
use nftables::stmt::{Counter as CounterRef, JumpTarget, Mangle, Match, Operator, Statement};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};
use serde::Serialize;

use super::ruleset::TABLE;
use super::tally::CountingSet;
use crate::config::InterfaceName;
use crate::net::{MARK_DEVICE, MARK_INTERCEPTED};

/// One object of the table, which serialises as nft's JSON has it (libnftables-json(5)).
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Object {
    /// Anything but a set that counts.
    Known(NfListObject<'static>),
    /// A set that counts.
    Counting(CountingSet),
}

/// One command of a transaction.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Command {
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

pub(super) fn split(networks: &[IpNet]) -> (Vec<IpNet>, Vec<IpNet>) {
    // Overlapping intervals are refused by nft, so networks inside others are left out.
    IpNet::aggregate(&networks.to_vec()).into_iter().partition(|net| matches!(net, IpNet::V4(_)))
}

pub(super) fn interfaces(names: &[InterfaceName]) -> Vec<Expression<'static>> {
    names.iter().map(|name| text(name.as_str().to_owned())).collect()
}

pub(super) fn network_set(name: &'static str, kind: SetType, networks: Vec<IpNet>) -> Set<'static> {
    let elements = networks.into_iter().map(|network| {
        if network.prefix_len() == network.max_prefix_len() {
            return text(network.addr().to_string());
        }
        Expression::Named(NamedExpression::Prefix(Prefix {
            addr: Box::new(text(network.addr().to_string())),
            len: u32::from(network.prefix_len()),
        }))
    });
    Set { flags: Some(HashSet::from([SetFlag::Interval])), ..set(name, kind, elements.collect()) }
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

pub(super) fn some_unless_empty(
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

pub(super) fn base_chain(name: &'static str, hook: NfHook, priority: i32) -> Object {
    Object::Known(NfListObject::Chain(Chain {
        _type: Some(NfChainType::Filter),
        hook: Some(hook),
        prio: Some(priority),
        policy: Some(NfChainPolicy::Accept),
        ..own_chain(name)
    }))
}

pub(super) fn chain(name: &'static str) -> Object {
    Object::Known(NfListObject::Chain(own_chain(name)))
}

pub(super) fn own_chain(name: &'static str) -> Chain<'static> {
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

pub(super) fn meta_is(key: MetaKey, right: Expression<'static>) -> Statement<'static> {
    matches(NamedExpression::Meta(Meta { key }), Operator::EQ, right)
}

pub(super) fn meta_is_not(key: MetaKey, right: Expression<'static>) -> Statement<'static> {
    matches(NamedExpression::Meta(Meta { key }), Operator::NEQ, right)
}

pub(super) fn field_is(
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
pub(super) fn no_route_back() -> Statement<'static> {
    let fib = Fib { result: FibResult::Oif, flags: HashSet::from([FibFlag::Saddr, FibFlag::Iif]) };
    matches(NamedExpression::Fib(fib), Operator::EQ, Expression::Boolean(false))
}

/// The packet is for the box itself, or for everybody on the link.
pub(super) fn for_the_box() -> Statement<'static> {
    let here = any_of(&["local", "broadcast", "anycast", "multicast"]);
    matches(destination_type(), Operator::EQ, here)
}

/// The packet is for an address of the box's own.
pub(super) fn addressed_to_the_box() -> Statement<'static> {
    matches(destination_type(), Operator::EQ, text("local"))
}

/// The packet is for one host, whichever: nobody can answer from another kind of address.
pub(super) fn addressed_to_one() -> Statement<'static> {
    let many = any_of(&["broadcast", "anycast", "multicast"]);
    matches(destination_type(), Operator::NEQ, many)
}

fn destination_type() -> NamedExpression<'static> {
    let flags = HashSet::from([FibFlag::Daddr]);
    NamedExpression::Fib(Fib { result: FibResult::Type, flags })
}

/// The destination's port.
pub(super) fn port_is(protocol: &'static str, port: u16) -> Statement<'static> {
    field_is(protocol, "dport", Expression::Number(u32::from(port)))
}

pub(super) fn not_unicast() -> Statement<'static> {
    meta_is(MetaKey::Pkttype, any_of(&["broadcast", "multicast"]))
}

/// What IPv6 needs to find its neighbours (RFC 4861); ARP does not pass these hooks.
pub(super) fn neighbour_discovery() -> Statement<'static> {
    field_is(
        "icmpv6",
        "type",
        any_of(&["nd-router-solicit", "nd-neighbor-solicit", "nd-neighbor-advert"]),
    )
}

/// The packet belongs to a connection of the gate's own, by the mark of its socket; also an ICMP
/// error about one. Not a socket in TIME_WAIT, whose addresses a new SYN may use again: that has no
/// mark, and `tproxy` knows what to do with it.
pub(super) fn own_socket() -> Statement<'static> {
    let socket = Socket { key: Cow::Owned(SocketAttr::Mark) };
    matches(NamedExpression::Socket(socket), Operator::EQ, Expression::Number(MARK_DEVICE))
}

pub(super) fn mark_intercepted() -> Statement<'static> {
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

pub(super) fn reference(set: &'static str) -> Expression<'static> {
    text(format!("@{set}"))
}

pub(super) fn text(value: impl Into<Cow<'static, str>>) -> Expression<'static> {
    Expression::String(value.into())
}
