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

/// What passed until now: asks one more question, and waits until the capture tells of it.
pub(crate) fn captured(lab: &Lab, capture: &Process) -> String {
    let _refused = dig(lab, 0, BOX, &["last-of-all.example"]);
    until("the last question in the capture", || {
        let said = capture.said();
        let seen =
            said.lines().any(|line| line.starts_with("lan0") && line.contains("last-of-all"));
        seen.then_some(said)
    })
}

/// One socket for all interfaces: what one line tells was seen before what the next tells.
const CAPTURE: &str = "
import socket, sys
every = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
every.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
print('ready', flush=True)
while True:
    packet, source = every.recvfrom(65536)
    if source[0] in sys.argv[1:]:
        print(source[0], ''.join(chr(b) if 32 < b < 127 else '.' for b in packet), flush=True)
";
