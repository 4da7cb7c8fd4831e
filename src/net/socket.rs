//! Every socket of the gate, with every option it needs.
//!
//! Devices come in by [`listen`] and `listen_udp`; what leaves for the VPC comes from [`tunnel_tcp`] or
//! [`tunnel_udp`], which bind to a tunnel interface before anything can be sent: the second of the
//! three walls.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::socket::sockopt::{IpBindAddressNoPort, Ipv4PacketInfo, Ipv6RecvPacketInfo};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::{MARK_DEVICE, MARK_EGRESS};
use crate::config::InterfaceName;

/// The loopback addresses of the transparent listeners. TPROXY redirects to them without touching
/// the packets, and nothing from outside can reach them by itself.
pub const LISTEN_V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// The same for IPv6.
pub const LISTEN_V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// The loopback addresses of the listeners for devices' DNS. Not 127.0.0.1: a resolver of the box's own
/// may be there.
pub const DNS_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 53, 53, 53));
/// The same for IPv6, which has only this one.
pub const DNS_V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// How a socket towards the VPC leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The tunnel interface it is bound to (`SO_BINDTODEVICE`).
    pub interface: InterfaceName,
    /// The interface's index when it was chosen: the kernel binds to the index, and a socket on one
    /// that was deleted and made again is dead.
    pub index: u32,
    /// The source address; the interface's own where absent.
    pub source: Option<Ipv4Addr>,
    /// TCP maximum segment size, in bytes: the tunnel's path drops bigger packets silently.
    pub mss: u16,
}

/// A transparent listener (`IP_TRANSPARENT`, tproxy.rst in the kernel's documentation), one of
/// several that share the port (`SO_REUSEPORT`).
///
/// # Errors
/// `EPERM` without `CAP_NET_ADMIN`, `EADDRINUSE` when another program has the port.
pub fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    face_devices(&socket, address)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Accepted sockets inherit these (inet_csk_clone_lock).
    keep_alive(&socket, DEVICE_IDLE)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A listener for whoever looks at the gate. Its address may come later: a management network that is down
/// at the start must not keep the gate from starting (`IP_FREEBIND`, ip(7)).
///
/// # Errors
/// `EADDRINUSE` when another program has the port.
pub fn listen_admin(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
    }
    socket.bind(&address.into())?;
    socket.listen(ADMIN_BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Whether another program listens on a port already. `SO_REUSEPORT` would hide that: two daemons
/// would share the devices between them.
///
/// # Errors
/// `EADDRINUSE` when it is taken.
pub fn probe_port(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1)
}

/// A TCP socket bound to a tunnel interface, not yet connected.
///
/// # Errors
/// `ENODEV` when the interface is gone, `EADDRNOTAVAIL` when the box lacks the source address.
pub fn tunnel_tcp(way: &Way) -> io::Result<tokio::net::TcpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    leave_by(&socket, way)?;
    keep_alive(&socket, TUNNEL_IDLE)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_mss(u32::from(way.mss))?;
    // The last packet of the handshake waits for the hello, which follows at once, and travels with it.
    socket.set_tcp_quickack(false)?;
    // What is not sent yet should wait in the device's window, not here.
    socket.set_tcp_notsent_lowat(NOTSENT_LOWAT)?;
    Ok(tokio::net::TcpSocket::from_std_stream(socket.into()))
}

/// A UDP socket bound to a tunnel interface, for questions to the resolvers.
///
/// # Errors
/// As [`tunnel_tcp`].
pub fn tunnel_udp(way: &Way) -> io::Result<tokio::net::UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    leave_by(&socket, way)?;
    if way.source.is_none() {
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
    }
    socket.set_nonblocking(true)?;
    tokio::net::UdpSocket::from_std(socket.into())
}

/// A UDP socket for questions to DNS servers of the plant's own, which are where devices are.
///
/// # Errors
/// The system refuses a socket.
pub fn plant_udp(server: SocketAddr) -> io::Result<tokio::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(server), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_mark(MARK_DEVICE)?;
    socket.set_nonblocking(true)?;
    tokio::net::UdpSocket::from_std(socket.into())
}

/// The same for TCP, not yet connected.
///
/// # Errors
/// The system refuses a socket.
pub fn plant_tcp(server: SocketAddr) -> io::Result<tokio::net::TcpSocket> {
    let domain = Domain::for_address(server);
    let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_mark(MARK_DEVICE)?;
    Ok(tokio::net::TcpSocket::from_std_stream(socket.into()))
}

