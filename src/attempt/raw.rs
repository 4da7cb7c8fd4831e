//! Below TLS: bare connections, bytes of the caller's, datagrams, echo requests.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use super::icmp::{About, Message, Watch};
use super::{Failure, within};

/// Whether this process may try at all: the answers of routers come to raw sockets only.
///
/// # Errors
/// `EPERM` without `CAP_NET_RAW`.
pub fn may_try(to: IpAddr) -> std::io::Result<()> {
    Watch::open(to, About::Echo(0)).map(drop)
}

/// Opens a TCP connection.
///
/// # Errors
/// What came back instead: a refusal, the ICMP error as it was, or nothing.
pub async fn tcp_connect(to: SocketAddr, deadline: Duration) -> Result<TcpStream, Failure> {
    let watch = Watch::open(to.ip(), About::Tcp(to.port())).map_err(|error| Failure::of(&error))?;
    let connecting = async {
        let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let stream = socket.map_err(|error| Failure::of(&error))?.connect(to).await;
        stream.map_err(|error| watch.error_so_far().unwrap_or_else(|| Failure::of(&error)))
    };
    let stream = within(deadline, connecting).await?;
    stream.set_nodelay(true).map_err(|error| Failure::of(&error))?;
    Ok(stream)
}

/// Sends bytes over a new TCP connection and returns the first that come back.
///
/// # Errors
/// [`Failure::TlsAlert`] when they are a TLS alert; otherwise as [`tcp_connect`].
pub async fn exchange(
    to: SocketAddr,
    bytes: &[u8],
    deadline: Duration,
) -> Result<Vec<u8>, Failure> {
    let mut stream = tcp_connect(to, deadline).await?;
    let talk = async {
        stream.write_all(bytes).await.map_err(|error| Failure::of(&error))?;
        let mut buffer = vec![0; 16 * 1024];
        let size = stream.read(&mut buffer).await.map_err(|error| Failure::of(&error))?;
        buffer.truncate(size);
        Ok(buffer)
    };
    let answer = within(deadline, talk).await?;
    match answer.as_slice() {
        [] => Err(Failure::Closed),
        // A plaintext alert record: type, version, length 2, level, description.
        [21, 3, _, 0, 2, _, alert, ..] => Err(Failure::TlsAlert(*alert)),
        _ => Ok(answer),
    }
}

/// Sends a datagram and returns what comes back.
///
/// # Errors
/// The ICMP error as it was, or [`Failure::TimedOut`].
pub async fn udp_exchange(
    to: SocketAddr,
    bytes: &[u8],
    deadline: Duration,
) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| Failure::of(&error);
    let watch = Watch::open(to.ip(), About::Udp(to.port())).map_err(failed)?;
    let any: SocketAddr = if to.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await.map_err(failed)?;
    socket.connect(to).await.map_err(failed)?;
    socket.send(bytes).await.map_err(failed)?;
    let mut buffer = vec![0; 2048];
    let talk = async {
        tokio::select! {
            biased;
            error = next_error(&watch) => Err(error),
            size = socket.recv(&mut buffer) => {
                size.map_err(|error| watch.error_so_far().unwrap_or_else(|| failed(error)))
            }
        }
    };
    let size = within(deadline, talk).await?;
    buffer.truncate(size);
    Ok(buffer)
}

/// Sends an ICMP or ICMPv6 echo request and waits for its reply.
///
/// # Errors
/// The ICMP error that came back instead, or [`Failure::TimedOut`].
pub async fn echo(to: IpAddr, deadline: Duration) -> Result<(), Failure> {
    // The low bits differ between threads and runs; a reply to somebody else's is not taken for ours.
    let [.., high, low] = uuid::Uuid::now_v7().into_bytes();
    let own = u16::from_be_bytes([high, low]);
    let watch = Watch::open(to, About::Echo(own)).map_err(|error| Failure::of(&error))?;
    watch.request_echo(own).map_err(|error| Failure::of(&error))?;
    let answered = async {
        match watch.next().await.map_err(|error| Failure::of(&error))? {
            Message::EchoReply => Ok(()),
            Message::Error(failure) => Err(failure),
        }
    };
    within(deadline, answered).await
}

async fn next_error(watch: &Watch) -> Failure {
    loop {
        match watch.next().await {
            Ok(Message::Error(failure)) => return failure,
            Ok(Message::EchoReply) => {}
            Err(error) => return Failure::of(&error),
        }
    }
}
