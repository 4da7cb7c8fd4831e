//! Sites without a file.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

use crate::config::*;
use crate::name::ServerName;
use crate::policy::{Asking, Denial, Grant, Policy};
use crate::reason::Reason;

pub(super) const IOT: &str = "a1b2c3d4e5f6g7-ats.iot.eu-central-1.amazonaws.com";
pub(super) const CREDENTIALS: &str = "c1d2e3f4g5h6i7.credentials.iot.eu-central-1.amazonaws.com";
pub(super) const ACCOUNT: &str = "123456789012";
pub(super) const MAC_A: &str = "00:1b:1b:00:00:0a";
pub(super) const MAC_B: &str = "00:1b:1b:00:00:0b";

/// A site in eu-central-1 without endpoints and devices; devices in 10.10.0.0/16, VPC 10.20.0.0/16.
pub(super) fn bare() -> Site {
    Site {
        name: "augsburg-2".into(),
        region: "eu-central-1".into(),
        account: Some(ACCOUNT.into()),
        devices: Devices {
            interfaces: vec![InterfaceName::parse("lan0").expect("an interface name")],
            networks: vec![net("10.10.0.0/16"), net("2001:db8:10::/64")],
        },
        tunnel: Tunnel {
            interfaces: Vec::new(),
            source: None,
            each: Vec::new(),
            return_after: Duration::ZERO,
        },
        resolver: Resolver { inbound: Vec::new(), last_good: Duration::from_secs(86_400) },
        vpc: Vpc { networks: vec![net4("10.20.0.0/16")], zones: Vec::new() },
        endpoints: Vec::new(),
        policy: PolicyConfig { mode: PolicyMode::Enforce, default: Vec::new() },
        device_entries: Vec::new(),
        expectations: Vec::new(),
        intercept: Intercept { port: 15_443, data_threads: None, relay: Default::default() },
        limits: Limits::default(),
        dns: Dns::Off,
        audit: AuditConfig {
            directory: "/nowhere".into(),
            keys: "/nowhere/keys".into(),
            retention: Retention::default(),
            report_every: Duration::from_mins(15),
        },
        admin: Admin {
            listen: (Ipv4Addr::LOCALHOST, 9443).into(),
            socket: "/nowhere/control.sock".into(),
            certificate: None,
            key: None,
            token_file: None,
            clients: None,
        },
        health: Health::default(),
        canary: None,
        hash: "ab".repeat(32),
    }
}

/// A site with the endpoints of a Greengrass core, all of them allowed to every device.
pub(super) fn plant() -> Site {
    let mut site = bare();
    site.endpoints = vec![
        table("iot-data", Service::IotData, &[IOT]),
        table("iot-credentials", Service::IotCredentials, &[CREDENTIALS]),
        EndpointConfig { buckets: vec!["parts".into()], ..table("s3", Service::S3, &[]) },
        table("ecr", Service::Ecr, &[]),
        EndpointConfig {
            ports: Some(vec![443, 8443]),
            ..table("historian", Service::Custom, &["historian.corp.example"])
        },
    ];
    site.policy.default = site.endpoints.iter().map(|table| table.id.clone()).collect();
    site
}

pub(super) fn table(id: &str, service: Service, hosts: &[&str]) -> EndpointConfig {
    EndpointConfig {
        id: id.into(),
        service,
        hosts: hosts.iter().map(|host| name(host)).collect(),
        ports: None,
        networks: vec![net4("10.20.0.0/16")],
        buckets: Vec::new(),
        path_style: false,
        any_bucket: false,
        accounts: Vec::new(),
        connects_per_second: None,
    }
}

/// A device entry; empty texts for what it has not.
pub(super) fn device(name: &str, mac: &str, address: &str, allow: &[&str]) -> DeviceEntry {
    DeviceEntry {
        name: name.into(),
        mac: (!mac.is_empty()).then(|| mac.parse().expect("a MAC")),
        address: (!address.is_empty()).then(|| net(address)),
        allow: allow.iter().map(|id| (*id).into()).collect(),
        without_sni: false,
    }
}

/// Who asks; an empty text for a MAC that is not known.
pub(super) fn asking(address: &str, mac: &str) -> Asking {
    Asking {
        address: address.parse().expect("an address"),
        mac: (!mac.is_empty()).then(|| mac.parse().expect("a MAC")),
    }
}

pub(super) fn name(text: &str) -> ServerName {
    text.parse().expect("a host name")
}

/// A network, or an address as the network of itself.
pub(super) fn net(text: &str) -> IpNet {
    let host = |_| text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(host).expect("a network or an address")
}

pub(super) fn net4(text: &str) -> Ipv4Net {
    text.parse().expect("a network")
}

/// What a device without an entry gets.
pub(super) fn ask(site: &Site, text: &str, port: u16) -> Result<Grant, Denial> {
    Policy::compile(site).judge(asking("10.10.9.9", ""), &name(text), port).outcome
}

#[track_caller]
pub(super) fn allows(site: &Site, text: &str, port: u16) -> Grant {
    ask(site, text, port).expect(text)
}

/// Asserts the reason and a word of the remedy (the reason's general one where there is no other).
#[track_caller]
pub(super) fn refuses(site: &Site, text: &str, port: u16, reason: Reason, word: &str) -> Denial {
    let denial = ask(site, text, port).expect_err(text);
    assert_eq!(denial.reason, reason, "{text}: {denial:?}");
    let remedy = denial.remedy().unwrap_or_else(|| reason.remedy().to_owned());
    assert!(remedy.contains(word), "{text}: {remedy}");
    assert!(remedy.ends_with('.'), "{text}: {remedy}");
    denial
}
