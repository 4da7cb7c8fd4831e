//! Flows through the gate that do the same each time, so that what they cost can be counted.

#![allow(dead_code, reason = "each program uses its own part")]

use std::net::SocketAddr;
use std::sync::Arc;

use sluicegate::lab::Lab;
use sluicegate::lab::topology::ZONES;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::client_hello::Builder;

/// The lab's configuration for one data thread that lets these flows pass.
pub(crate) fn config(lab: &Lab) -> String {
    let config = lab.daemon_config().replace("[443, 8443]", "[443, 8443, 7000, 7001]");
    format!("{config}\n[intercept]\ndata-threads = 1\n\n[limits]\ndevice-new-flows = 1000000\n")
}

/// Opens so many flows, one after the other, and sends so many messages by each.
pub(crate) fn flows(lab: &Lab, flows: usize, messages: usize) {
    lab.device(1).run(async move || {
        for _ in 0..flows {
            let mut flow = open().await.unwrap();
            let mut answer = [0; SIZE];
            for _ in 0..messages {
                flow.write_all(&[7; SIZE]).await.unwrap();
                flow.read_exact(&mut answer).await.unwrap();
            }
            flow.shutdown().await.unwrap();
            assert_eq!(flow.read(&mut answer).await.unwrap(), 0);
        }
    });
}

/// A flow that has sent its hello; nobody has answered yet.
pub(crate) async fn open() -> std::io::Result<TcpStream> {
    open_to(ECHO).await
}

/// The same to a port.
pub(crate) async fn open_to(port: u16) -> std::io::Result<TcpStream> {
    #[expect(clippy::disallowed_methods, reason = "inside of the lab")]
    let mut flow = TcpStream::connect(("198.51.100.15", port)).await?;
    flow.write_all(&hello()).await?;
    Ok(flow)
}

/// An endpoint in each zone. On [`ECHO`] it sends every message back, on [`BULK`] one piece for each
/// permit. Hellos are all of one size.
pub(crate) fn answer(lab: &Lab, pieces: &Arc<Semaphore>) {
    for zone in &ZONES {
        let (at, pieces) = (zone.address(15), Arc::clone(pieces));
        lab.vpc().run(async move || {
            for port in [ECHO, BULK] {
                let listener = TcpListener::bind(SocketAddr::from((at, port))).await.unwrap();
                let pieces = Arc::clone(&pieces);
                tokio::task::spawn_local(async move {
                    while let Ok((flow, _)) = listener.accept().await {
                        // Each ends when its flow does.
                        tokio::task::spawn_local(serve(flow, port, Arc::clone(&pieces)));
                    }
                });
            }
        });
    }
}

async fn serve(mut flow: TcpStream, port: u16, pieces: Arc<Semaphore>) -> std::io::Result<()> {
    flow.read_exact(&mut vec![0; hello().len()]).await?;
    if port == BULK {
        loop {
            pieces.acquire().await.unwrap().forget();
            flow.write_all(&[7; PIECE]).await?;
        }
    }
    let mut message = [0; SIZE];
    loop {
        flow.read_exact(&mut message).await?;
        flow.write_all(&message).await?;
    }
}

fn hello() -> Vec<u8> {
    Builder::tls13("historian.corp.example").bytes()
}

const ECHO: u16 = 7000;
/// Where pieces of a stream come from.
pub(crate) const BULK: u16 = 7001;
/// Bytes of a piece: less than a new connection's window, so that all of it can wait in one socket.
pub(crate) const PIECE: usize = 48 * 1024;
/// Bytes of a message.
const SIZE: usize = 64;
