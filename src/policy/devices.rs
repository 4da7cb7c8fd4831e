//! Who asks: from an address and a MAC to a `[[device]]` entry.
//!
//! Owns the order of specificity: MAC and address, MAC, host address, longest network. An entry with
//! both MAC and address is recognised by both or not at all:
//!
//! 1. A MAC that only such entries know, asking from another address, is refused.
//! 2. A host address of such an entry is its alone: any other MAC is refused there.
//! 3. A network of such an entry keeps out devices that have no entry as specific of their own.
//! 4. Where the asking MAC is not known, every address inside such an entry is refused, because the
//!    one who asks could be the device of that entry.
//!
//! Without 2 and 4 a neighbour could take a device's permissions by taking its address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::{Asking, Identity};
use crate::config::{DeviceEntry, MacAddr, Site};

/// The endpoints a device may use, as a bit per `[endpoint.*]` table in the order of the file.
#[derive(Debug, Default)]
pub(super) struct Permits(Box<[u64]>);

impl Permits {
    /// The tables with these ids. An id without a table permits nothing.
    pub(super) fn new(tables: &HashMap<Arc<str>, usize>, allow: &[Arc<str>]) -> Self {
        let mut words = vec![0_u64; tables.len().div_ceil(64)];
        for table in allow.iter().filter_map(|id| tables.get(id)) {
            if let Some(word) = words.get_mut(table / 64) {
                *word |= 1 << (table % 64);
            }
        }
        Self(words.into())
    }

    /// Whether a table is among them.
    pub(super) fn has(&self, table: usize) -> bool {
        self.0.get(table / 64).is_some_and(|word| word & (1 << (table % 64)) != 0)
    }
}

/// A compiled `[[device]]` entry.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) name: Arc<str>,
    pub(super) mac: Option<MacAddr>,
    pub(super) address: Option<IpNet>,
    pub(super) permits: Permits,
    pub(super) without_sni: bool,
    /// `device NAME`, for records.
    pub(super) rule: Arc<str>,
}

impl Device {
    fn new(entry: &DeviceEntry, tables: &HashMap<Arc<str>, usize>) -> Self {
        Self {
            name: Arc::clone(&entry.name),
            mac: entry.mac,
            address: entry.address.map(|net| net.trunc()),
            permits: Permits::new(tables, &entry.allow),
            without_sni: entry.without_sni,
            rule: Arc::from(format!("device {}", entry.name)),
        }
    }
}

/// Who asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Who<'p> {
    /// A device with an entry, and what it was recognised by.
    Listed(&'p Arc<Device>, &'static str),
    /// A device without one, in the device networks.
    Unlisted,
    /// An address outside the device networks.
    Outside,
    /// Only one half of a MAC-and-address entry fits.
    Contradiction(&'p Arc<Device>, Contradiction),
}

impl Who<'_> {
    /// Who it is in records. A device that fits only half of an entry is not that entry's device.
    pub(super) fn identity(&self) -> Identity {
        match self {
            Self::Listed(device, by) => Identity { name: Some(Arc::clone(&device.name)), by },
            _ => Identity { name: None, by: "none" },
        }
    }
}

/// Which half of an entry does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contradiction {
    /// The MAC is the entry's, the address is not.
    Address,
    /// The address is the entry's, the MAC is another one.
    Mac,
    /// The address is the entry's, the MAC is not known.
    MacUnknown,
}

/// All entries, indexed for one lookup per flow.
#[derive(Debug)]
pub(super) struct Devices {
    networks: Box<[IpNet]>,
    all: Box<[Arc<Device>]>,
    by_mac: HashMap<MacAddr, OfMac>,
    v4: Box<[Level]>,
    v6: Box<[Level]>,
}

impl Devices {
    pub(super) fn compile(site: &Site, tables: &HashMap<Arc<str>, usize>) -> Self {
        let all: Box<[_]> =
            site.device_entries.iter().map(|entry| Arc::new(Device::new(entry, tables))).collect();
        let mut by_mac: HashMap<MacAddr, OfMac> = HashMap::new();
        for device in &all {
            let Some(mac) = device.mac else { continue };
            let of_mac = by_mac.entry(mac).or_default();
            match device.address {
                Some(net) => of_mac.bound.push((net, Arc::clone(device))),
                None => _ = of_mac.only.get_or_insert_with(|| Arc::clone(device)),
            }
        }
        for of_mac in by_mac.values_mut() {
            of_mac.bound.sort_by_key(|(net, _)| std::cmp::Reverse(net.prefix_len()));
        }
        let (v4, v6) = levels(&all);
        Self { networks: site.devices.networks.clone().into(), all, by_mac, v4, v6 }
    }