/// A transparent socket for datagrams of devices. Each comes with the address it was sent to, from
/// which the answer must come.
///
/// # Errors
/// As [`listen`].
pub(super) fn listen_udp(address: SocketAddr) -> io::Result<tokio::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    face_devices(&socket, address)?;
    match address {
        SocketAddr::V4(_) => nix::sys::socket::setsockopt(&socket, Ipv4PacketInfo, &true)?,
        SocketAddr::V6(_) => nix::sys::socket::setsockopt(&socket, Ipv6RecvPacketInfo, &true)?,
    }
    // The kernel clamps it to `net.core.rmem_max`.
    socket.set_recv_buffer_size(DATAGRAM_BUFFER)?;
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    tokio::net::UdpSocket::from_std(socket.into())
}

/// Makes the socket send RST instead of FIN when it is closed.
pub fn reset_on_close(socket: impl AsFd) {
    // Fails only on a socket that is already gone, and then there is nothing left to reset.
    let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
}

/// Has the kernel probe a device that is silent now, instead of after its ordinary time: one that
/// was restarted answers with a reset.
pub fn probe_soon(socket: impl AsFd) {
    set_idle(socket, PROBE_SOON);
}

/// Ends [`probe_soon`].
pub fn probe_as_usual(socket: impl AsFd) {
    set_idle(socket, DEVICE_IDLE);
}

fn set_idle(socket: impl AsFd, idle: Duration) {
    // Fails only on a socket that is already gone.
    let _ = SockRef::from(&socket).set_tcp_keepalive(&TcpKeepalive::new().with_time(idle));
}

fn face_devices(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_ip_transparent_v6(true)?;
        }
    }
    socket.set_mark(MARK_DEVICE)
}

fn leave_by(socket: &Socket, way: &Way) -> io::Result<()> {
    socket.bind_device(Some(way.interface.as_str().as_bytes()))?;
    socket.set_mark(MARK_EGRESS)?;
    if let Some(source) = way.source {
        // The port is chosen at connect, when the destination is known: 28,232 ports for each
        // destination instead of 28,232 in total (ip(7), IP_BIND_ADDRESS_NO_PORT).
        nix::sys::socket::setsockopt(socket, IpBindAddressNoPort, &true)?;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    Ok(())
}

fn keep_alive(socket: &Socket, idle: Duration) -> io::Result<()> {
    // Switches it on as well.
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(idle)
            .with_interval(PROBE_INTERVAL)
            .with_retries(PROBE_COUNT),
    )?;
    socket.set_tcp_user_timeout(Some(idle + PROBE_INTERVAL * PROBE_COUNT))
}

/// Below the 350 s after which interface VPC endpoints forget a flow.
const TUNNEL_IDLE: Duration = Duration::from_secs(60);
/// Devices are nearer; their radios and routers like longer pauses.
const DEVICE_IDLE: Duration = Duration::from_secs(120);
/// The least that the kernel takes.
const PROBE_SOON: Duration = Duration::from_secs(1);
const PROBE_INTERVAL: Duration = Duration::from_secs(20);
const PROBE_COUNT: u32 = 3;
/// The kernel clamps it to `net.core.somaxconn`.
const ADMIN_BACKLOG: i32 = 128;
const BACKLOG: i32 = 65_535;
/// Some thousand questions, for a moment in which the thread is busy.
const DATAGRAM_BUFFER: usize = 1 << 20;
const NOTSENT_LOWAT: u32 = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_peer_is_given_up_after_its_probes_and_not_earlier() {
        for idle in [DEVICE_IDLE, TUNNEL_IDLE] {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            keep_alive(&socket, idle).expect("its options");
            assert!(socket.keepalive().expect("an option"));
            assert_eq!(socket.tcp_keepalive_time().expect("an option"), idle);
            let probes = PROBE_INTERVAL * PROBE_COUNT;
            assert_eq!(socket.tcp_keepalive_interval().expect("an option"), PROBE_INTERVAL);
            assert_eq!(socket.tcp_keepalive_retries().expect("an option"), PROBE_COUNT);
            assert_eq!(socket.tcp_user_timeout().expect("an option"), Some(idle + probes));
            assert!(idle + probes < Duration::from_secs(350), "of VPC endpoints");
        }
    }
}
