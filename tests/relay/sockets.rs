//! Connected loopback sockets, and what of them is left.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Connects pairs of sockets. Each pair has an address of its own, so that ports that are waiting out
/// their last close never run short.
pub(crate) struct Pairs {
    listener: TcpListener,
    made: u32,
}

/// What one end of a pair is like.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shape {
    /// Bytes of the receive buffer, where it is not the kernel's choice.
    pub(crate) receive: Option<usize>,
    /// The maximum segment size of both directions, where it is not that of the loopback.
    pub(crate) segment: Option<u32>,
}

impl Pairs {
    pub(crate) fn new() -> Self {
        Self { listener: TcpListener::bind("0.0.0.0:0").unwrap(), made: 0 }
    }

    /// Two ends: the first one shaped, the second one as the gate's are.
    pub(crate) fn pair(&mut self, shape: Shape) -> (TcpStream, TcpStream) {
        let near = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        if let Some(size) = shape.receive {
            near.set_recv_buffer_size(size).unwrap();
        }
        if let Some(size) = shape.segment {
            near.set_tcp_mss(size).unwrap();
        }
        // 127.1.0.0 to 127.255.255.255
        let address = Ipv4Addr::from_bits(0x7f01_0000 + self.made % 0xfe_0000);
        self.made += 1;
        let port = self.listener.local_addr().unwrap().port();
        near.connect(&SocketAddr::from((address, port)).into()).unwrap();
        let (far, from) = self.listener.accept().unwrap();
        let near = TcpStream::from(near);
        assert_eq!(near.local_addr().unwrap(), from);
        for socket in [&near, &far] {
            socket.set_nonblocking(true).unwrap();
            socket.set_nodelay(true).unwrap();
        }
        (near, far)
    }
}

/// Hands a socket to the runtime of the calling thread.
pub(crate) fn register(socket: TcpStream) -> tokio::net::TcpStream {
    tokio::net::TcpStream::from_std(socket).unwrap()
}

/// Makes closing send RST.
pub(crate) fn reset_on_close(socket: &impl AsFd) {
    SockRef::from(socket).set_linger(Some(std::time::Duration::ZERO)).unwrap();
}

/// A runtime as the gate's data threads have it.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The open descriptors of this process.
pub(crate) fn descriptors() -> io::Result<usize> {
    Ok(std::fs::read_dir("/proc/self/fd")?.count())
}
