//! `[canary]`: what is tried from the devices' side, and must never work.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

use crate::config::diagnostics::{Problem, Report};
use crate::config::reader::{At, List, Table};
use crate::config::values::{self, Fault, shown};
use crate::config::{Canary, OnLeak};
use crate::name::{ServerName, Underscore};

use super::{dns, endpoint, network};

/// The table.
pub(in crate::config) struct Draft {
    targets: List<IpAddr>,
    name: Option<At<ServerName>>,
    on_leak: OnLeak,
}

impl Draft {
    pub(super) fn read(
        root: &mut Table<'_>,
        (network, endpoints, dns): (&network::Draft, &endpoint::Draft, &dns::Draft),
        report: &Report,
    ) -> Option<Self> {
        let mut table = root.optional_table("canary")?;
        let name = default_name().map(|value| At { value, span: table.header.clone() });
        let mut draft = Self { targets: List::missing(), name, on_leak: OnLeak::default() };
        if let Some(value) = table.required("targets", TARGETS) {
            draft.targets = value.filled_list(TARGETS, |item| item.parse(public_address));
            if draft.targets.items.len() > MOST_TARGETS {
                let what = format!("`targets` has more than {MOST_TARGETS} addresses");
                let help = "one or two of each family are enough: each is tried in eight ways";
                report.error(Problem::at(value.span.clone(), what).help(help));
            }
        }
        if let Some(value) = table.optional("name") {
            draft.name = value.parse(values::host);
        }
        let choices = [("alarm", OnLeak::Alarm), ("close", OnLeak::Close)];
        if let Some(on_leak) = table.optional("on-leak").and_then(|value| value.choice(&choices)) {
            draft.on_leak = on_leak.value;
        }
        table.finish();
        draft.check_targets(network, report);
        draft.check_name(endpoints, dns, report);
        Some(draft)
    }

    pub(super) fn finish(self) -> Option<Canary> {
        let name = self.name?.value;
        let targets = self.targets.into_values();
        (!targets.is_empty()).then_some(Canary { targets, name, on_leak: self.on_leak })
    }

    /// What devices may reach, or have themselves, proves nothing.
    fn check_targets(&self, network: &network::Draft, report: &Report) {
        let vpc = network.vpc_networks.items.iter();
        let vpc = vpc.map(|net| (IpNet::V4(net.value), &net.span));
        let own = network.device_networks.items.iter().map(|net| (net.value, &net.span));
        let inside: Vec<_> = vpc.chain(own).collect();
        for target in &self.targets.items {
            if let Some((_, span)) = inside.iter().find(|(net, _)| net.contains(&target.value)) {
                let what = format!("the canary's target `{}` is not outside", target.value);
                let problem = Problem::at(target.span.clone(), what)
                    .also((*span).clone(), "it is in this network")
                    .help("write the address of a server on the internet");
                report.error(problem);
            }
        }
    }

    /// A name that is answered would be a false alarm.
    fn check_name(&self, endpoints: &endpoint::Draft, dns: &dns::Draft, report: &Report) {
        let Some(name) = &self.name else { return };
        let of_aws = |name: &str| AWS.iter().any(|domain| name.ends_with(domain));
        let known = endpoints.host(&name.value).or_else(|| dns.zone_of(&name.value));
        if known.is_none() && !of_aws(name.value.as_str()) {
            return;
        }
        let what = format!("devices may use the canary's name `{}`", name.value);
        let mut problem = Problem::at(name.span.clone(), what).help(
            "write a name that resolves publicly and that is nobody's business here, for example \
             example.com",
        );
        if let Some(span) = known {
            problem = problem.also(span.clone(), "by this");
        }
        report.error(problem);
    }
}

/// An address on the public side, which nobody behind the gate may reach.
fn public_address(text: &str) -> Result<IpAddr, Fault> {
    let help = "write the address of a server on the internet that answers whoever reaches it, one \
                for IPv4 and one for IPv6";
    let Ok(address) = text.parse::<IpAddr>() else {
        return Err(Fault::new(format!("`{}` is not an address", shown(text)), help));
    };
    let public = match address {
        IpAddr::V4(address) => {
            !values::not_unicast(address) && !values::is_private(Ipv4Net::from(address))
        }
        // RFC 4291 section 2.4 and RFC 4193: global unicast is 2000::/3.
        IpAddr::V6(address) => address.segments().first().is_some_and(|first| first >> 13 == 1),
    };
    if public {
        return Ok(address);
    }
    Err(Fault::new(format!("`{address}` is not an address on the internet"), help))
}

fn default_name() -> Option<ServerName> {
    ServerName::parse(DEFAULT_NAME, Underscore::Refuse).ok().map(|parsed| parsed.name)
}

const TARGETS: &str = "[\"192.0.2.1\", \"2001:db8::1\"]";
/// Each is tried in eight ways every minute.
const MOST_TARGETS: usize = 8;
/// It resolves everywhere, and no site has an endpoint of the name (RFC 6761 section 6.5).
const DEFAULT_NAME: &[u8] = b"example.com";
/// AWS's own domains, in which the catalogue derives names.
const AWS: [&str; 6] = [
    ".aws",
    ".amazonaws.com",
    ".amazonaws.com.cn",
    ".amazonaws.eu",
    ".amazonwebservices.com.cn",
    ".amazonwebservices.eu",
];
