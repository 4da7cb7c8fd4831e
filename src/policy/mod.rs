//! The verdict: which device may reach which name on which port.
//!
//! Pure: a [`Policy`] is compiled from a [`Site`] once, and judging is a function of device, name,
//! port and policy. Only this module can make a [`Grant`], and it makes one only for a name that the
//! configuration lists, or that the catalogue derives from what it lists.

pub mod catalogue;
mod denial;
mod devices;
mod expect;
mod explain;
mod learn;
mod names;
mod refusal;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::Ipv4Net;

use crate::config::{MacAddr, Site};
use crate::name::ServerName;

use devices::{Devices, Permits, Who};
use learn::Learning;
use names::{Admission, Names};
use refusal::SiteFacts;

pub use denial::Denial;
pub use expect::{FailedExpectation, Got};
pub use explain::Step;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asking {
    /// The device's address.
    pub address: IpAddr,
    /// Its hardware address, where the neighbour table knows it.
    pub mac: Option<MacAddr>,
}

/// One device, by what it is recognised by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceKey {
    /// Its hardware address.
    Mac(MacAddr),
    /// Its address, where the neighbour table does not know it.
    Address(IpAddr),
}

impl From<Asking> for DeviceKey {
    fn from(asking: Asking) -> Self {
        asking.mac.map_or(Self::Address(asking.address), Self::Mac)
    }
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

impl EndpointRule {
    /// Whether the endpoint itself needs the server name, so that a flow without it is in vain: AWS IoT
    /// chooses its certificate by it.
    pub fn requires_server_name(&self) -> bool {
        self.service.split('.').any(|part| part == "iot")
    }

    /// Whether it is the data endpoint of AWS IoT Core, which takes so many devices and no more.
    pub fn is_iot_data(&self) -> bool {
        self.service.ends_with(".iot.data")
    }
}

/// A device as the policy knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The `[[device]]` entry's name; `None` for a device without one.
    pub name: Option<Arc<str>>,
    /// What it was recognised by: `mac`, `address`, `network` or `none`.
    pub by: &'static str,
}

/// The permission for one flow. Only [`Policy::judge`] and [`Policy::judge_at`] make one.
#[derive(Clone, Debug)]
pub struct Grant {
    endpoint: Arc<EndpointRule>,
    name: ServerName,
    port: u16,
    rule: Arc<str>,
    /// What was not enforced, in learn mode.
    would_be: Option<Arc<Denial>>,
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

    /// The rule that allowed it, for records: `device press-3`, `policy.default` or `learn`.
    pub fn rule(&self) -> &Arc<str> {
        &self.rule
    }
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
    /// The ports that devices may use.
    pub ports: Box<[u16]>,
    /// Whether every site with this endpoint has it.
    pub offered: Offered,
}

/// Whether the private DNS of an endpoint has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// It must: that it does not resolve is a fault.
    Always,
    /// It depends on how the endpoint was made (dual-stack names): nothing is wrong without it.
    Perhaps,
}

/// The compiled policy of one configuration.
#[derive(Debug)]
pub struct Policy {
    hash: Arc<str>,
    names: Arc<Names>,
    devices: Devices,
    /// Ids of the `[endpoint.*]` tables; the index is the bit in [`Permits`].
    tables: Box<[Arc<str>]>,
    /// `policy.default`; `None` where it is empty.
    default: Option<Permits>,
    default_rule: Arc<str>,
    /// `None` where `policy.mode` is `enforce`.
    learning: Option<Learning>,
    facts: Arc<SiteFacts>,
}

impl Policy {
    /// Compiles the policy of a site.
    pub fn compile(site: &Site) -> Self {
        let tables: Box<[_]> = site.endpoints.iter().map(|table| Arc::clone(&table.id)).collect();
        let bits: HashMap<_, _> =
            tables.iter().enumerate().map(|(bit, id)| (Arc::clone(id), bit)).collect();
        let default = &site.policy.default;
        Self {
            hash: Arc::from(site.hash.as_str()),
            names: Arc::new(Names::compile(site)),
            devices: Devices::compile(site, &bits),
            default: (!default.is_empty()).then(|| Permits::new(&bits, default)),
            default_rule: Arc::from(DEFAULT_RULE),
            learning: Learning::new(site),
            facts: Arc::new(SiteFacts::new(site)),
            tables,
        }
    }

    /// Judges a flow: who asks, then the name, then the port, then whether this device may. Learn
    /// mode plays no part: this is what is enforced once it ends.
    ///
    /// Allocates nothing.
    pub fn judge(&self, asking: Asking, name: &ServerName, port: u16) -> Verdict {
        let who = self.devices.identify(asking);
        Verdict { identity: who.identity(), outcome: self.outcome(asking, &who, name, port) }
    }

