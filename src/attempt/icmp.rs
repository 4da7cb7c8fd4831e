//! ICMP errors as they come in, for what the socket API does not tell.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use super::Failure;

/// Listens for ICMP messages about one attempt; what others try at the same time to the same
/// destination is not heard.
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
    /// From where this host sends there; `None` where it cannot.
    source: Option<IpAddr>,
    about: About,
}

/// What the attempt sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// TCP to this port.
    Tcp(u16),
    /// UDP to this port.
    Udp(u16),
    /// Echo requests with this identifier.
    Echo(u16),
}

/// A message that the watch was for.
#[derive(Debug)]
pub(super) enum Message {
    /// The destination answered the echo request.
    EchoReply,
    /// A packet to the destination was refused on its way.
    Error(Failure),
}

impl Watch {
    /// Opens the watch; needs CAP_NET_RAW.
    pub(super) fn open(destination: IpAddr, about: About) -> io::Result<Self> {
        let socket = match destination {
            IpAddr::V4(_) => Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?,
            IpAddr::V6(_) => Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?,
        };
        socket.set_nonblocking(true)?;
        let direct = UdpSocket::from(socket);
        let socket = tokio::net::UdpSocket::from_std(direct.try_clone()?)?;
        Ok(Self { socket, direct, destination, source: source_to(destination), about })
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
        let message = match self.destination {
            IpAddr::V4(destination) => parse4(packet, from, destination, self.about),
            IpAddr::V6(destination) => parse6(packet, from, destination, self.about),
        };
        match message? {
            // The next hop's hardware address was not to be had, so nothing has left this host.
            Message::Error(failure) if Some(from) == self.source => {
                Some(Message::Error(Failure::Unreachable(failure.to_string())))
            }
            message => Some(message),
        }
    }
}

impl About {
    /// Whether a packet is the attempt's, by its protocol and the beginning of what it carries.
    fn is_of(self, protocol: u8, carried: &[u8]) -> bool {
        let number =
            |at: usize| carried.get(at..)?.first_chunk::<2>().map(|pair| u16::from_be_bytes(*pair));
        match self {
            Self::Tcp(port) => protocol == TCP && number(DESTINATION_PORT) == Some(port),
            Self::Udp(port) => protocol == UDP && number(DESTINATION_PORT) == Some(port),
            Self::Echo(identifier) => {
                matches!(protocol, ICMP | ICMPV6) && number(IDENTIFIER) == Some(identifier)
            }
        }
    }
}

/// The address that this host would send from.
fn source_to(destination: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if destination.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    // Connecting sends nothing; the port means nothing.
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((destination, 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

/// An ICMP message with its IPv4 header (RFC 792).
fn parse4(packet: &[u8], from: IpAddr, destination: Ipv4Addr, about: About) -> Option<Message> {
    let message = packet.get(header4(packet)?..)?;
    let [kind, code, ..] = *message.first_chunk::<8>()?;
    if kind == 0 && from == destination {
        return about.is_of(ICMP, message).then_some(Message::EchoReply);
    }
    // The refused packet is quoted: its protocol at 9, its destination at 16.
    let quoted = message.get(8..)?;
    let to = Ipv4Addr::from(*quoted.get(16..)?.first_chunk::<4>()?);
    let ours = about.is_of(*quoted.get(9)?, quoted.get(header4(quoted)?..)?);
    let error = matches!(kind, 3 | 11 | 12) && to == destination && ours;
    error.then_some(Message::Error(Failure::Icmp { kind, code, from }))
}

/// The length of an IPv4 header.
fn header4(packet: &[u8]) -> Option<usize> {
    Some(usize::from(packet.first()? & 0x0f) * 4)
}

/// An ICMPv6 message, which comes without its header (RFC 3542 section 3).
fn parse6(message: &[u8], from: IpAddr, destination: Ipv6Addr, about: About) -> Option<Message> {
    let [kind, code, ..] = *message.first_chunk::<8>()?;
    if kind == 129 && from == destination {
        return about.is_of(ICMPV6, message).then_some(Message::EchoReply);
    }
    // What an attempt sends has no extension headers.
    let quoted = message.get(8..)?;
    let to = Ipv6Addr::from(*quoted.get(24..)?.first_chunk::<16>()?);
    let ours = about.is_of(*quoted.get(6)?, quoted.get(40..)?);
    let error = matches!(kind, 1..=4) && to == destination && ours;
    error.then_some(Message::Error(Failure::Icmp { kind, code, from }))
}

/// IANA protocol numbers.
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
/// In the headers of TCP (RFC 9293) and UDP (RFC 768).
const DESTINATION_PORT: usize = 2;
/// In an echo request and its reply (RFC 792, RFC 4443).
const IDENTIFIER: usize = 4;
