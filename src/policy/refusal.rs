//! Why a flow is refused, as precisely as the catalogue and the file allow.
//!
//! Runs only once a flow is refused: nothing here can turn a refusal into a permission.

use std::fmt::Write;
use std::sync::Arc;

use super::catalogue::{self, Classified, Kind};
use super::devices::{Contradiction, Device};
use super::names::{Names, Rule};
use super::{Asking, Denial};
use crate::config::{Service, Site};
use crate::name::ServerName;
use crate::reason::Reason;

/// What refusals say about the site.
#[derive(Debug)]
pub(super) struct SiteFacts {
    region: Box<str>,
    account: Option<Box<str>>,
    /// Which table has which service: by its own name, or by what its hosts are.
    tables: Vec<(Service, Arc<str>)>,
    /// Listed hosts with an account-specific prefix, by catalogue row.
    own_names: Vec<(&'static str, ServerName)>,
}

impl SiteFacts {
    pub(super) fn new(site: &Site) -> Self {
        let mut tables: Vec<_> =
            site.endpoints.iter().map(|table| (table.service, Arc::clone(&table.id))).collect();
        let mut own_names = Vec::new();
        for table in &site.endpoints {
            for host in &table.hosts {
                let Some(known) = catalogue::classify(host) else { continue };
                if let Kind::Private(service) = known.kind {
                    tables.push((service, Arc::clone(&table.id)));
                }
                if known.prefix.is_some() && known.region == Some(&site.region) {
                    own_names.push((known.row, host.clone()));
                }
            }
        }
        Self {
            region: site.region.as_str().into(),
            account: site.account.as_deref().map(Into::into),
            tables,
            own_names,
        }
    }

    /// Refuses a name that no endpoint has.
    pub(super) fn name(&self, name: &ServerName) -> Denial {
        let Some(known) = catalogue::classify(name) else {
            return Denial {
                reason: Reason::NameNotAllowed,
                remedy: None,
                rule: Arc::from("no endpoint"),
                endpoint: None,
                service: None,
            };
        };
        let (reason, remedy) = self.reason_for(name, &known);
        let service = known.endpoint_service.as_deref().unwrap_or(known.row);
        Denial {
            reason,
            remedy: Some(remedy),
            rule: Arc::from(format!("catalogue {}", known.row)),
            endpoint: None,
            service: Some(Arc::from(service)),
        }
    }

    /// Public-only comes before the region: its remedy does away with the name altogether.
    fn reason_for(&self, name: &ServerName, known: &Classified<'_>) -> (Reason, String) {
        let general = known.remedy.unwrap_or_default();
        match (known.kind, known.region) {
            (Kind::PublicOnly, _) => (Reason::NamePublicOnly, general.to_owned()),
            (_, Some(region)) if region != &*self.region => {
                (Reason::NameWrongRegion, self.other_region(known, region))
            }
            (Kind::OwnEndpoint, _) => (Reason::NameNotAllowed, general.to_owned()),
            (Kind::Private(service), _) => self.private(service, name, known),
        }
    }

    fn other_region(&self, known: &Classified<'_>, region: &str) -> String {
        format!(
            "The name is {} in {region}, this site is in {site}: configure the device for {site}.",
            known.title,
            site = self.region
        )
    }

    /// A name of a service in the site's region that none of the site's endpoints has.
    fn private(
        &self,
        service: Service,
        name: &ServerName,
        known: &Classified<'_>,
    ) -> (Reason, String) {
        let Some((_, id)) = self.tables.iter().find(|(other, _)| *other == service) else {
            return (Reason::NameNotAllowed, missing_table(service, name, known));
        };
        let hosts = format!("add it to `hosts` of [endpoint.{id}]");
        if known.vpce {
            return (
                Reason::NameNotAllowed,
                format!(
                    "Use the service's own name, or, if the VPC endpoint is this site's, {hosts}."
                ),
            );
        }
        if let Some((_, own)) = self.own_names.iter().find(|(row, _)| *row == known.row) {
            let remedy = format!(
                "This site's name is {own}: configure the device with it (`aws iot \
                 describe-endpoint`). If the name is this site's too, {hosts}."
            );
            return (Reason::NameOtherAccount, remedy);
        }
        if let Some(account) = known.account {
            return self.account(service, account, id, &hosts);
        }
        let remedy = match (known.bucket, service) {
            (Some(bucket), _) => {
                format!(
                    "If the device needs the bucket, add \"{bucket}\" to `buckets` of [endpoint.{id}]."
                )
            }
            (None, Service::S3) if is_path_style(name) => format!(
                "Switch the client to virtual-hosted bucket names, or set `path-style = true` in \
                 [endpoint.{id}] (this lets it ask for any bucket)."
            ),
            _ => format!("If the device needs the name, {hosts}."),
        };
        (Reason::NameNotAllowed, remedy)
    }

