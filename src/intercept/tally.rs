//! Who sent the packets that the rules refuse, and where to: counted by the kernel, exactly.
//!
//! Every refused packet is counted in an element of a dynamic set: hardware address, address,
//! protocol, destination and port. There are two generations of these sets. The rules count into
//! one; [`harvest`] first turns them to the other, and then reads and empties the one that nothing
//! changes any more. So no packet is missed and none is counted twice, under any load and without a
//! copy of any packet. What a set has no room for, or has no hardware address, is counted under its
//! reason in a counter of its own.

#![expect(clippy::indexing_slicing, reason = "a missing key of a JSON value is null, not a panic")]

use std::borrow::Cow;
use std::net::IpAddr;

use nftables::expr::{Expression, MetaKey, NamedExpression};
use nftables::schema::{FlushObject, SetType};
use nftables::stmt::{self, Operator, SetOp, Statement};
use serde::Serialize;
use serde::ser::SerializeMap;
use serde_json::Value;

use super::nft::{self, NftError};
use super::ruleset::{COUNTED, TABLE, refuse_rules, rows};
use super::words::{Command, Object, any_of, count, counter, field, matches, meta, rule, set};
use crate::config::MacAddr;
use crate::reason::Reason;

/// The sets that are counted into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Generation {
    /// The one that a new table begins with.
    A,
    /// The other one.
    B,
}

impl Generation {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::A, Self::B];

    /// The other one.
    pub(super) fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// The chain that counts into its sets.
    pub(super) fn chain(self) -> &'static str {
        match self {
            Self::A => "tally_a",
            Self::B => "tally_b",
        }
    }
}

/// Refused packets that are alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Why.
    pub reason: Reason,
    /// Who and where to; `None` where the kernel had no room for it.
    pub between: Option<Between>,
    /// How many.
    pub packets: u64,
}

/// Who sent packets, and where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Between {
    /// The sender's hardware address, as in the packets.
    pub mac: MacAddr,
    /// The sender.
    pub from: IpAddr,
    /// The protocol's number (IANA).
    pub protocol: u8,
    /// Where to.
    pub to: IpAddr,
    /// The port of TCP and UDP.
    pub port: Option<u16>,
}

/// Takes what was counted since the last call: turns the rules to the other generation, then reads
/// and empties the one that they counted into, and what found no room.
///
/// # Errors
/// nft cannot be run, or there is no table. Nothing is lost then: what was not emptied is read at
/// another time.
pub fn harvest() -> Result<Vec<Tally>, NftError> {
    let active = nft::generation()?;
    nft::run(&turn_to(active.other()), "turning to the other counts of refused packets")?;
    let listed = nft::list_numbers()?.unwrap_or_default();
    let mut tallies = Vec::new();
    for key in KEYS {
        let name = key.set(active);
        let set = listed.iter().map(|object| &object["set"]).find(|set| set["name"] == *name);
        let elements = set.and_then(|set| set["elem"].as_array());
        tallies.extend(elements.into_iter().flatten().filter_map(tally));
    }
    let empty = KEYS.map(|key| {
        let set = set(key.set(active), SetType::Mark, Vec::new());
        Command::Flush(FlushObject::Set(Box::new(set)))
    });
    nft::run(&empty, "emptying the counts of refused packets")?;
    for reason in COUNTED {
        let name = rest(reason);
        let counters = listed.iter().map(|object| &object["counter"]);
        let found = { counters }.find(|counter| counter["name"] == *name);
        // One that cannot be taken now keeps its count until the next time.
        if found.is_some_and(|counter| counter["packets"] != 0)
            && let Ok(packets) = nft::take_counter(&name)
        {
            tallies.push(Tally { reason, between: None, packets });
        }
    }
    Ok(tallies)
}

/// How many packets the rules have refused since the table was made.
///
/// # Errors
/// nft cannot be run or may not read.
pub fn refused() -> Result<u64, NftError> {
    let counters = nft::counters()?;
    Ok(COUNTED.iter().filter_map(|reason| counters.get(reason.code())).sum())
}

/// The rules of `refuse`, counting into a generation.
fn turn_to(generation: Generation) -> Vec<Command> {
    let mut turn = vec![Command::flush_chain("refuse")];
    turn.extend(refuse_rules(generation).into_iter().map(Command::Add));
    turn
}

/// The counters of what finds no room.
pub(super) fn counters() -> impl Iterator<Item = Object> {
    COUNTED.iter().map(|reason| counter(rest(*reason)))
}

/// The sets of both generations.
pub(super) fn sets() -> impl Iterator<Item = Object> {
    let sets = Generation::ALL.into_iter().flat_map(|generation| KEYS.map(|key| (key, generation)));
    sets.map(|(key, generation)| Object::Counting(CountingSet { name: key.set(generation), key }))
}

/// The rules that count a packet which is being refused.
pub(super) fn rules(generation: Generation) -> Vec<Object> {
    let chain = generation.chain();
    let mut rules: Vec<_> =
        KEYS.iter().map(|key| rule(chain, key.statements(generation))).collect();
    for (mut matching, reason, _) in rows() {
        matching.extend([count(rest(reason)), Statement::Return(None)]);
        rules.push(rule(chain, matching));
    }
    rules
}

/// Whether a set is one of those that the kernel fills.
pub(super) fn is_filled_by_packets(name: &str) -> bool {
    Generation::ALL.iter().any(|generation| KEYS.iter().any(|key| key.set(*generation) == name))
}

