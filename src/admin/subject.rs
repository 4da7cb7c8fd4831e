//! Whom a question is about: a device's name, address or MAC, to what the policy asks for.
//!
//! A flow has an address and mostly a MAC; a person knows one of three. What is missing is taken
//! from the neighbour table, else from the device's entry, else assumed, and what was assumed is
//! said.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::config::{DeviceEntry, MacAddr, Site};
use crate::policy::{Asking, Policy};

/// What is known of the plant's neighbours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// The address that was heard of the MAC in question.
    pub(super) address: Option<IpAddr>,
    /// The MAC that was heard of the address in question.
    pub(super) mac: Option<MacAddr>,
}

/// A device in words.
#[derive(Clone, Debug)]
pub(super) enum Named {
    /// The `[[device]]` entry with this name.
    Entry(DeviceEntry),
    /// An address.
    Address(IpAddr),
    /// A hardware address.
    Mac(MacAddr),
}

/// Who asks, and what of it was assumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) asking: Asking,
    /// A sentence for each assumption.
    pub(super) assumed: Vec<String>,
}

impl Named {
    /// Reads `--device`.
    ///
    /// # Errors
    /// A sentence that says what there is.
    pub(super) fn read(text: &str, site: &Site) -> Result<Self, String> {
        if let Some(entry) = site.device_entries.iter().find(|entry| *entry.name == *text) {
            return Ok(Self::Entry(entry.clone()));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Address(address.to_canonical()));
        }
        if let Ok(mac) = text.parse() {
            return Ok(Self::Mac(mac));
        }
        let known: Vec<Arc<str>> =
            site.device_entries.iter().take(SHOWN).map(|entry| Arc::clone(&entry.name)).collect();
        let known = match known.as_slice() {
            [] => "the configuration names none".to_owned(),
            names => format!("there are {}", names.join(", ")),
        };
        Err(format!("{text:?} is no [[device]] name ({known}), no IP address and no MAC address"))
    }

    /// The MAC to look for among the neighbours.
    pub(super) fn mac(&self) -> Option<MacAddr> {
        match self {
            Self::Entry(entry) => entry.mac,
            Self::Address(_) => None,
            Self::Mac(mac) => Some(*mac),
        }
    }

    /// The address to look for among the neighbours.
    pub(super) fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Entry(entry) => entry.address.and_then(host),
            Self::Address(address) => Some(*address),
            Self::Mac(_) => None,
        }
    }

    /// Fills in what is missing.
    pub(super) fn complete(&self, heard: Heard, site: &Site, policy: &Policy) -> Subject {
        match self {
            Self::Entry(entry) => of_entry(entry, heard, site, policy),
            Self::Address(address) => of_address(*address, heard, site),
            Self::Mac(mac) => {
                let owner = site.device_entries.iter().find(|entry| entry.mac == Some(*mac));
                match owner {
                    Some(entry) => of_entry(entry, heard, site, policy),
                    None => of_mac(*mac, heard, site),
                }
            }
        }
    }
}

/// An entry stands for the device that it describes.
fn of_entry(entry: &DeviceEntry, heard: Heard, site: &Site, policy: &Policy) -> Subject {
    let fits = |address: &IpAddr| entry.address.is_none_or(|net| net.contains(address));
    let known = entry.address.and_then(host).or(heard.address.filter(fits));
    if let Some(address) = known {
        let mac = entry.mac.or(heard.mac);
        let other = heard.mac.filter(|heard| mac != Some(*heard));
        let assumed = other.map(|other| format!("Now another MAC, {other}, is at its address."));
        return Subject { asking: Asking { address, mac }, assumed: assumed.into_iter().collect() };
    }
    let nets = entry.address.map_or_else(|| site.devices.networks.clone(), |net| vec![net]);
    let asking = |address| Asking { address, mac: entry.mac };
    // A network may have parts that other entries claim.
    let is_its_own = |address: &IpAddr| {
        let none = "localhost".parse();
        none.is_ok_and(|name| {
            policy.judge(asking(*address), &name, 443).identity.name.as_deref()
                == Some(&*entry.name)
        })
    };
    let mut candidates = nets.iter().flat_map(|net| net.hosts().take(MOST_TRIED));
    let first = candidates.clone().next().unwrap_or(IpAddr::from([0, 0, 0, 0]));
    let address = candidates.find(is_its_own).unwrap_or(first);
    let assumed = vec![format!("Its address is not known now; {address} was assumed.")];
    Subject { asking: asking(address), assumed }
}

/// An address stands for whoever has it; where nobody was heard, for the one whose it should be.
fn of_address(address: IpAddr, heard: Heard, site: &Site) -> Subject {
    if heard.mac.is_some() {
        let asking = Asking { address, mac: heard.mac };
        return Subject { asking, assumed: Vec::new() };
    }
    let at = |entry: &&DeviceEntry| entry.address.and_then(host) == Some(address);
    let mac = site.device_entries.iter().find(at).and_then(|entry| entry.mac);
    let assumed = match mac {
        Some(_) => vec!["Its MAC is not known now; that of its entry was assumed.".to_owned()],
        None if site.device_entries.iter().any(|entry| entry.mac.is_some()) => {
            vec!["Its MAC is not known here, so entries with a MAC do not fit it.".to_owned()]
        }
        None => Vec::new(),
    };
    Subject { asking: Asking { address, mac }, assumed }
}

fn of_mac(mac: MacAddr, heard: Heard, site: &Site) -> Subject {
    if let Some(address) = heard.address {
        return Subject { asking: Asking { address, mac: Some(mac) }, assumed: Vec::new() };
    }
    let claimed = |address: &IpAddr| {
        site.device_entries.iter().any(|e| e.address.is_some_and(|net| net.contains(address)))
    };
    let mut candidates = site.devices.networks.iter().flat_map(|net| net.hosts().take(MOST_TRIED));
    let address = candidates.find(|address| !claimed(address));
    let address = address.unwrap_or(IpAddr::from([0, 0, 0, 0]));
    let assumed = vec![format!("Its address is not known now; {address} was assumed.")];
    Subject { asking: Asking { address, mac: Some(mac) }, assumed }
}

fn host(net: IpNet) -> Option<IpAddr> {
    (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
}

/// Device names listed to somebody who mistyped one.
const SHOWN: usize = 8;
/// Addresses of a network that are tried for one that is not claimed by another entry.
const MOST_TRIED: usize = 1_024;
