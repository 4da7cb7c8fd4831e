//! A refusal: what it is about, and its words for those who ask.
//!
//! A verdict hands over the causes only, all of them shared with the policy; what a person reads is
//! written when somebody asks. Nothing here can turn a refusal into a permission.

use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::sync::Arc;

use super::devices::{Contradiction, Device};
use super::names::{Names, Rule};
use super::refusal::{self, SiteFacts};
use super::{Asking, DEFAULT_RULE};
use crate::name::ServerName;
use crate::reason::Reason;

/// A refusal by policy. Made, cloned and dropped without an allocation.
#[derive(Clone)]
pub struct Denial {
    /// Of stage policy.
    pub reason: Reason,
    cause: Cause,
}

#[derive(Clone)]
enum Cause {
    Unknown,
    Outside(IpAddr),
    Contradiction { asking: Asking, device: Arc<Device>, what: Contradiction },
    Permission { rule: Arc<Rule>, by: Arc<str>, device: Option<Arc<str>> },
    Port { names: Arc<Names>, name: ServerName, rule: Arc<Rule>, port: u16 },
    Name { site: Arc<SiteFacts>, name: ServerName },
}

impl Denial {
    /// Refuses a device without an entry where those are allowed nothing.
    pub(super) fn unknown() -> Self {
        Self { reason: Reason::DeviceUnknown, cause: Cause::Unknown }
    }

    /// Refuses an address outside the device networks.
    pub(super) fn outside(asking: Asking) -> Self {
        let cause = Cause::Outside(asking.address.to_canonical());
        Self { reason: Reason::DeviceUnknown, cause }
    }

    /// Refuses a device that fits only half of an entry.
    pub(super) fn contradiction(asking: Asking, device: &Arc<Device>, what: Contradiction) -> Self {
        let cause = Cause::Contradiction { asking, device: Arc::clone(device), what };
        Self { reason: Reason::DeviceNotAllowed, cause }
    }

    /// Refuses an endpoint that is not among those of the device, or of `policy.default`.
    pub(super) fn permission(rule: &Arc<Rule>, by: &Arc<str>, device: Option<&Arc<str>>) -> Self {
        let (rule, by) = (Arc::clone(rule), Arc::clone(by));
        let cause = Cause::Permission { rule, by, device: device.map(Arc::clone) };
        Self { reason: Reason::DeviceNotAllowed, cause }
    }

    /// Refuses a port that none of the name's endpoints has; `rule` is the first of those.
    pub(super) fn port(names: &Arc<Names>, name: &ServerName, rule: &Arc<Rule>, port: u16) -> Self {
        let (names, rule) = (Arc::clone(names), Arc::clone(rule));
        let cause = Cause::Port { names, name: name.clone(), rule, port };
        Self { reason: Reason::PortNotAllowed, cause }
    }

    /// Refuses a name that no endpoint has.
    pub(super) fn name(site: &Arc<SiteFacts>, name: &ServerName) -> Self {
        let cause = Cause::Name { site: Arc::clone(site), name: name.clone() };
        Self { reason: site.reason(name), cause }
    }

    /// A remedy for just this flow, better than the reason's general one.
    pub fn remedy(&self) -> Option<String> {
        match &self.cause {
            Cause::Unknown => None,
            Cause::Outside(address) => Some(format!(
                "{address} is in none of `devices.networks`: correct the device's address, or add \
                 its network."
            )),
            Cause::Contradiction { asking, device, what } => Some(one_half(*asking, device, *what)),
            Cause::Permission { rule, device, .. } => {
                Some(another_allow(&rule.endpoint.id, device.as_deref()))
            }
            Cause::Port { names, name, rule, port } => {
                Some(another_port(&rule.endpoint.id, &names.ports_of(name), *port))
            }
            Cause::Name { site, name } => site.remedy(name),
        }
    }

    /// The rule that refused it, for records.
    pub fn rule(&self) -> Arc<str> {
        match &self.cause {
            Cause::Unknown => Arc::from(DEFAULT_RULE),
            Cause::Outside(_) => Arc::from("devices.networks"),
            Cause::Contradiction { device, .. } => Arc::clone(&device.rule),
            Cause::Permission { by, .. } => Arc::clone(by),
            Cause::Port { rule, .. } => Arc::from(format!("endpoint {}", rule.endpoint.id)),
            Cause::Name { name, .. } => refusal::rule(name),
        }
    }

    /// The `[endpoint.*]` table that has the name, where one has it.
    pub fn endpoint(&self) -> Option<Arc<str>> {
        match &self.cause {
            Cause::Permission { rule, .. } | Cause::Port { rule, .. } => {
                Some(Arc::clone(&rule.endpoint.id))
            }
            _ => None,
        }
    }

    /// The service the name belongs to, where the file or the catalogue knows it.
    pub fn service(&self) -> Option<Arc<str>> {
        match &self.cause {
            Cause::Unknown | Cause::Outside(_) | Cause::Contradiction { .. } => None,
            Cause::Permission { rule, .. } | Cause::Port { rule, .. } => {
                Some(Arc::clone(&rule.endpoint.service))
            }
            Cause::Name { name, .. } => refusal::service(name),
        }
    }
}

impl fmt::Debug for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Denial")
            .field("reason", &self.reason)
            .field("rule", &self.rule())
            .field("service", &self.service())
            .field("remedy", &self.remedy())
            .finish()
    }
}

/// `443`, or `443, 8443 and 8883`, with the word before it.
pub(super) fn list_ports(ports: &[u16]) -> String {
    let texts: Vec<String> = ports.iter().map(u16::to_string).collect();
    match texts.split_last() {
        None => "no port".to_owned(),
        Some((only, [])) => format!("port {only}"),
        Some((last, others)) => format!("ports {} and {last}", others.join(", ")),
    }
}

fn one_half(asking: Asking, device: &Device, what: Contradiction) -> String {
    let address = asking.address.to_canonical();
    let mut remedy = format!("Device \"{}\" is bound to{}", device.name, bound_to(device));
    let _ = match (what, asking.mac) {
        (Contradiction::Address, _) => write!(
            remedy,
            ", but its MAC asked from {address}: give the device its address back, or correct \
             `address` in its entry."
        ),
        (Contradiction::Mac, Some(mac)) => write!(
            remedy,
            ", but MAC {mac} asked from {address}: find the device with that MAC (an address \
             conflict, or a stolen address), or correct `mac` in the entry after a replacement."
        ),
        _ => write!(
            remedy,
            ", but the MAC behind {address} is not known: connect the device to a device interface \
             without a router in between, or remove `mac` from its entry."
        ),
    };
    remedy
}

/// ` MAC 00:00:5e:00:53:03 at 10.10.3.7`, as far as the entry says it.
pub(super) fn bound_to(device: &Device) -> String {
    let mut text = String::new();
    if let Some(mac) = device.mac {
        let _ = write!(text, " MAC {mac}");
    }
    if let Some(net) = device.address {
        let _ = write!(text, " at {}", show_net(net));
    }
    text
}

fn another_allow(id: &str, device: Option<&str>) -> String {
    device.map_or_else(
        || format!("If the device needs it, add a [[device]] entry for it that allows \"{id}\"."),
        |name| format!("If the device needs it, add \"{id}\" to `allow` of device \"{name}\"."),
    )
}

fn another_port(id: &str, ports: &[u16], port: u16) -> String {
    format!(
        "[endpoint.{id}] has {}: use one of these in the device's settings, or add {port} to \
         `ports` of [endpoint.{id}].",
        list_ports(ports)
    )
}

fn show_net(net: ipnet::IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}
