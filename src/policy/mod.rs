//! The verdict: which device may reach which name on which port.
//!
//! Pure: a [`Policy`] is compiled from a [`Site`] once, and judging is a function of device, name,
//! port and policy. Only this module can make a [`Grant`].

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::Ipv4Net;

use crate::config::{MacAddr, Site};
use crate::name::ServerName;
use crate::reason::Reason;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asking {
    /// The device's address.
    pub address: IpAddr,
    /// Its hardware address, where the neighbour table knows it.
    pub mac: Option<MacAddr>,
}

/// One configured endpoint, as policy, resolution and records need it. Interned: flows share it.
#[derive(Debug)]
pub struct EndpointRule {
    /// The `[endpoint.*]` table's name.
    pub id: Arc<str>,
    /// The AWS endpoint service, for example `com.amazonaws.eu-central-1.iot.data`; the id where
    /// the catalogue has none.
    pub service: Arc<str>,
    /// The networks its addresses must lie in.
    pub networks: Box<[Ipv4Net]>,
}

/// A device as the policy knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The `[[device]]` entry's name; `None` for a device without one.
    pub name: Option<Arc<str>>,
    /// What it was recognised by: `mac`, `address`, `network` or `none`.
    pub by: &'static str,
}

/// The permission for one flow. Only [`Policy::judge`] makes one.
#[derive(Clone, Debug)]
pub struct Grant {
    endpoint: Arc<EndpointRule>,
    name: ServerName,
    port: u16,
    rule: Arc<str>,
}

impl Grant {
    /// The endpoint it is for.
    pub fn endpoint(&self) -> &Arc<EndpointRule> {
        &self.endpoint
    }

    /// The name it is for.
    pub fn name(&self) -> &ServerName {
        &self.name
    }

    /// The port it is for; the endpoint is dialled on the port the device dialled.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The rule that allowed it, for records: `device press-3` or `policy.default`.
    pub fn rule(&self) -> &Arc<str> {
        &self.rule
    }
}

/// A refusal by policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Of stage policy.
    pub reason: Reason,
    /// A remedy for just this name, better than the reason's general one.
    pub remedy: Option<String>,
    /// The rule that refused it, for records.
    pub rule: Arc<str>,
    /// The service the name belongs to, where the catalogue knows it.
    pub service: Option<Arc<str>>,
}

/// A judged flow: who it was, and what came out.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The device.
    pub identity: Identity,
    /// The permission or the refusal.
    pub outcome: Result<Grant, Denial>,
}

/// A name that is known ahead of time, to be resolved before a device asks for it.
#[derive(Clone, Debug)]
pub struct ExactName {
    /// The name.
    pub name: ServerName,
    /// The endpoint it belongs to.
    pub endpoint: Arc<EndpointRule>,
}

/// The compiled policy of one configuration.
#[derive(Debug)]
pub struct Policy {
    hash: Arc<str>,
}

impl Policy {
    /// Compiles the policy of a site.
    pub fn compile(site: &Site) -> Self {
        Self { hash: Arc::from(site.hash.as_str()) }
    }

    /// Judges a flow.
    pub fn judge(&self, asking: Asking, name: &ServerName, port: u16) -> Verdict {
        let _ = (asking, name, port);
        todo!()
    }

    /// The ports to intercept: those of all endpoints, sorted, without duplicates.
    pub fn ports(&self) -> &[u16] {
        &[]
    }

    /// The names that are allowed exactly.
    pub fn exact_names(&self) -> &[ExactName] {
        &[]
    }

    /// The configuration's hash, which names this policy in records.
    pub fn hash(&self) -> &Arc<str> {
        &self.hash
    }
}
