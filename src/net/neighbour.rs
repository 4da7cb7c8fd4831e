//! Which hardware address an IP address of the plant has: the kernel's neighbour table, kept
//! current by its events.
//!
//! A device that was never heard before may be asked about a moment before its event is read; then
//! the kernel is asked directly, so a first flow is recognised as well as a later one.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock};

use super::netlink::{Link, Neighbour, Netlink};
use crate::config::{InterfaceName, MacAddr};

/// The neighbours behind the device interfaces; shared by all threads.
#[derive(Debug, Default)]
pub struct Neighbours {
    table: RwLock<Table>,
}

#[derive(Debug, Default)]
struct Table {
    interfaces: HashSet<InterfaceName>,
    indices: HashSet<u32>,
    known: HashMap<IpAddr, (u32, MacAddr)>,
}

impl Neighbours {
    /// Says on which interfaces devices are.
    pub fn watch(&self, interfaces: &[InterfaceName]) {
        let mut table = self.write();
        table.interfaces = interfaces.iter().cloned().collect();
        table.indices.clear();
        table.known.clear();
    }

    /// Takes in the state of a link.
    pub fn link_changed(&self, link: &Link) {
        let mut table = self.write();
        let wanted =
            link.names.iter().any(|n| table.interfaces.iter().any(|wanted| wanted.as_str() == n));
        if wanted {
            table.indices.insert(link.index);
        }
    }

    /// Takes in a neighbour's state.
    pub fn changed(&self, neighbour: Neighbour) {
        let mut table = self.write();
        if !table.indices.contains(&neighbour.index) {
            return;
        }
        match neighbour.mac {
            Some(mac) => {
                table.known.insert(neighbour.address, (neighbour.index, mac));
            }
            None => {
                let ours = |(index, _): &(u32, MacAddr)| *index == neighbour.index;
                if table.known.get(&neighbour.address).is_some_and(ours) {
                    table.known.remove(&neighbour.address);
                }
            }
        }
    }

    /// The hardware address of an IP address; `None` behind a router, where only the router's is
    /// known. A kernel that cannot be asked counts as not knowing.
    pub async fn mac(&self, address: IpAddr, netlink: Option<&Netlink>) -> Option<MacAddr> {
        let indices: Vec<u32> = {
            let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
            if let Some((_, mac)) = table.known.get(&address) {
                return Some(*mac);
            }
            table.indices.iter().copied().collect()
        };
        for index in indices {
            if let Some(mac) = netlink?.neighbour(index, address).await {
                self.changed(Neighbour { index, address, mac: Some(mac) });
                return Some(mac);
            }
        }
        None
    }

    /// An address that was heard of a hardware address, IPv4 before IPv6.
    pub fn address(&self, mac: MacAddr) -> Option<IpAddr> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let heard = table.known.iter().filter(|(_, (_, known))| *known == mac);
        heard.map(|(address, _)| *address).min()
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}