    /// Recognises a device. Allocates nothing.
    pub(super) fn identify(&self, asking: Asking) -> Who<'_> {
        // A dual-stack socket shows IPv4 devices as ::ffff:a.b.c.d; entries are written as IPv4.
        let address = asking.address.to_canonical();
        if !self.networks.iter().any(|net| net.contains(&address)) {
            return Who::Outside;
        }
        let of_mac = asking.mac.and_then(|mac| self.by_mac.get(&mac));
        let mut own = None;
        if let Some(of_mac) = of_mac {
            if let Some((_, device)) = of_mac.bound.iter().find(|(net, _)| net.contains(&address)) {
                return Who::Listed(device, "mac");
            }
            own = of_mac.only.as_ref().map(|device| Who::Listed(device, "mac"));
            if let (None, Some((_, device))) = (own, of_mac.bound.first()) {
                return Who::Contradiction(device, Contradiction::Address);
            }
        }
        self.by_address(asking.mac, address, own)
    }

    /// Goes on by address where the MAC alone did not settle it; `own` is its MAC's own entry.
    fn by_address<'p>(
        &'p self,
        mac: Option<MacAddr>,
        address: IpAddr,
        mut own: Option<Who<'p>>,
    ) -> Who<'p> {
        let levels = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        for level in levels {
            let Some(claims) = level.at(address) else { continue };
            let host = level.is_host();
            if own.is_none() {
                let by = if host { "address" } else { "network" };
                own = claims.free.as_ref().map(|device| Who::Listed(device, by));
            }
            let Some(bound) = &claims.bound else { continue };
            match mac {
                None => return Who::Contradiction(bound, Contradiction::MacUnknown),
                Some(_) if host || own.is_none() => {
                    return Who::Contradiction(bound, Contradiction::Mac);
                }
                Some(_) => {}
            }
        }
        own.unwrap_or(Who::Unlisted)
    }

    /// The entry with this name.
    pub(super) fn named(&self, name: &str) -> Option<Who<'_>> {
        let device = self.all.iter().find(|device| &*device.name == name)?;
        Some(Who::Listed(device, if device.mac.is_some() { "mac" } else { "address" }))
    }
}

/// The entries of one MAC.
#[derive(Debug, Default)]
struct OfMac {
    only: Option<Arc<Device>>,
    /// Longest prefix first.
    bound: Vec<(IpNet, Arc<Device>)>,
}

/// The entries of one address or network.
#[derive(Debug, Default)]
struct Claims {
    free: Option<Arc<Device>>,
    bound: Option<Arc<Device>>,
}

/// The entries of one prefix length.
#[derive(Debug)]
struct Level {
    prefix: u8,
    host_prefix: u8,
    claims: HashMap<IpNet, Claims>,
}

impl Level {
    fn is_host(&self) -> bool {
        self.prefix == self.host_prefix
    }

    fn at(&self, address: IpAddr) -> Option<&Claims> {
        self.claims.get(&IpNet::new(address, self.prefix).ok()?.trunc())
    }
}

/// Sorts entries with addresses into levels, longest prefix first, for IPv4 and IPv6.
fn levels(all: &[Arc<Device>]) -> (Box<[Level]>, Box<[Level]>) {
    let mut levels: HashMap<(u8, u8), HashMap<IpNet, Claims>> = HashMap::new();
    for device in all {
        let Some(net) = device.address else { continue };
        let level = levels.entry((net.max_prefix_len(), net.prefix_len())).or_default();
        let claims = level.entry(net).or_default();
        let claim = if device.mac.is_some() { &mut claims.bound } else { &mut claims.free };
        claim.get_or_insert_with(|| Arc::clone(device));
    }
    let mut sorted: Vec<Level> = levels
        .into_iter()
        .map(|((host_prefix, prefix), claims)| Level { prefix, host_prefix, claims })
        .collect();
    sorted.sort_by_key(|level| std::cmp::Reverse(level.prefix));
    let (v4, v6): (Vec<_>, Vec<_>) = sorted.into_iter().partition(|level| level.host_prefix == 32);
    (v4.into(), v6.into())
}
