//! ICMP errors as they come in, for what the socket API does not tell.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use super::Failure;

/// Listens for ICMP messages about one destination.
///
/// The kernel hands an ICMP message to raw sockets before it tells the socket concerned, so once a
/// socket has failed the message is here already.
#[derive(Debug)]
pub(super) struct Watch {
    // Datagram sockets in type alone: the standard library has no raw ones, and uses the same calls.
    socket: tokio::net::UdpSocket,
    // The same socket, past the runtime, which may not know yet that something has come.
    direct: UdpSocket,
    destination: IpAddr,
}

/// A message that the watch was for.
#[derive(Debug)]
pub(super) enum Message {
    /// The destination answered an echo request with this identifier.
    EchoReply {
        /// The identifier of the request.
        identifier: u16,
    },
    /// A packet to the destination was refused on its way.
    Error(Failure),
}

impl Watch {
    /// Opens the watch; needs CAP_NET_RAW, which everybody has in the lab.
    pub(super) fn open(destination: IpAddr) -> io::Result<Self> {
        let socket = match destination {
            IpAddr::V4(_) => Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?,
            IpAddr::V6(_) => Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?,
        };
        socket.set_nonblocking(true)?;
        let direct = UdpSocket::from(socket);
        let socket = tokio::net::UdpSocket::from_std(direct.try_clone()?)?;
        Ok(Self { socket, direct, destination })
    }

    /// Sends an echo request.
    pub(super) fn request_echo(&self, identifier: u16) -> io::Result<()> {
        let [high, low] = identifier.to_be_bytes();
        let kind = if self.destination.is_ipv4() { 8 } else { 128 };
        let mut message = [kind, 0, 0, 0, high, low, 0, 1];
        // ICMPv6's checksum covers addresses too, and is the kernel's business on raw sockets.
        if self.destination.is_ipv4() {
            let sum = u32::from(u16::from_be_bytes([kind, 0])) + u32::from(identifier) + 1;
            let folded = (sum & 0xffff) + (sum >> 16);
            let checksum = !u16::try_from(folded).unwrap_or(u16::MAX);
            if let Some(field) = message.get_mut(2..4) {
                field.copy_from_slice(&checksum.to_be_bytes());
            }
        }
        self.direct.send_to(&message, SocketAddr::new(self.destination, 0)).map(drop)
    }

    /// Waits for the next message about the destination.
    pub(super) async fn next(&self) -> io::Result<Message> {
        let mut buffer = [0; 2048];
        loop {
            let (size, from) = self.socket.recv_from(&mut buffer).await?;
            if let Some(message) = self.parse(buffer.get(..size).unwrap_or_default(), from.ip()) {
                return Ok(message);
            }
        }
    }

    /// The error that has come already, if one has.
    pub(super) fn error_so_far(&self) -> Option<Failure> {
        let mut buffer = [0; 2048];
        loop {
            let (size, from) = self.direct.recv_from(&mut buffer).ok()?;
            let packet = buffer.get(..size).unwrap_or_default();
            if let Some(Message::Error(failure)) = self.parse(packet, from.ip()) {
                return Some(failure);
            }
        }
    }

    /// What a packet says; `None` when it is about something else.
    fn parse(&self, packet: &[u8], from: IpAddr) -> Option<Message> {
        match self.destination {
            IpAddr::V4(destination) => parse4(packet, from, destination),
            IpAddr::V6(destination) => parse6(packet, from, destination),
        }
    }
}

/// An ICMP message with its IPv4 header (RFC 792).
fn parse4(packet: &[u8], from: IpAddr, destination: Ipv4Addr) -> Option<Message> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let message = packet.get(header..)?;
    let [kind, code, _, _, high, low] = *message.first_chunk::<6>()?;
    if kind == 0 && from == destination {
        return Some(Message::EchoReply { identifier: u16::from_be_bytes([high, low]) });
    }
    // The refused packet is quoted, and in its header the destination is at 16.
    let quoted = Ipv4Addr::from(*message.get(8 + 16..)?.first_chunk::<4>()?);
    let error = matches!(kind, 3 | 11 | 12) && quoted == destination;
    error.then_some(Message::Error(Failure::Icmp { kind, code, from }))
}

/// An ICMPv6 message, which comes without its header (RFC 3542 section 3).
fn parse6(message: &[u8], from: IpAddr, destination: Ipv6Addr) -> Option<Message> {
    let [kind, code, _, _, high, low] = *message.first_chunk::<6>()?;
    if kind == 129 && from == destination {
        return Some(Message::EchoReply { identifier: u16::from_be_bytes([high, low]) });
    }
    let quoted = Ipv6Addr::from(*message.get(8 + 24..)?.first_chunk::<16>()?);
    let error = matches!(kind, 1..=4) && quoted == destination;
    error.then_some(Message::Error(Failure::Icmp { kind, code, from }))
}
