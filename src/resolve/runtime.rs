//! The sockets of the resolvers: bound to a tunnel, marked, never anything else.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::net::runtime::iocompat::AsyncIoTokioAsStd;
use hickory_resolver::net::runtime::{RuntimeProvider, TokioHandle, TokioTime};
use tokio::net::{TcpStream, UdpSocket};

use crate::net::socket::{self, Way};
use crate::tunnel::Tunnels;

/// Gives hickory sockets that leave by the best tunnel that is up.
#[derive(Clone)]
pub(super) struct TunnelRuntime {
    handle: TokioHandle,
    tunnels: Arc<Tunnels>,
}

impl TunnelRuntime {
    pub(super) fn new(tunnels: Arc<Tunnels>) -> Self {
        Self { handle: TokioHandle::default(), tunnels }
    }

    fn way(&self) -> io::Result<Way> {
        let no_way = || io::Error::new(io::ErrorKind::NetworkDown, "no tunnel is up");
        self.tunnels.up().first().cloned().ok_or_else(no_way)
    }
}

impl RuntimeProvider for TunnelRuntime {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = UdpSocket;
    type Tcp = AsyncIoTokioAsStd<TcpStream>;

    fn create_handle(&self) -> Self::Handle {
        self.handle.clone()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        _bind: Option<SocketAddr>,
        wait: Option<Duration>,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<Self::Tcp>>>> {
        let socket = self.way().and_then(|way| socket::tunnel_tcp(&way));
        Box::pin(async move {
            let connecting = socket?.connect(server);
            let stream = tokio::time::timeout(wait.unwrap_or(CONNECT), connecting)
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            Ok(AsyncIoTokioAsStd(stream))
        })
    }

    fn bind_udp(
        &self,
        _local: SocketAddr,
        _server: SocketAddr,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<Self::Udp>>>> {
        let socket = self.way().and_then(|way| socket::tunnel_udp(&way));
        Box::pin(async move { socket })
    }
}

const CONNECT: Duration = Duration::from_secs(1);