    fn account(&self, service: Service, account: &str, id: &str, hosts: &str) -> (Reason, String) {
        let what = match service {
            Service::Ecr => format!("add \"{account}\" to `accounts` of [endpoint.{id}]"),
            _ => hosts.to_owned(),
        };
        match &self.account {
            Some(own) if **own != *account => (
                Reason::NameOtherAccount,
                format!(
                    "The name is account {account}'s, this site's account is {own}: configure the \
                     device with {own}'s name. If the device needs this one, {what}."
                ),
            ),
            None if service == Service::Ecr => {
                (Reason::NameOtherAccount, format!("If the device needs this account, {what}."))
            }
            _ => (Reason::NameNotAllowed, format!("If the device needs the name, {what}.")),
        }
    }
}

/// Refuses a port that none of the name's endpoints has.
pub(super) fn port(names: &Names, name: &ServerName, first: &Rule, port: u16) -> Denial {
    let mut ports: Vec<u16> = names.rules(name).flat_map(|rule| rule.ports.to_vec()).collect();
    ports.sort_unstable();
    ports.dedup();
    let id = &first.endpoint.id;
    let remedy = format!(
        "[endpoint.{id}] has {}: use one of these in the device's settings, or add {port} to \
         `ports` of [endpoint.{id}].",
        list_ports(&ports)
    );
    Denial {
        reason: Reason::PortNotAllowed,
        remedy: Some(remedy),
        rule: Arc::from(format!("endpoint {id}")),
        endpoint: Some(Arc::clone(id)),
        service: Some(Arc::clone(&first.endpoint.service)),
    }
}

/// Refuses an endpoint that is not among those of the device, or of `policy.default`.
pub(super) fn permission(rule: &Rule, by: &Arc<str>, device: Option<&str>) -> Denial {
    let id = &rule.endpoint.id;
    let remedy = device.map_or_else(
        || format!("If the device needs it, add a [[device]] entry for it that allows \"{id}\"."),
        |name| format!("If the device needs it, add \"{id}\" to `allow` of device \"{name}\"."),
    );
    Denial {
        reason: Reason::DeviceNotAllowed,
        remedy: Some(remedy),
        rule: Arc::clone(by),
        endpoint: Some(Arc::clone(id)),
        service: Some(Arc::clone(&rule.endpoint.service)),
    }
}

/// Refuses a device that fits only half of an entry.
pub(super) fn contradiction(asking: Asking, device: &Device, what: Contradiction) -> Denial {
    let address = asking.address.to_canonical();
    let name = &device.name;
    let mut remedy = format!("Device \"{name}\" is bound to{}", bound_to(device));
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
    Denial {
        reason: Reason::DeviceNotAllowed,
        remedy: Some(remedy),
        rule: Arc::clone(&device.rule),
        endpoint: None,
        service: None,
    }
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

/// Refuses a device without an entry where those are allowed nothing.
pub(super) fn unknown() -> Denial {
    Denial {
        reason: Reason::DeviceUnknown,
        remedy: None,
        rule: Arc::from("policy.default"),
        endpoint: None,
        service: None,
    }
}

/// Refuses an address outside the device networks.
pub(super) fn outside(asking: Asking) -> Denial {
    let address = asking.address.to_canonical();
    let remedy = format!(
        "{address} is in none of `devices.networks`: correct the device's address, or add its \
         network."
    );
    Denial {
        reason: Reason::DeviceUnknown,
        remedy: Some(remedy),
        rule: Arc::from("devices.networks"),
        endpoint: None,
        service: None,
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

fn missing_table(service: Service, name: &ServerName, known: &Classified<'_>) -> String {
    let table = catalogue::table_name(service).unwrap_or("NAME");
    let with = match (known.bucket, known.account, service) {
        _ if known.prefix.is_some() || known.vpce => format!(" with `host = \"{name}\"`"),
        (Some(bucket), ..) => format!(" with `buckets = [\"{bucket}\"]`"),
        (_, Some(account), Service::Ecr) => format!(" with `accounts = [\"{account}\"]`"),
        (_, Some(_), _) => format!(" with `hosts = [\"{name}\"]`"),
        (.., Service::S3) if is_path_style(name) => " with `path-style = true`".to_owned(),
        _ => String::new(),
    };
    format!(
        "{} has no table in this site's configuration: if the device needs it, create its VPC \
         endpoint and add [endpoint.{table}]{with}.",
        known.title
    )
}

fn is_path_style(name: &ServerName) -> bool {
    name.labels().next() == Some("s3")
}

fn show_net(net: ipnet::IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}
