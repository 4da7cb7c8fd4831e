//! Whether the other end of a TCP connection is still there, as far as the kernel can tell.
//!
//! Asks for one socket by its addresses (sock_diag(7), `inet_diag_req_v2` and `tcp_info` of the
//! kernel's headers): `getsockopt(TCP_INFO)` says the same, and no safe interface offers it. The
//! kernel answers within the call.

use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// A way to ask the kernel. One per data thread.
#[derive(Debug)]
pub struct Pulses {
    socket: Socket,
}

/// What the kernel knows of a connection's other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// How often the oldest segment was sent again without an answer.
    pub retransmits: u8,
    /// Probes (keepalive, or of a closed window) without an answer.
    pub probes: u8,
    /// Segments that wait for their acknowledgement.
    pub unacked: u32,
    /// Since the last acknowledgement came.
    pub last_heard: Duration,
    /// Since the last data came.
    pub last_data: Duration,
}

impl Pulses {
    /// Opens the way.
    ///
    /// # Errors
    /// The kernel has no socket diagnosis (`CONFIG_INET_DIAG`).
    pub fn open() -> io::Result<Self> {
        let protocol = Some(Protocol::from(NETLINK_SOCK_DIAG));
        let socket = Socket::new(Domain::from(AF_NETLINK), Type::DGRAM, protocol)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket })
    }

    /// The pulse of the connection between these addresses; `None` when there is no such. A socket
    /// that is bound to a link is found with the link's index only, another one with 0 only.
    ///
    /// # Errors
    /// The kernel does not answer, or not what can be understood.
    pub fn of(&self, local: SocketAddr, peer: SocketAddr, link: u32) -> io::Result<Option<Pulse>> {
        self.socket.send(&request(local, peer, link))?;
        let mut buffer = [0; LONGEST_ANSWER];
        let size = (&self.socket).read(&mut buffer)?;
        understand(buffer.get(..size).unwrap_or_default())
    }
}

impl Pulse {
    fn parse(info: &[u8]) -> Option<Self> {
        let word = |at| u32_at(info, at);
        Some(Self {
            retransmits: *info.get(2)?,
            probes: *info.get(3)?,
            unacked: word(24)?,
            last_heard: Duration::from_millis(u64::from(word(56)?)),
            last_data: Duration::from_millis(u64::from(word(52)?)),
        })
    }
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
fn request(local: SocketAddr, peer: SocketAddr, link: u32) -> Vec<u8> {
    let family = if local.is_ipv4() { AF_INET } else { AF_INET6 };
    let mut bytes = Vec::with_capacity(REQUEST);
    bytes.extend(u32::try_from(REQUEST).unwrap_or_default().to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family, IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), 0]);
    bytes.extend(u32::MAX.to_ne_bytes());
    bytes.extend(local.port().to_be_bytes());
    bytes.extend(peer.port().to_be_bytes());
    for address in [local.ip(), peer.ip()] {
        let mut field = [0; 16];
        match address {
            IpAddr::V4(v4) => field.iter_mut().zip(v4.octets()).for_each(|(to, from)| *to = from),
            IpAddr::V6(v6) => field = v6.octets(),
        }
        bytes.extend(field);
    }
    bytes.extend(link.to_ne_bytes());
    // Any cookie.
    bytes.extend([0xff; 8]);
    bytes
}

fn understand(answer: &[u8]) -> io::Result<Option<Pulse>> {
    let odd = || io::Error::new(io::ErrorKind::InvalidData, "an odd answer of sock_diag");
    let kind = answer.get(4..6).and_then(|kind| kind.try_into().ok()).map(u16::from_ne_bytes);
    match kind.ok_or_else(odd)? {
        NLMSG_ERROR => {
            let code = u32_at(answer, 16).ok_or_else(odd)?;
            match i32::from_ne_bytes(code.to_ne_bytes()).checked_neg() {
                Some(ENOENT) => Ok(None),
                Some(code) => Err(io::Error::from_raw_os_error(code)),
                None => Err(odd()),
            }
        }
        // Without such a connection the kernel answers for a listener that would take it.
        SOCK_DIAG_BY_FAMILY if answer.get(STATE) == Some(&TCP_LISTEN) => Ok(None),
        SOCK_DIAG_BY_FAMILY => {
            let mut rest = answer.get(ATTRIBUTES..).ok_or_else(odd)?;
            // `struct nlattr`: length with the header, type, value, padding to four bytes.
            while let Some(&[low, high, kind, kind_high]) = rest.first_chunk::<4>() {
                let length = usize::from(u16::from_ne_bytes([low, high]));
                let value = rest.get(4..length).ok_or_else(odd)?;
                if u16::from_ne_bytes([kind, kind_high]) == u16::from(INET_DIAG_INFO) {
                    return Pulse::parse(value).map(Some).ok_or_else(odd);
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
            // A socket in TIME_WAIT has nothing to say.
            Ok(None)
        }
        _ => Err(odd()),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

const AF_NETLINK: i32 = 16;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const NETLINK_SOCK_DIAG: i32 = 4;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// The attribute with `struct tcp_info`.
const INET_DIAG_INFO: u8 = 2;
const ENOENT: i32 = 2;
/// Header and question, in bytes.
const REQUEST: usize = 16 + 56;
/// Where `struct inet_diag_msg` has the state.
const STATE: usize = 17;
const TCP_LISTEN: u8 = 10;
/// Header and `struct inet_diag_msg`, in bytes: the attributes stand behind it.
const ATTRIBUTES: usize = 16 + 72;
/// Today's kernels answer in 408 bytes.
const LONGEST_ANSWER: usize = 4_096;

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "it stays on the loopback")]
    fn a_living_connection_has_a_pulse_and_none_has_none() {
        let pulses = Pulses::open().expect("this kernel has sock_diag");
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).expect("a port");
            let to = listener.local_addr().expect("bound");
            let mut device = TcpStream::connect(to).expect("a connection");
            let (gate, from) = listener.accept().expect("accepted");
            device.write_all(b"x").expect("room");
            let pulse = pulses.of(to, from, 0).expect("an answer").expect("it lives");
            assert_eq!((pulse.retransmits, pulse.probes, pulse.unacked), (0, 0, 0));
            assert!(pulse.last_heard < Duration::from_secs(60), "{pulse:?}");
            let nobody = SocketAddr::new(from.ip(), to.port());
            assert_eq!(pulses.of(to, nobody, 0).expect("an answer"), None, "the listener is none");
            drop(listener);
            assert_eq!(pulses.of(to, nobody, 0).expect("an answer"), None);
            assert!(pulses.of(to, from, 0).expect("an answer").is_some());
            drop(gate);
        }
    }

    #[test]
    fn a_cut_answer_is_an_error() {
        assert!(understand(&[]).is_err());
        assert!(understand(&[0; 20]).is_err());
        let mut answer = [0; ATTRIBUTES + 8];
        answer[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        answer[ATTRIBUTES] = 200;
        assert!(understand(&answer).is_err(), "an attribute beyond the end");
    }
}
