//! A device is who its MAC says, whatever address it has; one bound to both is itself only there.

use std::net::Ipv4Addr;

use serde_json::Value;
use sluicegate::lab::device::Failure;
use sluicegate::lab::services::{IOT_CREDENTIALS, IOT_DATA};
use sluicegate::lab::topology::{BOX_LAN, DEVICES};
use sluicegate::lab::{Daemon, Lab, inside};

use super::gate::*;

/// Where the press moves to.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 10, 3, 77);
const PRESS: usize = 0;
/// A device that may use less than the press.
const LEGACY: usize = 2;

#[test]
fn a_device_at_another_address_is_still_who_its_mac_says() {
    inside::test("identity::a_device_at_another_address_is_still_who_its_mac_says", || {
        let lab = lab();
        let daemon = start(&lab);
        assert_allowed(&lab, PRESS, DEVICES[PRESS].address, IOT_CREDENTIALS);
        take_address(&lab, &daemon, PRESS, ELSEWHERE);
        assert_allowed(&lab, PRESS, ELSEWHERE, IOT_DATA);
        assert_allowed(&lab, PRESS, ELSEWHERE, IOT_CREDENTIALS);
        // Who takes an address takes nothing that hangs on the MAC which had it.
        take_address(&lab, &daemon, LEGACY, DEVICES[PRESS].address);
        assert_allowed(&lab, LEGACY, DEVICES[PRESS].address, IOT_DATA);
        let end = refused(&lab, LEGACY, DEVICES[PRESS].address, IOT_CREDENTIALS);
        assert_identity(&end, Some(DEVICES[LEGACY].name), LEGACY);
        assert_over(&lab, &daemon);
    });
}

#[test]
fn a_mac_and_an_address_that_belong_together_are_refused_apart() {
    inside::test("identity::a_mac_and_an_address_that_belong_together_are_refused_apart", || {
        let lab = lab();
        let (mac, home) = (DEVICES[PRESS].mac, DEVICES[PRESS].address);
        let by_mac = format!("mac     = \"{mac}\"\n");
        let by_both = format!("{by_mac}address = \"{home}\"\n");
        let config = lab.daemon_config();
        let bound = config.replacen(&by_mac, &by_both, 1);
        assert_ne!(bound, config);
        let daemon = start_with(&lab, &bound);
        assert_allowed(&lab, PRESS, home, IOT_DATA);

        take_address(&lab, &daemon, PRESS, ELSEWHERE);
        let end = refused(&lab, PRESS, ELSEWHERE, IOT_DATA);
        assert_identity(&end, None, PRESS);
        assert_remedy(&end, "its MAC asked from 10.10.3.77: give the device its address back");

        // The legacy machine may use the name itself, but not as whoever this address belongs to.
        take_address(&lab, &daemon, LEGACY, home);
        let end = refused(&lab, LEGACY, home, IOT_DATA);
        assert_identity(&end, None, LEGACY);
        assert_remedy(&end, "MAC 00:00:5e:00:53:09 asked from 10.10.3.7: find the device");

        take_address(&lab, &daemon, LEGACY, DEVICES[LEGACY].address);
        assert_allowed(&lab, LEGACY, DEVICES[LEGACY].address, IOT_DATA);
        take_address(&lab, &daemon, PRESS, home);
        assert_allowed(&lab, PRESS, home, IOT_CREDENTIALS);
        assert_over(&lab, &daemon);
    });
}

/// Gives a device this IPv4 address instead of its own, until the gate knows.
fn take_address(lab: &Lab, daemon: &Daemon, device: usize, address: Ipv4Addr) {
    let device_ip = |words: String| {
        run(lab.device(device), "ip", &words.split_whitespace().collect::<Vec<_>>());
    };
    // The routes go with the address.
    device_ip("-4 address flush dev eth0".to_owned());
    device_ip(format!("address add {address}/16 dev eth0"));
    device_ip(format!("route add default via {BOX_LAN}"));
    // It must ask for the box, which learns by that; the box itself has forgotten nothing, as when
    // one machine takes the address of another.
    device_ip("neighbour flush dev eth0".to_owned());
    // No flow begins by what is refused at once.
    let refusal = attempt(lab, device, Way::Tcp(dialled(IOT, 80)));
    assert_eq!(refusal, Err(Failure::Refused));
    until(&format!("the gate to hear who has {address}"), || {
        (mac_behind(daemon, address) == DEVICES[device].mac).then_some(())
    });
}

/// The MAC that the gate judges an address by.
fn mac_behind(daemon: &Daemon, address: Ipv4Addr) -> Value {
    let address = address.to_string();
    let asked = ["explain", "--device", &address, "--name", IOT_DATA, "--port", "443", "--json"];
    let output = daemon.subcommand(&asked).unwrap();
    let explained: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(explained["online"], true, "{explained:#}");
    explained["mac"].clone()
}

/// A device gets through from this address, and is recorded by its own name.
fn assert_allowed(lab: &Lab, device: usize, from: Ipv4Addr, name: &str) {
    let skip = records(lab).len();
    let answer = get(lab, device, dialled(IOT, 443), name);
    let end = until_end_behind(lab, skip, from.into());
    assert!(answer.is_ok(), "{name} from {from}: {answer:?} {end:#}");
    assert_identity(&end, Some(DEVICES[device].name), device);
}

/// A device is refused from this address; returns the record.
fn refused(lab: &Lab, device: usize, from: Ipv4Addr, name: &str) -> Value {
    let skip = records(lab).len();
    let answer = get(lab, device, dialled(IOT, 443), name);
    let end = until_end_behind(lab, skip, from.into());
    assert!(matches!(answer, Err(Failure::TlsAlert(_))), "{name}: {answer:?} {end:#}");
    assert_eq!(end["activity_id"], 5, "{end:#}");
    assert_eq!(end["status_code"], "device_not_allowed", "{end:#}");
    end
}

/// The record is of the device with this name, if any, and always of the MAC that asked.
fn assert_identity(end: &Value, name: Option<&str>, device: usize) {
    assert_eq!(end["src_endpoint"]["name"].as_str(), name, "{end:#}");
    assert_eq!(end["src_endpoint"]["mac"], DEVICES[device].mac, "{end:#}");
    let by = if name.is_some() { "mac" } else { "none" };
    assert_eq!(end["unmapped"]["egress"]["identity"], by, "{end:#}");
}

fn assert_remedy(end: &Value, sentence: &str) {
    let remedy = end["unmapped"]["egress"]["remedy"].as_str().unwrap();
    assert!(remedy.contains(sentence), "{remedy}");
}

fn assert_over(lab: &Lab, daemon: &Daemon) {
    until_status(daemon, "all ends", |status| status["flows"]["live"] == 0);
    assert_log(lab);
    assert_nothing_left(lab, "after all moves");
}
