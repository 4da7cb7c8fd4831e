//! What was seen: recorded flows, counted by device and name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use time::OffsetDateTime;

use super::MOST_GROUPS;
use super::flows::{Flow, Recorded};
use crate::config::MacAddr;
use crate::name::ServerName;
use crate::reason::Reason;

/// Every device that was seen, by what it is called.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) flows: u64,
    pub(super) devices: BTreeMap<String, SeenDevice>,
    groups: usize,
    /// Flows that were not counted, because there are too many names.
    pub(super) left_out: u64,
}

/// One device.
#[derive(Debug)]
pub(super) struct SeenDevice {
    pub(super) is_named: bool,
    pub(super) mac: Option<MacAddr>,
    pub(super) address: IpAddr,
    pub(super) names: BTreeMap<ServerName, SeenName>,
    /// Flows that say nothing of what the device may need, by why they were refused.
    pub(super) others: BTreeMap<String, u64>,
    pub(super) span: Span,
}

/// One name that a device asked for.
#[derive(Clone, Debug)]
pub(super) struct SeenName {
    pub(super) ports: BTreeSet<u16>,
    pub(super) allowed: u64,
    pub(super) would_be_refused: u64,
    pub(super) refused: u64,
    /// It was opened: it had an address in the VPC.
    pub(super) is_private: bool,
    /// It had a public address.
    pub(super) is_public: bool,
    pub(super) reasons: BTreeMap<&'static str, u64>,
    pub(super) span: Span,
}

/// How many flows, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) flows: u64,
    pub(super) first: OffsetDateTime,
    pub(super) last: OffsetDateTime,
}

impl Span {
    pub(super) fn new(at: OffsetDateTime) -> Self {
        Self { flows: 0, first: at, last: at }
    }

    pub(super) fn add(&mut self, at: OffsetDateTime) {
        self.flows += 1;
        self.first = self.first.min(at);
        self.last = self.last.max(at);
    }
}

impl Seen {
    pub(super) fn add(&mut self, flow: Flow) {
        self.flows += 1;
        let label = flow.device.label();
        let device = self.devices.get(&label);
        let is_new = match (&flow.name, device) {
            (_, None) => true,
            (Some(name), Some(device)) => !device.names.contains_key(name),
            (None, Some(_)) => false,
        };
        if is_new && self.groups >= MOST_GROUPS {
            self.left_out += 1;
            return;
        }
        self.groups += usize::from(is_new);
        self.devices.entry(label).or_insert_with(|| SeenDevice::new(&flow)).add(flow);
    }

    /// What all devices together showed of a name.
    pub(super) fn names(&self) -> BTreeMap<ServerName, SeenName> {
        let mut all: BTreeMap<ServerName, SeenName> = BTreeMap::new();
        for (name, seen) in self.devices.values().flat_map(|device| &device.names) {
            match all.get_mut(name) {
                Some(known) => known.join(seen),
                None => _ = all.insert(name.clone(), seen.clone()),
            }
        }
        all
    }
}

impl SeenDevice {
    fn new(flow: &Flow) -> Self {
        Self {
            is_named: flow.device.name.is_some(),
            mac: None,
            address: flow.device.address,
            names: BTreeMap::new(),
            others: BTreeMap::new(),
            span: Span::new(flow.at),
        }
    }

    fn add(&mut self, flow: Flow) {
        self.span.add(flow.at);
        self.mac = flow.device.mac.or(self.mac);
        self.address = flow.device.address;
        let other = match (&flow.name, &flow.verdict) {
            (_, Recorded::Contradiction(rule)) => {
                Some(format!("{} (claims to be {rule})", Reason::DeviceNotAllowed))
            }
            (_, Recorded::NotJudged(reason) | Recorded::Denied(reason)) if flow.name.is_none() => {
                Some(reason.to_string())
            }
            _ => None,
        };
        if let Some(other) = other {
            *self.others.entry(other).or_default() += 1;
            return;
        }
        let Some(name) = &flow.name else { return };
        self.names.entry(name.clone()).or_insert_with(|| SeenName::new(flow.at)).add(&flow);
    }
}

impl SeenName {
    fn new(at: OffsetDateTime) -> Self {
        Self {
            ports: BTreeSet::new(),
            allowed: 0,
            would_be_refused: 0,
            refused: 0,
            is_private: false,
            is_public: false,
            reasons: BTreeMap::new(),
            span: Span::new(at),
        }
    }

    fn add(&mut self, flow: &Flow) {
        self.span.add(flow.at);
        self.ports.insert(flow.port);
        let (count, would) = match &flow.verdict {
            _ if flow.behind.is_some() => (&mut self.refused, None),
            Recorded::Allowed => (&mut self.allowed, None),
            Recorded::Learnt(reason) => (&mut self.would_be_refused, Some(*reason)),
            Recorded::Denied(reason) | Recorded::NotJudged(reason) => {
                (&mut self.refused, Some(*reason))
            }
            Recorded::Contradiction(_) => (&mut self.refused, None),
        };
        *count += 1;
        self.is_private |= self.allowed + self.would_be_refused > 0;
        self.is_public |= flow.behind == Some(Reason::AddressPublic);
        if let Some(reason) = flow.behind.or(would) {
            *self.reasons.entry(reason.code()).or_default() += 1;
        }
    }

    fn join(&mut self, other: &Self) {
        self.ports.extend(&other.ports);
        self.is_private |= other.is_private;
        self.is_public |= other.is_public;
    }
}
