//! The sockets of devices' DNS, and how much waits at them.

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout_at};

use super::handler::{Handler, Message, Outcome};
use super::message::Transport;
use super::stats::count;
use crate::net::addr::canonical;
use crate::net::datagram::{Arrived, DeviceSocket};
use crate::net::socket::reset_on_close;

/// The sockets of one address family.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) udp: DeviceSocket,
    pub(super) tcp: TcpListener,
}

/// Answers datagrams for ever.
pub(super) async fn datagrams(handler: Rc<Handler>, socket: Rc<DeviceSocket>) {
    let mut buffer = vec![0; LARGEST_QUERY];
    let waiting = Rc::new(Cell::new(0_usize));
    loop {
        let arrived = match socket.receive(&mut buffer).await {
            Ok(arrived) => arrived,
            Err(error) => {
                tracing::warn!(%error, "cannot receive a device's DNS question");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let bytes = buffer.get(..arrived.size).unwrap_or_default().to_vec();
        let (asked, stage) = (Rc::clone(&handler), Rc::clone(&socket));
        let mut answering = Box::pin(async move { answer(&asked, &stage, &arrived, &bytes).await });
        // Nearly every answer is known; only the others need a task.
        if answering.as_mut().now_or_never().is_some() {
            continue;
        }
        if waiting.get() >= WAITING {
            count(&handler.stats.dropped);
            continue;
        }
        let place = Taken::of(&waiting);
        tokio::task::spawn_local(async move {
            answering.await;
            drop(place);
        });
    }
}

async fn answer(handler: &Handler, socket: &DeviceSocket, arrived: &Arrived, bytes: &[u8]) {
    let Arrived { from, to, .. } = *arrived;
    let message = Message { bytes, from, to: to.to_canonical(), transport: Transport::Udp };
    if let Outcome::Answer(bytes) = handler.handle(message).await
        && socket.answer(arrived, &bytes).is_err()
    {
        // The device asks again.
        count(&handler.stats.dropped);
    }
}

/// Takes connections for ever.
pub(super) async fn connections(handler: Rc<Handler>, listener: TcpListener) {
    let all = Rc::new(Cell::new(0_usize));
    let mut by_device: HashMap<IpAddr, Rc<Cell<usize>>> = HashMap::new();
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                if error.kind() != io::ErrorKind::ConnectionAborted {
                    tracing::warn!(%error, "cannot accept a device's DNS connection");
                    tokio::time::sleep(PAUSE).await;
                }
                continue;
            }
        };
        by_device.retain(|_, open| open.get() > 0);
        let own = Rc::clone(by_device.entry(canonical(from).ip()).or_default());
        if all.get() >= CONNECTIONS || own.get() >= DEVICE_CONNECTIONS {
            count(&handler.stats.dropped);
            reset_on_close(&stream);
            continue;
        }
        let places = (Taken::of(&all), Taken::of(&own));
        let handler = Rc::clone(&handler);
        tokio::task::spawn_local(async move {
            // What ends it, a fault, silence or time, is the device's own affair.
            let _ = connection(&handler, stream, from).await;
            drop(places);
        });
    }
}

/// Answers the questions of one connection in turn (RFC 7766).
async fn connection(handler: &Handler, mut stream: TcpStream, from: SocketAddr) -> io::Result<()> {
    let to = canonical(stream.local_addr()?).ip();
    let mut end = Instant::now() + CONNECTION;
    let mut buffer = vec![0; LARGEST_QUERY];
    loop {
        let deadline = end.min(Instant::now() + SILENCE);
        let size = usize::from(timeout_at(deadline, stream.read_u16()).await??);
        let Some(bytes) = buffer.get_mut(..size) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        timeout_at(deadline, stream.read_exact(bytes)).await??;
        let message = Message { bytes, from, to, transport: Transport::Tcp };
        let Outcome::Answer(answer) = handler.handle(message).await else {
            reset_on_close(&stream);
            return Ok(());
        };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let framed = [&length.to_be_bytes(), answer.as_slice()].concat();
        end = end.max(Instant::now());
        timeout_at(end + SILENCE, stream.write_all(&framed)).await??;
    }
}

/// One of a number of places; given back when it is dropped.
struct Taken(Rc<Cell<usize>>);

impl Taken {
    fn of(places: &Rc<Cell<usize>>) -> Self {
        places.set(places.get().saturating_add(1));
        Self(Rc::clone(places))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// A name has 255 bytes, and options are few.
const LARGEST_QUERY: usize = 4_096;
/// Datagrams whose answer is waited for.
const WAITING: usize = 1_024;
const CONNECTIONS: usize = 256;
const DEVICE_CONNECTIONS: usize = 8;
/// How long a connection may be silent.
const SILENCE: Duration = Duration::from_secs(5);
/// How long it may last.
const CONNECTION: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);
