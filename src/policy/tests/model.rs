//! Verdicts against a model: the rules as one would say them, tried one by one.

use std::cmp::Reverse;

use ipnet::IpNet;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::support::*;
use crate::config::{DeviceEntry, EndpointConfig, MacAddr, Service, Site};
use crate::policy::{Asking, Policy};

const HOSTS: &[&str] = &[
    IOT,
    CREDENTIALS,
    "historian.corp.example",
    "greengrass-ats.iot.eu-central-1.amazonaws.com",
    "parts.s3.eu-central-1.amazonaws.com",
    "logs.us-east-1.amazonaws.com",
];
const BUCKETS: &[&str] = &["parts", "my.parts"];
const ADDRESSES: &[&str] = &["10.10.3.7", "10.10.3.8", "10.10.4.1", "2001:db8:10::7", "192.0.2.1"];
const NETWORKS: &[&str] =
    &["10.10.3.7", "10.10.3.8", "10.10.3.0/24", "10.10.0.0/16", "2001:db8:10::/64", "192.0.2.1"];
const MACS: &[&str] = &[MAC_A, MAC_B, "00:1b:1b:00:00:0c"];
pub(super) const PORTS: &[u16] = &[443, 8443, 8883, 9000];

fn endpoints() -> impl Strategy<Value = Vec<EndpointConfig>> {
    let hosts = || subsequence(HOSTS, 0..=3);
    let ports = prop::option::of(subsequence(PORTS, 1..=2));
    let iot = (hosts(), ports.clone()).prop_map(|(hosts, ports)| EndpointConfig {
        ports,
        ..table("iot-data", Service::IotData, &hosts)
    });
    let custom = (hosts(), ports).prop_map(|(hosts, ports)| EndpointConfig {
        ports,
        ..table("custom", Service::Custom, &hosts)
    });
    let s3 = (subsequence(BUCKETS, 0..=2), any::<bool>(), prop::bool::weighted(0.2)).prop_map(
        |(buckets, path_style, any_bucket)| EndpointConfig {
            buckets: buckets.into_iter().map(Into::into).collect(),
            path_style,
            any_bucket,
            ..table("s3", Service::S3, &[])
        },
    );
    let ecr = Just(table("ecr", Service::Ecr, &[]));
    let logs = Just(table("logs", Service::Logs, &[]));
    (iot, custom, s3, ecr, logs)
        .prop_flat_map(|(a, b, c, d, e)| subsequence(vec![a, b, c, d, e], 0..=5))
}

fn allow() -> impl Strategy<Value = Vec<&'static str>> {
    subsequence(vec!["iot-data", "custom", "s3", "ecr", "logs"], 0..=5)
}

pub(super) fn site() -> impl Strategy<Value = Site> {
    let entry = (prop::option::of(select(MACS)), prop::option::of(select(NETWORKS)), allow());
    let entries = prop::collection::vec(entry, 0..6);
    (endpoints(), entries, allow()).prop_map(|(endpoints, entries, default)| {
        let mut site = bare();
        site.endpoints = endpoints;
        site.policy.default = default.into_iter().map(Into::into).collect();
        for (number, (mac, address, allow)) in entries.into_iter().enumerate() {
            if mac.is_some() || address.is_some() {
                let (mac, address) = (mac.unwrap_or_default(), address.unwrap_or_default());
                site.device_entries.push(device(&format!("d{number}"), mac, address, &allow));
            }
        }
        site
    })
}

pub(super) fn some_name() -> impl Strategy<Value = String> {
    let near = select(vec![
        "s3.eu-central-1.amazonaws.com",
        "parts.s3.eu-central-1.amazonaws.com",
        "my.parts.s3.dualstack.eu-central-1.amazonaws.com",
        "api.ecr.eu-central-1.amazonaws.com",
        "123456789012.dkr.ecr.eu-central-1.amazonaws.com",
        "123456789012.dkr-ecr.eu-central-1.on.aws",
        "prod-eu-central-1-starport-layer-bucket.s3.eu-central-1.amazonaws.com",
        "logs.eu-central-1.amazonaws.com",
        "stream-logs.eu-central-1.api.aws",
    ]);
    let known = prop_oneof![select(HOSTS), near];
    prop_oneof![
        6 => known.clone().prop_map(str::to_owned),
        2 => (known.clone(), "[a-z0-9]{1,3}[.]?").prop_map(|(name, before)| format!("{before}{name}")),
        1 => (known, "[.]?[a-z]{1,3}").prop_map(|(name, behind)| format!("{name}{behind}")),
        1 => "[a-z0-9]{1,8}([.-][a-z0-9]{1,8}){0,4}",
    ]
}

pub(super) fn some_asking() -> impl Strategy<Value = Asking> {
    (select(ADDRESSES), prop::option::of(select(MACS)))
        .prop_map(|(address, mac)| asking(address, mac.unwrap_or_default()))
}

