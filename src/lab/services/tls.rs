//! TLS listeners, and which protocol is spoken behind them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_rustls::TlsAcceptor;

use super::{Handshake, Kind, Ledger, Seen, http, listen, lock, mqtt};
use crate::lab::error::LabError;
use crate::lab::pki::Pki;

/// The ALPN name by which MQTT is told from HTTP on a shared port.
pub const MQTT_ALPN: &str = "x-amzn-mqtt-ca";

pub(super) fn start(
    pki: &Pki,
    ledger: &Arc<Ledger>,
    kind: Kind,
    (addresses, ports): (&[IpAddr], &[u16]),
) -> Result<(), LabError> {
    let alpn: &[&str] = match kind {
        Kind::IotData => &[MQTT_ALPN, "mqtt", "http/1.1"],
        _ => &["http/1.1"],
    };
    let acceptor = TlsAcceptor::from(Arc::new(pki.server_config(alpn)?));
    for address in addresses {
        for port in ports {
            let listener = listen(SocketAddr::new(*address, *port))?;
            let server = Server { kind, acceptor: acceptor.clone(), ledger: Arc::clone(ledger) };
            tokio::task::spawn_local(serve(listener, server));
        }
    }
    Ok(())
}

/// Answers every datagram with itself.
pub(super) fn start_echo(ledger: &Arc<Ledger>, at: SocketAddr) -> Result<(), LabError> {
    let socket = std::net::UdpSocket::bind(at)
        .and_then(|socket| {
            socket.set_nonblocking(true)?;
            UdpSocket::from_std(socket)
        })
        .map_err(LabError::io(format!("open UDP {at}")))?;
    let ledger = Arc::clone(ledger);
    tokio::task::spawn_local(async move {
        let mut buffer = vec![0; 2048];
        // An error here is one datagram's (its sender has gone), not the socket's.
        loop {
            let Ok((size, from)) = socket.recv_from(&mut buffer).await else { continue };
            lock(&ledger.datagrams).push((from, at));
            let _ = socket.send_to(buffer.get(..size).unwrap_or_default(), from).await;
        }
    });
    Ok(())
}

#[derive(Clone)]
struct Server {
    kind: Kind,
    acceptor: TlsAcceptor,
    ledger: Arc<Ledger>,
}

async fn serve(listener: TcpListener, server: Server) {
    loop {
        // A connection that was reset in the queue is no reason to stop.
        let Ok((stream, peer)) = listener.accept().await else { continue };
        tokio::task::spawn_local(converse(stream, peer, server.clone()));
    }
}

/// One connection. Its errors are the client's to see.
async fn converse(stream: TcpStream, peer: SocketAddr, server: Server) {
    let Ok(endpoint) = stream.local_addr() else { return };
    server.ledger.arrived(peer, endpoint);
    let _ = stream.set_nodelay(true);
    let Ok(stream) = server.acceptor.accept(stream).await else { return };
    let (_, session) = stream.get_ref();
    let alpn = session.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned());
    let handshake = match session.peer_certificates() {
        Some(_) => Handshake::Certificate,
        None => Handshake::Anonymous,
    };
    let name = session.server_name().map(str::to_owned);
    let seen = Seen { peer, endpoint, name, alpn, handshake };
    server.ledger.shook_hands(&seen);
    let mqtt = matches!(seen.alpn.as_deref(), Some(MQTT_ALPN | "mqtt"));
    if server.kind == Kind::IotData && (mqtt || endpoint.port() == 8883) {
        let _ = mqtt::serve(stream).await;
    } else {
        http::serve(stream, server.kind, seen, server.ledger).await;
    }
}
