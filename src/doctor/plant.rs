//! The plant's side: device interfaces, and who is heard there.

use std::collections::BTreeMap;

use super::Chart;
use crate::config::{InterfaceName, Site};
use crate::net::netlink::{Link, Neighbour, Netlink, NetlinkError};

/// What the kernel has of links and neighbours.
pub(super) struct Links {
    links: BTreeMap<u32, Link>,
    neighbours: Vec<Neighbour>,
}

impl Links {
    /// The link of this name.
    pub(super) fn find(&self, name: &InterfaceName) -> Option<&Link> {
        self.links.values().find(|link| link.names.iter().any(|other| other == name.as_str()))
    }

    /// The first names of all.
    pub(super) fn present(&self) -> String {
        let names: Vec<_> = self.links.values().filter_map(|link| link.names.first()).collect();
        names.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

pub(super) async fn links() -> Result<Links, NetlinkError> {
    let netlink = Netlink::open()?;
    Ok(Links { links: netlink.links().await?, neighbours: netlink.neighbours().await? })
}

pub(super) fn check(site: &Site, known: &Links, chart: &mut Chart<'_>) {
    for name in &site.devices.interfaces {
        let Some(link) = known.find(name) else {
            let sentence = format!("The device interface {name} does not exist.");
            let remedy = format!("Correct [devices] interfaces; there are {}.", known.present());
            chart.failed("devices", name, sentence, remedy);
            continue;
        };
        if !link.up {
            let sentence = format!("The device interface {name} is down or has no carrier.");
            let remedy = format!("Look at its cable and switch; `ip link set {name} up`.");
            chart.failed("devices", name, sentence, remedy);
            continue;
        }
        let here = |of: &&Neighbour| of.index == link.index && of.mac.is_some();
        let heard: Vec<_> = known.neighbours.iter().filter(here).collect();
        let foreign = heard.iter().find(|of| {
            of.address.is_ipv4()
                && !site.devices.networks.iter().any(|net| net.contains(&of.address))
        });
        if heard.is_empty() {
            let sentence = format!("No device is heard on {name}.");
            let remedy = "Check that the devices' default gateway is this box, and that they are \
                          on the same network (`arping`, `ip neigh`).";
            chart.warning("devices", name, sentence, remedy);
        } else if let Some(foreign) = foreign {
            let sentence = format!(
                "{} is heard on {name}, and is in none of devices.networks: it is refused.",
                foreign.address
            );
            chart.warning("devices", name, sentence, "Correct the device, or [devices] networks.");
        } else {
            let sentence = format!("{} neighbours are heard on {name}.", heard.len());
            chart.ok("devices", name, sentence);
        }
    }
}
