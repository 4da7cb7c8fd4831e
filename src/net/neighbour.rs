//! Which hardware address an IP address of the plant has: the kernel's neighbour table, kept
//! current by its events.
//!
//! Events arrive a moment late, so they serve records and explanations. A verdict that depends on the
//! hardware address asks the kernel itself, and a kernel that does not answer is no answer.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock};

use super::netlink::{CouldNotAsk, Link, Neighbour, Netlink};
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
    /// Reads everything anew, in one step: no flow sees a half-filled table.
    pub fn replace<'a>(
        &self,
        interfaces: &[InterfaceName],
        links: impl Iterator<Item = &'a Link>,
        neighbours: Vec<Neighbour>,
    ) {
        let mut fresh =
            Table { interfaces: interfaces.iter().cloned().collect(), ..Table::default() };
        links.for_each(|link| fresh.link_changed(link));
        neighbours.into_iter().for_each(|neighbour| fresh.changed(neighbour));
        *self.write() = fresh;
    }

    /// Takes in the state of a link.
    pub fn link_changed(&self, link: &Link) {
        self.write().link_changed(link);
    }

    /// Takes in that a link is gone.
    pub fn link_gone(&self, index: u32) {
        let mut table = self.write();
        table.indices.remove(&index);
        table.known.retain(|_, (at, _)| *at != index);
    }

    /// Takes in a neighbour's state.
    pub fn changed(&self, neighbour: Neighbour) {
        self.write().changed(neighbour);
    }

    /// What was heard of an address lately: good enough for a record, not for a verdict.
    pub fn heard(&self, address: IpAddr) -> Option<MacAddr> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.known.get(&address).map(|(_, mac)| *mac)
    }

    /// The hardware address of an IP address at this moment, from the kernel; `None` behind a router,
    /// where only the router's is known.
    ///
    /// # Errors
    /// The kernel could not be asked: who the device is cannot be told.
    pub async fn ask(
        &self,
        address: IpAddr,
        netlink: Option<&Netlink>,
    ) -> Result<Option<MacAddr>, CouldNotAsk> {
        let netlink = netlink.ok_or(CouldNotAsk)?;
        let indices: Vec<u32> = {
            let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
            table.indices.iter().copied().collect()
        };
        if indices.is_empty() {
            return Err(CouldNotAsk);
        }
        for index in indices {
            if let Some(mac) = netlink.neighbour(index, address).await? {
                return Ok(Some(mac));
            }
        }
        Ok(None)
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

impl Table {
    fn link_changed(&mut self, link: &Link) {
        let first = link.names.first();
        if first.is_some_and(|name| self.interfaces.iter().any(|wanted| wanted.as_str() == name)) {
            self.indices.insert(link.index);
        }
    }

    fn changed(&mut self, neighbour: Neighbour) {
        if !self.indices.contains(&neighbour.index) {
            return;
        }
        match neighbour.mac {
            Some(mac) => {
                self.known.insert(neighbour.address, (neighbour.index, mac));
            }
            None => {
                let ours = |(index, _): &(u32, MacAddr)| *index == neighbour.index;
                if self.known.get(&neighbour.address).is_some_and(ours) {
                    self.known.remove(&neighbour.address);
                }
            }
        }
    }
}
