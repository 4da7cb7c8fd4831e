//! Datagrams of devices, each with the address that the device sent it to.
//!
//! TPROXY leaves packets as they are, so one socket takes datagrams for any address. The answer must
//! come from that address, which the kernel tells and takes with `IP_PKTINFO` (ip(7)) and
//! `IPV6_PKTINFO` (RFC 3542 section 6).

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;

use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage,
    recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::socket;

/// A socket that takes datagrams of devices for any address.
#[derive(Debug)]
pub struct DeviceSocket {
    socket: UdpSocket,
}

/// Where a datagram came from and went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// The device.
    pub from: SocketAddr,
    /// What it sent it to.
    pub to: IpAddr,
    /// How many bytes it has.
    pub size: usize,
}

impl DeviceSocket {
    /// Binds the socket; packets are brought to it by TPROXY.
    ///
    /// # Errors
    /// `EADDRINUSE` when another program has the port, `EPERM` without `CAP_NET_ADMIN`.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { socket: socket::listen_udp(address)? })
    }

    /// Waits for the next datagram; what does not fit into the buffer is cut.
    ///
    /// # Errors
    /// Those of recvmsg(2), and `InvalidData` for one without its addresses.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<Arrived> {
        self.socket.async_io(Interest::READABLE, || self.receive_now(buffer)).await
    }

    /// Answers a datagram, from the address that it was sent to.
    ///
    /// # Errors
    /// Those of sendmsg(2). `WouldBlock` means that the device's link does not keep up.
    pub fn answer(&self, arrived: &Arrived, bytes: &[u8]) -> io::Result<()> {
        self.socket.try_io(Interest::WRITABLE, || self.answer_now(arrived, bytes))
    }

    fn receive_now(&self, buffer: &mut [u8]) -> io::Result<Arrived> {
        let mut control = nix::cmsg_space!(in6_pktinfo);
        let mut parts = [IoSliceMut::new(buffer)];
        let message = recvmsg::<SockaddrStorage>(
            self.socket.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::empty(),
        )?;
        let to = message.cmsgs()?.find_map(|part| match part {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                Some(IpAddr::V4(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes())))
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)))
            }
            _ => None,
        });
        let from = message.address.as_ref().and_then(plain);
        let (Some(from), Some(to)) = (from, to) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        Ok(Arrived { from, to, size: message.bytes })
    }

    fn answer_now(&self, arrived: &Arrived, bytes: &[u8]) -> io::Result<()> {
        let (socket, parts, flags) =
            (self.socket.as_raw_fd(), [IoSlice::new(bytes)], MsgFlags::empty());
        match (arrived.from, arrived.to) {
            (SocketAddr::V4(device), IpAddr::V4(source)) => {
                let source = in_addr { s_addr: u32::from_ne_bytes(source.octets()) };
                let any = in_addr { s_addr: 0 };
                let info = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: source, ipi_addr: any };
                let control = [ControlMessage::Ipv4PacketInfo(&info)];
                sendmsg(socket, &parts, &control, flags, Some(&SockaddrIn::from(device)))?;
            }
            (SocketAddr::V6(device), IpAddr::V6(source)) => {
                let source = in6_addr { s6_addr: source.octets() };
                let info = in6_pktinfo { ipi6_addr: source, ipi6_ifindex: 0 };
                let control = [ControlMessage::Ipv6PacketInfo(&info)];
                sendmsg(socket, &parts, &control, flags, Some(&SockaddrIn6::from(device)))?;
            }
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }
        Ok(())
    }
}

fn plain(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::V4(SocketAddrV4::from(*v4)));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::V6(SocketAddrV6::from(*v6))))
}
