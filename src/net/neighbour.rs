//! Which hardware address an IP address of the plant has: the kernel's neighbour table, kept
//! current by its events.
//!
//! Events arrive a moment late, so they serve records and explanations. A verdict that depends on the
//! hardware address asks the kernel itself, and a kernel that does not answer is no answer. It
//! answers within the call ([`Lookup`]): no question waits, however many flows begin at once, and
//! none can be answered with what was true before.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock};

use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use socket2::{Domain, Protocol, Socket, Type};

use super::netlink::{self, Link, Neighbour};
use crate::config::{InterfaceName, MacAddr};

/// The neighbours behind the device interfaces; shared by all threads.
#[derive(Debug, Default)]
pub struct Neighbours {
    table: RwLock<Table>,
}

/// A way to ask the kernel. One per data thread.
#[derive(Debug)]
pub struct Lookup {
    socket: Socket,
    asked: Cell<u32>,
}

/// The kernel could not be asked, so nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kernel's neighbour table could not be asked")]
pub struct CouldNotAsk;

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
    pub fn ask(
        &self,
        address: IpAddr,
        lookup: Option<&Lookup>,
    ) -> Result<Option<MacAddr>, CouldNotAsk> {
        let lookup = lookup.ok_or(CouldNotAsk)?;
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        if table.indices.is_empty() {
            return Err(CouldNotAsk);
        }
        for index in &table.indices {
            if let Some(mac) = lookup.mac(*index, address)? {
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

impl Lookup {
    /// Opens the way.
    ///
    /// # Errors
    /// The kernel refuses a netlink socket.
    pub fn open() -> io::Result<Self> {
        let protocol = Some(Protocol::from(NETLINK_ROUTE));
        let kind = Type::DGRAM.nonblocking();
        let socket = Socket::new(Domain::from(AF_NETLINK), kind, protocol)?;
        Ok(Self { socket, asked: Cell::new(0) })
    }

    /// The hardware address of one neighbour; `None` when the kernel knows none.
    ///
    /// # Errors
    /// The kernel did not answer: nothing is known then, not even that there is none.
    fn mac(&self, index: u32, address: IpAddr) -> Result<Option<MacAddr>, CouldNotAsk> {
        let number = self.asked.get().wrapping_add(1);
        self.asked.set(number);
        self.socket.send(&request(number, index, address)).map_err(|_| CouldNotAsk)?;
        let mut buffer = [0; LONGEST_ANSWER];
        loop {
            // The answer is there when the question is sent (netlink_rcv_skb in the kernel).
            let size = (&self.socket).read(&mut buffer).map_err(|_| CouldNotAsk)?;
            let answer = buffer.get(..size).unwrap_or_default();
            let answer = NetlinkMessage::deserialize(answer).map_err(|_| CouldNotAsk)?;
            // Another number is the answer to a question that failed behind its sending.
            if answer.header.sequence_number == number {
                return understand(answer.payload);
            }
        }
    }
}

fn request(number: u32, index: u32, address: IpAddr) -> Vec<u8> {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = index;
    let destination = match address {
        IpAddr::V4(v4) => {
            message.header.family = AddressFamily::Inet;
            NeighbourAddress::Inet(v4)
        }
        IpAddr::V6(v6) => {
            message.header.family = AddressFamily::Inet6;
            NeighbourAddress::Inet6(v6)
        }
    };
    message.attributes.push(NeighbourAttribute::Destination(destination));
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNeighbour(message));
    request.header.flags = NLM_F_REQUEST;
    request.header.sequence_number = number;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    bytes
}

fn understand(answer: NetlinkPayload<RouteNetlinkMessage>) -> Result<Option<MacAddr>, CouldNotAsk> {
    match answer {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(found)) => {
            Ok(netlink::neighbour(&found).and_then(|found| found.mac))
        }
        NetlinkPayload::Error(error)
            if error.raw_code().checked_abs().is_some_and(|code| netlink::GONE.contains(&code)) =>
        {
            Ok(None)
        }
        _ => Err(CouldNotAsk),
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

const AF_NETLINK: i32 = 16;
const NETLINK_ROUTE: i32 = 0;
/// Today's kernels answer in about 100 bytes.
const LONGEST_ANSWER: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: u32 = 1;

    #[test]
    fn every_question_of_a_crowd_is_answered_at_once() {
        let lookup = Lookup::open().expect("a netlink socket");
        for number in 0..20_000_u32 {
            let address = IpAddr::from((0x0a0a_0000 + number).to_be_bytes());
            assert_eq!(lookup.mac(LOOPBACK, address), Ok(None), "{address}");
        }
        let address = IpAddr::from([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(lookup.mac(LOOPBACK, address), Ok(None), "{address}");
    }

    #[test]
    fn an_interface_that_is_gone_is_no_answer() {
        let lookup = Lookup::open().expect("a netlink socket");
        let address = IpAddr::from([10, 10, 0, 1]);
        assert_eq!(lookup.mac(u32::MAX >> 1, address), Err(CouldNotAsk));
        assert_eq!(lookup.mac(LOOPBACK, address), Ok(None), "the next question has its own answer");
        let nobody = Neighbours::default();
        assert_eq!(nobody.ask(address, Some(&lookup)), Err(CouldNotAsk), "no device interface");
    }

    #[test]
    fn the_answer_to_another_question_is_passed_over() {
        let lookup = Lookup::open().expect("a netlink socket");
        let address = IpAddr::from([10, 10, 0, 1]);
        let gone = request(77, u32::MAX >> 1, address);
        lookup.socket.send(&gone).expect("it is sent, and its answer stays unread");
        assert_eq!(lookup.mac(LOOPBACK, address), Ok(None));
    }
}
