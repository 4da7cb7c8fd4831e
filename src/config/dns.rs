//! `[dns]` as types.

use std::net::SocketAddr;

use ipnet::Ipv4Net;

use crate::name::ServerName;

/// `[dns]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dns {
    /// `listen = "off"`.
    Off,
    /// `listen = "lan"`.
    Lan(LanDns),
}

impl Dns {
    /// The settings where devices are answered.
    pub fn lan(&self) -> Option<&LanDns> {
        match self {
            Self::Off => None,
            Self::Lan(lan) => Some(lan),
        }
    }
}

/// How devices' questions are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LanDns {
    /// `foreign`: what happens to questions to other resolvers (default [`ForeignDns::Redirect`]).
    pub foreign: ForeignDns,
    /// `other-names`: the answer to names that are not allowed (default [`OtherNames::Refuse`]).
    pub other_names: OtherNames,
    /// `queries-per-second`: of one device; four seconds' worth may come at once (default 50).
    pub queries_per_second: u32,
    /// `synthetic`: the addresses that stand for names to devices without SNI.
    pub synthetic: Option<Ipv4Net>,
    /// `[[dns.forward]]`, in the order of the file.
    pub forwards: Vec<DnsForward>,
}

impl Default for LanDns {
    fn default() -> Self {
        Self {
            foreign: ForeignDns::Redirect,
            other_names: OtherNames::Refuse,
            queries_per_second: 50,
            synthetic: None,
            forwards: Vec::new(),
        }
    }
}

/// `dns.foreign`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForeignDns {
    /// Answer it here.
    Redirect,
    /// Refuse it.
    Refuse,
}

/// `dns.other-names`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherNames {
    /// REFUSED (RFC 1035 section 4.1.1): the truth.
    Refuse,
    /// NXDOMAIN, for devices that ask for ever where they are refused.
    Nxdomain,
}

impl DnsForward {
    /// Whether a name, in lower case and without its last dot, is in the zone.
    pub fn holds(&self, name: &str) -> bool {
        let rest = name.strip_suffix(self.zone.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

/// One `[[dns.forward]]` entry: a zone of the plant's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsForward {
    /// The zone: this name and all below.
    pub zone: ServerName,
    /// Its servers, the first one first, in `devices.networks`; at least one.
    pub servers: Vec<SocketAddr>,
}
