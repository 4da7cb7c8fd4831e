//! Bare TCP on both ends: a hello in front, then whatever a test likes. The gate cannot tell.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use sluicegate::lab::Lab;
use sluicegate::lab::device::tls10_hello;
use sluicegate::lab::services::IOT_DATA;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::SOON;
use crate::stand::{ENI, PRESS, Stand};

/// The port that both ends use.
pub(crate) const PORT: u16 = 8883;

/// A flow whose two ends are the test's.
pub(crate) struct Pair {
    pub(crate) stand: Stand,
    pub(crate) device: TcpStream,
    pub(crate) endpoint: TcpStream,
    /// How long the hello was, which the endpoint has read already.
    pub(crate) hello: u64,
}

impl Pair {
    /// Brings a flow up to the point where the endpoint has the device's hello, byte for byte.
    pub(crate) fn open() -> Self {
        let (stand, listener) = Stand::up(IOT_DATA, 11, |lab| {
            let at = SocketAddr::from((ENI, PORT));
            lab.vpc().run(async move || listen(at))
        });
        let dialled = stand.dialled;
        let device = stand.lab.device(PRESS).run(async move || greet(dialled).await);
        let endpoint = stand.lab.vpc().run(async move || {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let (mut endpoint, _) = soon(listener.accept()).await.unwrap();
            let mut hello = vec![0; tls10_hello(IOT_DATA).len()];
            soon(endpoint.read_exact(&mut hello)).await.unwrap();
            assert_eq!(hello, tls10_hello(IOT_DATA));
            endpoint
        });
        let hello = tls10_hello(IOT_DATA).len() as u64;
        Self { stand, device, endpoint, hello }
    }
}

/// A listener whose connections take little before somebody reads.
fn listen(at: SocketAddr) -> TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    // Accepted connections inherit it, and the window that they offer first depends on it.
    socket.set_recv_buffer_size(WINDOW).unwrap();
    socket.bind(&at.into()).unwrap();
    socket.listen(16).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.into()
}

/// Connects, as well with little room, and sends the hello.
async fn greet(dialled: Ipv4Addr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(u32::try_from(WINDOW).unwrap()).unwrap();
    let mut device = soon(socket.connect((dialled, PORT).into())).await.unwrap();
    device.write_all(&tls10_hello(IOT_DATA)).await.unwrap();
    device
}

/// Receive buffer of both ends, in bytes: a receiver that does not read stops the gate early.
const WINDOW: usize = 8 << 10;

/// Lets nothing hang.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, work).await.expect("nothing moves any more")
}

/// Sends this many bytes, then FIN.
pub(crate) async fn send_all(stream: &mut TcpStream, bytes: u64) {
    soon(stream.write_all(&words(0, bytes))).await.unwrap();
    soon(stream.shutdown()).await.unwrap();
}

/// Reads to the end: how many bytes came, each checked, and what ended them.
pub(crate) async fn read_all(stream: &mut TcpStream) -> (u64, Result<(), ErrorKind>) {
    let mut buffer = vec![0; 64 << 10];
    let (mut bytes, mut held) = (0, 0);
    loop {
        match soon(stream.read(&mut buffer[held..])).await {
            Ok(0) => {
                check(bytes, &buffer[..held]);
                return (bytes + held as u64, Ok(()));
            }
            Ok(size) => held += size,
            Err(error) => {
                check(bytes, &buffer[..held]);
                return (bytes + held as u64, Err(error.kind()));
            }
        }
        let whole = held / 8 * 8;
        check(bytes, &buffer[..whole]);
        buffer.copy_within(whole..held, 0);
        (bytes, held) = (bytes + whole as u64, held - whole);
    }
}

/// The streams of these tests from an offset on: numbers one after the other, so that nothing can be
/// missing, twice or elsewhere unnoticed. The offset is a multiple of eight.
pub(crate) fn words(from: u64, bytes: u64) -> Vec<u8> {
    assert_eq!(from % 8, 0);
    let mut text: Vec<u8> =
        (from / 8..(from + bytes).div_ceil(8)).flat_map(u64::to_le_bytes).collect();
    text.truncate(usize::try_from(bytes).unwrap());
    text
}

/// Whether these are the stream's bytes at this offset.
pub(crate) fn check(from: u64, bytes: &[u8]) {
    assert!(words(from, bytes.len() as u64) == bytes, "other bytes somewhere after {from}");
}

/// Closes with RST instead of FIN.
pub(crate) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Whether the kernel at the other end has acknowledged everything that this one sent.
pub(crate) fn acknowledged(lab: &Lab, namespace: Namespace, filter: [&str; 2]) -> bool {
    let party = match namespace {
        Namespace::Device => lab.device(PRESS),
        Namespace::Vpc => lab.vpc(),
    };
    let args = ["-tnHO", "state", "established", filter[0], filter[1]];
    let output = party.command("ss", &args).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text.split_whitespace().nth(1) == Some("0")
}

/// On which end of the flow.
#[derive(Clone, Copy)]
pub(crate) enum Namespace {
    Device,
    Vpc,
}