/// The names and ports of a table, said in full.
fn has(table: &EndpointConfig, text: &str, port: u16) -> bool {
    let listed = table.hosts.iter().any(|host| host.as_str() == text);
    let s3 = ["s3.eu-central-1.amazonaws.com", "s3.dualstack.eu-central-1.amazonaws.com"];
    let made = match &*table.id {
        "s3" => s3.iter().any(|s3| {
            let bucket = text.strip_suffix(s3).and_then(|rest| rest.strip_suffix('.'));
            (table.path_style && text == *s3)
                || bucket.is_some_and(|b| table.any_bucket || table.buckets.iter().any(|x| x == b))
        }),
        "ecr" => [
            "api.ecr.eu-central-1.amazonaws.com",
            "ecr.eu-central-1.api.aws",
            "123456789012.dkr.ecr.eu-central-1.amazonaws.com",
            "123456789012.dkr-ecr.eu-central-1.on.aws",
            "prod-eu-central-1-starport-layer-bucket.s3.eu-central-1.amazonaws.com",
            "prod-eu-central-1-starport-layer-bucket.s3.dualstack.eu-central-1.amazonaws.com",
        ]
        .contains(&text),
        "logs" => [
            "logs.eu-central-1.amazonaws.com",
            "logs.eu-central-1.api.aws",
            "stream-logs.eu-central-1.amazonaws.com",
            "stream-logs.eu-central-1.api.aws",
        ]
        .contains(&text),
        _ => false,
    };
    let ports: &[u16] = match &table.ports {
        Some(ports) => ports,
        None if &*table.id == "iot-data" => &[443, 8443, 8883],
        None => &[443],
    };
    (listed || made) && ports.contains(&port)
}

/// The ids that the asker may use: its entry's, the default's, or none.
fn allowed_ids(site: &Site, asking: Asking) -> Vec<String> {
    let nothing = Vec::new();
    if !site.devices.networks.iter().any(|net| net.contains(&asking.address)) {
        return nothing;
    }
    let ids = |entry: &DeviceEntry| entry.allow.iter().map(|id| id.to_string()).collect();
    let covers =
        |entry: &DeviceEntry| entry.address.is_some_and(|net| net.contains(&asking.address));
    let prefix = |entry: &DeviceEntry| entry.address.map_or(0, |net: IpNet| net.prefix_len());
    let is_mac = |entry: &DeviceEntry, mac: MacAddr| entry.mac == Some(mac);
    let of_mac: Vec<&DeviceEntry> = match asking.mac {
        Some(mac) => site.device_entries.iter().filter(|entry| is_mac(entry, mac)).collect(),
        None => Vec::new(),
    };
    let both =
        of_mac.iter().filter(|entry| covers(entry)).min_by_key(|entry| Reverse(prefix(entry)));
    if let Some(entry) = both {
        return ids(entry);
    }
    let own_mac = of_mac.iter().find(|entry| entry.address.is_none());
    if own_mac.is_none() && !of_mac.is_empty() {
        return nothing;
    }
    let by_address = site
        .device_entries
        .iter()
        .filter(|entry| entry.mac.is_none() && covers(entry))
        .min_by_key(|entry| Reverse(prefix(entry)));
    let rank = if own_mac.is_some() { u8::MAX } else { by_address.map_or(0, prefix) };
    for bound in site.device_entries.iter().filter(|entry| entry.mac.is_some() && covers(entry)) {
        let host = bound.address.is_some_and(|net| net.prefix_len() == net.max_prefix_len());
        if asking.mac.is_none() || host || prefix(bound) > rank {
            return nothing;
        }
    }
    match own_mac.copied().or(by_address) {
        Some(entry) => ids(entry),
        None => site.policy.default.iter().map(|id| id.to_string()).collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1024) })]

    #[test]
    fn a_flow_is_allowed_exactly_where_the_model_allows_it(
        site in site(),
        asking in some_asking(),
        text in some_name(),
        port in select(PORTS),
    ) {
        let Ok(name) = text.parse() else { return Ok(()) };
        let policy = Policy::compile(&site);
        let verdict = policy.judge(asking, &name, port);
        let ids = allowed_ids(&site, asking);
        let tables: Vec<&str> = site
            .endpoints
            .iter()
            .filter(|table| has(table, &text, port) && ids.iter().any(|id| **id == *table.id))
            .map(|table| &*table.id)
            .collect();
        match &verdict.outcome {
            Ok(grant) => {
                prop_assert!(tables.contains(&&*grant.endpoint().id), "{grant:?} but {tables:?}");
                prop_assert!(policy.ports().contains(&port));
            }
            Err(denial) => prop_assert!(tables.is_empty(), "{denial:?} but {tables:?}"),
        }
        let explained = policy.trace(asking, &text, port);
        prop_assert_eq!(explained.last().and_then(|step| step.ok), Some(verdict.outcome.is_ok()));
        let stopped = explained.iter().any(|step| step.ok == Some(false));
        prop_assert_eq!(stopped, verdict.outcome.is_err());
    }
}
