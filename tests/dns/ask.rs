//! How devices ask: with `dig`, as a device's resolver library would.

use std::net::{IpAddr, Ipv4Addr};

use sluicegate::lab::topology::{BOX_LAN, ZONES};
use sluicegate::lab::{Daemon, Lab, Process};

use crate::gate::{start_with, until};

/// The box, by the address that devices have for it.
pub(crate) const BOX: IpAddr = IpAddr::V4(BOX_LAN);

/// The lab's configuration with DNS for devices and these further lines in `[dns]`.
pub(crate) fn config(lab: &Lab, further: &str) -> String {
    let config = lab.daemon_config();
    let with = config.replace("listen = \"off\"", &format!("listen = \"lan\"\n{further}"));
    assert_ne!(with, config);
    with
}

pub(crate) fn start(lab: &Lab, further: &str) -> Daemon {
    start_with(lab, &config(lab, further))
}

/// What `dig` says.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) text: String,
}

impl Said {
    /// The response code, for example `NOERROR`; `None` where nobody answered.
    pub(crate) fn status(&self) -> Option<&str> {
        self.text.split("status: ").nth(1)?.split(',').next()
    }

    /// The flags, for example `qr rd ra`.
    pub(crate) fn flags(&self) -> &str {
        self.text.split(";; flags: ").nth(1).and_then(|rest| rest.split(';').next()).unwrap_or("")
    }

    /// The addresses and their TTLs.
    pub(crate) fn addresses(&self) -> Vec<(Ipv4Addr, u32)> {
        let lines = self.text.lines().filter(|line| !line.starts_with(';'));
        lines
            .filter_map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                let [_, ttl, "IN", "A", address] = words[..] else { return None };
                Some((address.parse().ok()?, ttl.parse().ok()?))
            })
            .collect()
    }

    /// The answer comes from the address that was asked.
    pub(crate) fn server(&self) -> Option<IpAddr> {
        let line = self.text.split(";; SERVER: ").nth(1)?;
        line.split('#').next()?.parse().ok()
    }
}

/// Asks a server with `dig` and these words.
pub(crate) fn dig(lab: &Lab, number: usize, server: IpAddr, words: &[&str]) -> Said {
    let server = format!("@{server}");
    let words = [&[server.as_str(), "+tries=1", "+time=5"], words].concat();
    let output = lab.device(number).command("dig", &words).output().unwrap();
    Said { text: String::from_utf8(output.stdout).unwrap() }
}

/// The private addresses of a service.
pub(crate) fn enis(octet: u8) -> Vec<Ipv4Addr> {
    ZONES.map(|zone| zone.address(octet)).to_vec()
}

/// Asserts that the addresses are these, in whatever order, with a TTL that devices may have.
pub(crate) fn assert_addresses(said: &Said, octet: u8) {
    let mut found: Vec<Ipv4Addr> = said.addresses().into_iter().map(|(ip, _)| ip).collect();
    found.sort();
    assert_eq!(found, enis(octet), "{}", said.text);
    assert!(said.addresses().iter().all(|(_, ttl)| *ttl <= 60), "{}", said.text);
}

/// Writes down what passes the box's interfaces: a line for each packet, with the interface first.
pub(crate) fn capture(lab: &Lab, interfaces: &[&str]) -> Process {
    let words = [&["-c", CAPTURE], interfaces].concat();
    let capture = lab.start_process(lab.edge(), "python3", &words).unwrap();
    until("the capture", || capture.said().contains("ready").then_some(()));
    capture
}

const CAPTURE: &str = "
import select, socket, sys
sockets = {}
for name in sys.argv[1:]:
    sockets[name] = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    sockets[name].bind((name, 0))
print('ready', flush=True)
while True:
    for name, one in sockets.items():
        if select.select([one], [], [], 0.02)[0]:
            packet = one.recv(65536)
            print(name, ''.join(chr(b) if 32 < b < 127 else '.' for b in packet), flush=True)
";
