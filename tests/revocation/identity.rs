//! A device is who its MAC says, whatever address it has; with a bound address, only there.

use std::net::Ipv4Addr;

use serde_json::Value;
use sluicegate::lab::services::{IOT_CREDENTIALS, IOT_DATA};
use sluicegate::lab::topology::{BOX_LAN, DEVICES};
use sluicegate::lab::{Daemon, Lab, inside};

use super::gate::*;

/// Where the press moves to.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 10, 3, 77);
/// The press, whose MAC has an entry.
const PRESS: usize = 0;
/// A device that may use less than the press.
const LEGACY: usize = 2;

/// Gives a device this address instead of the one that it had.
fn move_to(lab: &Lab, device: usize, address: Ipv4Addr) {
    leave(lab, device);
    let words = |words: &str| {
        run(lab.device(device), "ip", &words.split_whitespace().collect::<Vec<_>>());
    };
    words(&format!("address add {address}/16 dev eth0"));
    words(&format!("route add default via {BOX_LAN}"));
}

/// Takes a device's IPv4 address away, and its routes with it.
fn leave(lab: &Lab, device: usize) {
    run(lab.device(device), "ip", &["-4", "address", "flush", "dev", "eth0"]);
}

/// The box forgets who had which address, and the gate hears of it.
fn forget(lab: &Lab, daemon: &Daemon, address: Ipv4Addr) {
    ip(lab, "neighbour flush dev lan0");
    until(&format!("the gate to forget who had {address}"), || {
        heard(daemon, address).is_none().then_some(())
    });
}

/// The MAC that the gate knows behind an address.
fn heard(daemon: &Daemon, address: Ipv4Addr) -> Option<String> {
    let address = address.to_string();
    let asked = ["explain", "--device", &address, "--name", IOT_DATA, "--port", "443", "--json"];
    let output = daemon.subcommand(&asked).unwrap();
    let document: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!(document["online"], true, "{document:#}");
    let assumed = list(&document["assumptions"]).iter().any(|said| said.as_str().is_some());
    let mac = document["mac"].as_str().map(str::to_owned);
    mac.filter(|_| !assumed)
}
