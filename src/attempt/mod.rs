//! Attempts to reach something, exactly as a device would make them, and what came of each.
//!
//! The lab's devices and the leak canary try by these. Nothing here is bound to a tunnel or marked:
//! it goes wherever the routing of its namespace leads, so the gate itself never uses it. Each
//! attempt has a deadline.

mod icmp;
mod raw;

use std::io;
use std::net::IpAddr;
use std::time::Duration;

pub use raw::{echo, exchange, may_try, tcp_connect, udp_exchange};

/// How a device notices that something did not work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// A fatal TLS alert, by its number (RFC 8446 section 6).
    #[error("TLS alert {0}")]
    TlsAlert(u8),
    /// The connection was reset.
    #[error("connection reset")]
    Reset,
    /// The connection was closed before an answer.
    #[error("connection closed without an answer")]
    Closed,
    /// The connection was refused with a TCP reset.
    #[error("connection refused")]
    Refused,
    /// An ICMP or ICMPv6 error came back.
    #[error("ICMP type {kind} code {code} from {from}")]
    Icmp {
        /// Its type: 3 in IPv4 and 1 in IPv6 for an unreachable destination.
        kind: u8,
        /// Its code, for example 13 in IPv4 and 1 in IPv6 for administratively prohibited.
        code: u8,
        /// Who sent it.
        from: IpAddr,
    },
    /// The system has no way there, without any word from the network.
    #[error("no way there: {0}")]
    Unreachable(String),
    /// Nothing happened in time.
    #[error("nothing came back in time")]
    TimedOut,
    /// The server's certificate is not the lab's, or not for this name.
    #[error("the server is not trusted: {0}")]
    Untrusted(String),
    /// The other side spoke, but not what was expected.
    #[error("unexpected answer: {0}")]
    Unexpected(String),
}

impl Failure {
    /// Whether it is an ICMP or ICMPv6 error of the codes for prohibited communication
    /// (RFC 1812 section 5.2.7.1: codes 9, 10 and 13; RFC 4443 section 3.1: code 1).
    pub fn is_prohibited(&self) -> bool {
        matches!(
            self,
            Self::Icmp { kind: 3, code: 9 | 10 | 13, .. } | Self::Icmp { kind: 1, code: 1, .. }
        )
    }

    pub(crate) fn of(error: &io::Error) -> Self {
        if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return match tls {
                rustls::Error::AlertReceived(alert) => Self::TlsAlert(u8::from(*alert)),
                rustls::Error::InvalidCertificate(why) => Self::Untrusted(why.to_string()),
                other => Self::Unexpected(other.to_string()),
            };
        }
        match error.kind() {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted => Self::Reset,
            io::ErrorKind::UnexpectedEof => Self::Closed,
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::PermissionDenied => Self::Unreachable(error.to_string()),
            _ => Self::Unexpected(error.to_string()),
        }
    }
}

/// Gives `work` until the deadline.
pub(crate) async fn within<T>(
    deadline: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::time::timeout(deadline, work).await.unwrap_or(Err(Failure::TimedOut))
}
