//! Who is who: specificity, and addresses that are not the asker's own.

use super::support::*;
use crate::config::{DeviceEntry, Site};
use crate::policy::{Denial, Identity, Policy};
use crate::reason::Reason;

fn with(entries: Vec<DeviceEntry>) -> Site {
    Site { device_entries: entries, ..plant() }
}

fn who(site: &Site, address: &str, mac: &str) -> (Option<String>, &'static str) {
    let Identity { name: known, by } =
        Policy::compile(site).judge(asking(address, mac), &name(IOT), 443).identity;
    (known.map(|known| known.to_string()), by)
}

#[track_caller]
fn is(site: &Site, address: &str, mac: &str, expected: &str, by: &str) {
    assert_eq!(who(site, address, mac), (Some(expected.to_owned()), by), "{address} {mac}");
}

#[track_caller]
fn refused(site: &Site, address: &str, mac: &str, word: &str) -> Denial {
    let verdict = Policy::compile(site).judge(asking(address, mac), &name(IOT), 443);
    assert_eq!(verdict.identity, Identity { name: None, by: "none" }, "{address} {mac}");
    let denial = verdict.outcome.expect_err(address);
    assert_eq!(denial.reason, Reason::DeviceNotAllowed);
    assert!(denial.remedy().expect(address).contains(word), "{denial:?}");
    denial
}

#[test]
fn the_most_specific_entry_wins() {
    let site = with(vec![
        device("hall", "", "10.10.0.0/16", &[]),
        device("line", "", "10.10.3.0/24", &[]),
        device("host", "", "10.10.3.7", &[]),
        device("by-mac", MAC_A, "", &[]),
        device("bound", MAC_A, "10.10.4.4", &[]),
    ]);
    is(&site, "10.10.1.1", "", "hall", "network");
    is(&site, "10.10.3.1", "", "line", "network");
    is(&site, "10.10.3.7", "", "host", "address");
    is(&site, "10.10.3.7", MAC_B, "host", "address");
    is(&site, "::ffff:10.10.3.7", MAC_B, "host", "address");
    is(&site, "10.10.3.7", MAC_A, "by-mac", "mac");
    is(&site, "10.10.1.1", MAC_A, "by-mac", "mac");
    is(&site, "10.10.4.4", MAC_A, "bound", "mac");
    let v6 = with(vec![
        device("wide", "", "2001:db8:10::/64", &[]),
        device("one", "", "2001:db8:10::7", &[]),
    ]);
    is(&v6, "2001:db8:10::7", "", "one", "address");
    is(&v6, "2001:db8:10::8", "", "wide", "network");
}

#[test]
fn half_of_an_entry_is_refused() {
    let site = with(vec![
        device("press-3", MAC_A, "10.10.3.7", &["iot-data"]),
        device("mover", MAC_B, "", &["iot-data"]),
        device("hall", "", "10.10.0.0/16", &["iot-data"]),
    ]);
    is(&site, "10.10.3.7", MAC_A, "press-3", "mac");
    let denial = refused(&site, "10.10.3.8", MAC_A, "asked from 10.10.3.8");
    assert_eq!(&*denial.rule(), "device press-3");
    refused(&site, "10.10.3.7", "00:1b:1b:00:00:0c", "MAC 00:1b:1b:00:00:0c asked");
    refused(&site, "10.10.3.7", MAC_B, "stolen address");
    refused(&site, "10.10.3.7", "", "is not known");
    refused(&site, "::ffff:10.10.3.7", "", "is not known");
    is(&site, "10.10.9.9", MAC_B, "mover", "mac");
    is(&site, "10.10.9.9", "", "hall", "network");
}

#[test]
fn a_free_entry_does_not_unlock_a_bound_address() {
    let site = with(vec![
        device("free", "", "10.10.3.7", &["iot-data"]),
        device("bound", MAC_A, "10.10.3.7", &["iot-data"]),
    ]);
    refused(&site, "10.10.3.7", MAC_B, "stolen");
    refused(&site, "10.10.3.7", "", "is not known");
}

#[test]
fn a_bound_network_keeps_out_only_those_with_nothing_as_specific() {
    let site = with(vec![
        device("a", MAC_A, "10.10.3.0/24", &["iot-data"]),
        device("b", MAC_B, "10.10.3.0/24", &["iot-data"]),
        device("mover", "00:1b:1b:00:00:0c", "", &["iot-data"]),
        device("host", "", "10.10.3.9", &["iot-data"]),
        device("hall", "", "10.10.0.0/16", &["iot-data"]),
    ]);
    is(&site, "10.10.3.1", MAC_A, "a", "mac");
    is(&site, "10.10.3.1", MAC_B, "b", "mac");
    is(&site, "10.10.3.1", "00:1b:1b:00:00:0c", "mover", "mac");
    is(&site, "10.10.3.9", "00:1b:1b:00:00:0d", "host", "address");
    refused(&site, "10.10.3.1", "00:1b:1b:00:00:0d", "stolen");
    refused(&site, "10.10.3.1", "", "is not known");
    refused(&site, "10.10.3.9", "", "is not known");
    refused(&site, "10.10.4.1", MAC_A, "asked from 10.10.4.1");
    is(&site, "10.10.4.1", "", "hall", "network");
}

#[test]
fn the_longest_bound_network_of_a_mac_wins() {
    let site = with(vec![
        device("wide", MAC_A, "10.10.0.0/16", &[]),
        device("narrow", MAC_A, "10.10.3.0/24", &[]),
    ]);
    is(&site, "10.10.3.1", MAC_A, "narrow", "mac");
    is(&site, "10.10.4.1", MAC_A, "wide", "mac");
}

#[test]
fn addresses_outside_the_device_networks_are_nobody() {
    let site = with(vec![
        device("by-mac", MAC_A, "", &["iot-data"]),
        device("odd", "", "192.0.2.0/24", &["iot-data"]),
    ]);
    for (address, mac) in [("192.0.2.1", ""), ("192.0.2.1", MAC_A), ("2001:db8:11::1", "")] {
        let verdict = Policy::compile(&site).judge(asking(address, mac), &name(IOT), 443);
        let denial = verdict.outcome.expect_err(address);
        assert_eq!((denial.reason, &*denial.rule()), (Reason::DeviceUnknown, "devices.networks"));
        assert_eq!(verdict.identity.by, "none");
    }
}