    /// Judges a question for a name's addresses: it is granted where a flow to the name would be, on
    /// one port at least; the grant is for that port. Learn mode plays no part: a name that no rule
    /// lists is asked of nobody because a device asks for it.
    pub fn judge_name(&self, asking: Asking, name: &ServerName) -> Verdict {
        let ports = self.names.ports_of(name);
        let mut verdicts = ports.iter().map(|port| self.judge(asking, name, *port));
        let Some(first) = verdicts.next() else { return self.judge(asking, name, HTTPS) };
        if first.outcome.is_ok() {
            return first;
        }
        verdicts.find(|verdict| verdict.outcome.is_ok()).unwrap_or(first)
    }

    /// Whether the names of a device's flows may be inferred from the addresses that it dials.
    pub fn may_omit_sni(&self, asking: Asking) -> bool {
        matches!(self.devices.identify(asking), Who::Listed(device, _) if device.without_sni)
    }

    /// Who a device is, whatever it wants.
    pub fn identify(&self, asking: Asking) -> Identity {
        self.devices.identify(asking).identity()
    }

    /// Judges a granted flow again, under a later policy.
    ///
    /// The endpoint of the new grant may have other networks than the old one's: whether the address
    /// that was dialled still lies in them is for the caller to look at.
    ///
    /// # Errors
    /// The refusal, where the permission is withdrawn.
    pub fn grant_again(&self, asking: Asking, grant: &Grant) -> Result<Grant, Denial> {
        self.judge(asking, &grant.name, grant.port).outcome
    }

    /// Whether a granted flow would be granted by this policy as well.
    pub fn still_grants(&self, asking: Asking, grant: &Grant) -> bool {
        self.grant_again(asking, grant).is_ok()
    }

    /// The ports to intercept: those of all endpoints, sorted, without duplicates.
    pub fn ports(&self) -> &[u16] {
        self.names.ports()
    }

    /// The names that are allowed exactly. A name of two tables is listed with each.
    pub fn exact_names(&self) -> &[ExactName] {
        self.names.listed()
    }

    /// The endpoint that has a name, whoever may use it.
    ///
    /// # Errors
    /// Why there is none, and what to do about it.
    pub fn endpoint_of(&self, name: &ServerName) -> Result<&Arc<EndpointRule>, Denial> {
        let rule = self.names.rules(name).next();
        rule.map(|rule| &rule.endpoint).ok_or_else(|| Denial::name(&self.facts, name))
    }

    /// The configuration's hash, which names this policy in records.
    pub fn hash(&self) -> &Arc<str> {
        &self.hash
    }

    fn outcome(
        &self,
        asking: Asking,
        who: &Who<'_>,
        name: &ServerName,
        port: u16,
    ) -> Result<Grant, Denial> {
        let standing = self.standing(asking, who)?;
        match self.names.admit(name, standing.permits, port) {
            Admission::Granted(rule) => Ok(Grant {
                endpoint: Arc::clone(&rule.endpoint),
                name: name.clone(),
                port,
                rule: Arc::clone(standing.rule),
                would_be: None,
            }),
            Admission::NotPermitted(rule) => {
                Err(Denial::permission(rule, standing.rule, standing.device))
            }
            Admission::WrongPort(rule) => Err(Denial::port(&self.names, name, rule, port)),
            Admission::NoName => Err(Denial::name(&self.facts, name)),
        }
    }

    /// What the one who asks may use at all.
    fn standing<'p>(&'p self, asking: Asking, who: &Who<'p>) -> Result<Standing<'p>, Denial> {
        match (who, &self.default) {
            (Who::Listed(device, _), _) => Ok(Standing {
                permits: &device.permits,
                rule: &device.rule,
                device: Some(&device.name),
            }),
            (Who::Unlisted, Some(permits)) => {
                Ok(Standing { permits, rule: &self.default_rule, device: None })
            }
            (Who::Unlisted, None) => Err(Denial::unknown()),
            (Who::Outside, _) => Err(Denial::outside(asking)),
            (Who::Contradiction(device, what), _) => {
                Err(Denial::contradiction(asking, device, *what))
            }
        }
    }
}

/// What a device may use, and by which rule.
struct Standing<'p> {
    permits: &'p Permits,
    rule: &'p Arc<str>,
    device: Option<&'p Arc<str>>,
}

/// The port of a name that has none here, for the words of its refusal.
const HTTPS: u16 = 443;
/// The rule of devices without an entry, in records.
const DEFAULT_RULE: &str = "policy.default";

#[cfg(test)]
mod tests;