/// Whether a counter is one of those of what found no room.
pub(super) fn is_rest(name: &str) -> bool {
    name.ends_with(REST)
}

/// The counter of a reason's packets for which a set has no room.
fn rest(reason: Reason) -> Cow<'static, str> {
    format!("{}{REST}", reason.code()).into()
}

/// What refused packets are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    family: Family,
    ports: Ports,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ports {
    With,
    Without,
}

impl Key {
    fn set(self, generation: Generation) -> &'static str {
        match (self.family, self.ports, generation) {
            (Family::V4, Ports::With, Generation::A) => "refused_v4_ports_a",
            (Family::V4, Ports::With, Generation::B) => "refused_v4_ports_b",
            (Family::V4, Ports::Without, Generation::A) => "refused_v4_a",
            (Family::V4, Ports::Without, Generation::B) => "refused_v4_b",
            (Family::V6, Ports::With, Generation::A) => "refused_v6_ports_a",
            (Family::V6, Ports::With, Generation::B) => "refused_v6_ports_b",
            (Family::V6, Ports::Without, Generation::A) => "refused_v6_a",
            (Family::V6, Ports::Without, Generation::B) => "refused_v6_b",
        }
    }

    /// Types of the key, in nft's words.
    fn types(self) -> Vec<&'static str> {
        let address = match self.family {
            Family::V4 => "ipv4_addr",
            Family::V6 => "ipv6_addr",
        };
        let mut types = vec!["ether_addr", address, "inet_proto", address];
        if self.ports == Ports::With {
            types.push("inet_service");
        }
        types
    }

    /// Counts the packet and returns. A packet that has no such key, or finds the set full, goes on
    /// to the next rule.
    fn statements(self, generation: Generation) -> Vec<Statement<'static>> {
        let protocol = match self.family {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        };
        let transport = || NamedExpression::Meta(nftables::expr::Meta { key: MetaKey::L4proto });
        let mut key = vec![
            field("ether", "saddr"),
            field(protocol, "saddr"),
            meta(MetaKey::L4proto),
            field(protocol, "daddr"),
        ];
        let op = match self.ports {
            Ports::With => Operator::EQ,
            Ports::Without => Operator::NEQ,
        };
        if self.ports == Ports::With {
            key.push(field("th", "dport"));
        }
        vec![
            matches(transport(), op, any_of(&["tcp", "udp"])),
            Statement::Set(stmt::Set {
                op: SetOp::Add,
                elem: Expression::Named(NamedExpression::Concat(key)),
                set: format!("@{}", self.set(generation)).into(),
            }),
            Statement::Return(None),
        ]
    }
}

/// A set whose elements count; the `nftables` crate knows none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CountingSet {
    name: &'static str,
    key: Key,
}

impl CountingSet {
    /// In nft(8) syntax.
    pub(super) fn text(&self) -> String {
        format!(
            "\tset {} {{\n\t\ttype {}\n\t\tsize {ROOM}\n\t\tflags dynamic\n\t\tcounter\n\t}}\n\n",
            self.name,
            self.key.types().join(" . ")
        )
    }
}

impl Serialize for CountingSet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut outer = serializer.serialize_map(Some(1))?;
        let inner = serde_json::json!({
            "family": "inet", "table": TABLE, "name": self.name, "type": self.key.types(),
            "size": ROOM, "stmt": [{ "counter": null }],
        });
        outer.serialize_entry("set", &inner)?;
        outer.end()
    }
}

/// An element of a set as nft lists it.
fn tally(element: &Value) -> Option<Tally> {
    let element = &element["elem"];
    let packets = element["counter"]["packets"].as_u64().filter(|packets| *packets > 0)?;
    let key = element["val"]["concat"].as_array()?;
    let text = |at: usize| key.get(at)?.as_str();
    let port = match key.get(4) {
        Some(port) => Some(port.as_u64().and_then(|port| u16::try_from(port).ok())?),
        None => None,
    };
    let between = Between {
        mac: text(0)?.parse().ok()?,
        from: text(1)?.parse().ok()?,
        protocol: u8::try_from(key.get(2)?.as_u64()?).ok()?,
        to: text(3)?.parse().ok()?,
        port,
    };
    Some(Tally { reason: between.reason(), between: Some(between), packets })
}

impl Between {
    /// The reason under which the rules refuse such packets: see `ruleset::rows`.
    fn reason(&self) -> Reason {
        match (self.protocol, self.port) {
            (UDP, Some(443)) => Reason::QuicBlocked,
            (UDP | TCP, Some(53 | 853)) => Reason::DnsForeignResolver,
            _ if self.from.is_ipv6() => Reason::Ipv6Blocked,
            (TCP, _) => Reason::TcpPortBlocked,
            (ICMP, _) => Reason::IcmpBlocked,
            _ => Reason::UdpBlocked,
        }
    }
}

const KEYS: [Key; 4] = [
    Key { family: Family::V4, ports: Ports::With },
    Key { family: Family::V4, ports: Ports::Without },
    Key { family: Family::V6, ports: Ports::With },
    Key { family: Family::V6, ports: Ports::Without },
];
/// Elements of a set between two harvests. nft reads so many in 0.4 s; four times as many take six
/// times as long.
const ROOM: u32 = 1 << 14;
const REST: &str = "_rest";
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
