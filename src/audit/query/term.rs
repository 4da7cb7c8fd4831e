//! One thing that is asked of a record, and the bytes that a line must have for it.

use std::net::IpAddr;

use ipnet::IpNet;

use super::glob::Glob;
use crate::audit::view::{Sort, Verdict, View};
use crate::config::MacAddr;

/// One thing that is asked of a record.
#[derive(Clone, Debug, PartialEq)]
pub enum Term {
    /// The sort of record.
    Sort(Sort),
    /// What became of the flow.
    Verdict(Verdict),
    /// The device's name, MAC or address.
    Device(Glob),
    /// The device's MAC.
    Mac(MacAddr),
    /// The device's address.
    Source(IpNet),
    /// The address that it dialled.
    Destination(IpNet),
    /// The ENI's address.
    EniAddress(IpNet),
    /// The ENI's id.
    EniId(Glob),
    /// What the device asked for; the pattern is lower case.
    Name(Glob),
    /// The port that it dialled.
    Port(u16),
    /// Why it was refused, would be refused, or how it ended.
    Reason(Glob),
    /// The rule that decided.
    Rule(Glob),
    /// The beginning of the device's JA4.
    Ja4(String),
    /// An application protocol that the device offered.
    Alpn(String),
    /// Bytes of the whole flow.
    Bytes(Compare),
    /// How long the flow took, in ms.
    Duration(Compare),
    /// The flow's id.
    Flow(String),
    /// Sequence numbers, both ends included.
    Sequence(u64, u64),
}

/// A comparison with a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compare {
    /// How.
    pub order: Order,
    /// With what.
    pub with: u64,
}

/// How numbers compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `=`
    Equal,
    /// `>=`
    AtLeast,
    /// `>`
    Greater,
}

/// Bytes that every line has that fits a term.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Needle {
    pub(super) bytes: String,
    /// How few lines have them, by a rule of thumb: more is fewer.
    pub(super) rarity: u8,
}

impl Term {
    /// Whether a record fits.
    pub fn matches(&self, view: &View<'_>) -> bool {
        match self {
            Self::Sort(sort) => view.sort() == *sort,
            Self::Verdict(verdict) => view.verdict() == Some(*verdict),
            Self::Device(glob) => device(view, glob),
            Self::Mac(mac) => {
                let found = view.src_endpoint.mac.as_deref();
                found.and_then(|text| text.parse().ok()) == Some(*mac)
            }
            Self::Source(net) => within(view.src_endpoint.ip, net),
            Self::Destination(net) => within(view.dst_endpoint.ip, net),
            Self::EniAddress(net) => within(view.eni().map(|eni| eni.ip), net),
            Self::EniId(glob) => {
                fits(glob, view.eni().and_then(|eni| eni.interface_uid.as_deref()))
            }
            Self::Name(glob) => fits(glob, view.name()),
            Self::Port(port) => view.dst_endpoint.port == Some(*port),
            Self::Reason(glob) => {
                let egress = &view.unmapped.egress;
                glob.matches(&view.status_code)
                    || fits(glob, egress.reason.as_deref())
                    || fits(glob, egress.would_refuse.as_deref())
            }
            Self::Rule(glob) => fits(glob, view.rule()),
            Self::Ja4(start) => view.ja4().is_some_and(|ja4| ja4.starts_with(start.as_str())),
            Self::Alpn(protocol) => view.alpn().iter().any(|offered| **offered == **protocol),
            Self::Bytes(compare) => view.bytes().is_some_and(|bytes| compare.holds(bytes)),
            Self::Duration(compare) => view.duration.is_some_and(|ms| compare.holds(ms)),
            Self::Flow(uid) => view.flow() == Some(uid),
            Self::Sequence(first, last) => (*first..=*last).contains(&view.metadata.sequence),
        }
    }

    /// What a line has that fits, where something can be said.
    pub(super) fn needle(&self) -> Option<Needle> {
        let (bytes, rarity) = match self {
            Self::Sort(Sort::Flow) | Self::Verdict(Verdict::Allow | Verdict::Error) => return None,
            Self::Bytes(_) | Self::Duration(_) | Self::Sequence(..) => return None,
            Self::Sort(Sort::Dns) => ("\"class_uid\":4003".to_owned(), 2),
            Self::Sort(Sort::System) => ("\"class_uid\":6002".to_owned(), 3),
            Self::Sort(Sort::Packet) => ("\"stage\":\"packet\"".to_owned(), 3),
            Self::Verdict(Verdict::Deny) => ("\"action_id\":2".to_owned(), 2),
            Self::Verdict(Verdict::Learn) => ("would_refuse".to_owned(), 2),
            Self::Device(glob) | Self::EniId(glob) | Self::Name(glob) => literal(glob, 4)?,
            Self::Reason(glob) => literal(glob, 3)?,
            Self::Rule(glob) => literal(glob, 2)?,
            Self::Mac(mac) => (mac.to_string(), 5),
            Self::Source(net) | Self::Destination(net) | Self::EniAddress(net) => host(net)?,
            Self::Port(port) => (format!("\"port\":{port}"), 1),
            Self::Ja4(start) | Self::Alpn(start) => literal(&Glob::new(start), 3)?,
            Self::Flow(uid) => (uid.clone(), 9),
        };
        Some(Needle { bytes, rarity })
    }
}

impl Compare {
    fn holds(self, number: u64) -> bool {
        match self.order {
            Order::Less => number < self.with,
            Order::AtMost => number <= self.with,
            Order::Equal => number == self.with,
            Order::AtLeast => number >= self.with,
            Order::Greater => number > self.with,
        }
    }
}

fn device(view: &View<'_>, glob: &Glob) -> bool {
    let source = &view.src_endpoint;
    fits(glob, source.name.as_deref())
        || fits(glob, source.mac.as_deref())
        || source.ip.is_some_and(|ip| glob.matches(&ip.to_string()))
}

fn fits(glob: &Glob, text: Option<&str>) -> bool {
    text.is_some_and(|text| glob.matches(text))
}

fn within(address: Option<IpAddr>, net: &IpNet) -> bool {
    address.is_some_and(|address| net.contains(&address))
}

/// A pattern of few characters finds more lines than it leaves out.
fn literal(glob: &Glob, rarity: u8) -> Option<(String, u8)> {
    let literal = glob.literal();
    (literal.len() >= SHORTEST).then(|| (literal.to_owned(), rarity))
}

fn host(net: &IpNet) -> Option<(String, u8)> {
    let single = net.prefix_len() == net.max_prefix_len();
    single.then(|| (format!("\"ip\":\"{}\"", net.addr()), 4))
}

const SHORTEST: usize = 2;
