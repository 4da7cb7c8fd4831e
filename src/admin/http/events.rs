//! Server-sent events (HTML Standard section 9.2): the figures once a second, the whole report when it is
//! told and every few seconds.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::crowd::Seat;
use super::snapshot::Snapshots;

/// A stream that goes on until the connection ends.
#[derive(Debug)]
pub(super) struct Events {
    parts: mpsc::Receiver<Bytes>,
    _seat: Seat,
}

impl Events {
    /// Begins to tell, in a task of the calling thread. A reader that is slow gets less, and nothing waits
    /// for it in memory.
    pub(super) fn new(snapshots: Arc<Snapshots>, seat: Seat) -> Self {
        let (teller, parts) = mpsc::channel(1);
        tokio::task::spawn_local(tell(snapshots, teller));
        Self { parts, _seat: seat }
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.parts.poll_recv(cx).map(|part| part.map(|part| Ok(Frame::data(part))))
    }
}

async fn tell(snapshots: Arc<Snapshots>, teller: mpsc::Sender<Bytes>) {
    let mut rounds = tokio::time::interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for round in (0..ROUNDS).cycle() {
        tokio::select! {
            () = teller.closed() => return,
            _ = rounds.tick() => {}
        }
        let snapshot = snapshots.fresh().await;
        let part = match round {
            0 => event("status", &snapshot.document),
            _ => event("pulse", &snapshot.pulse),
        };
        if teller.send(part).await.is_err() {
            return;
        }
    }
}

/// JSON has no line breaks of its own.
fn event(name: &str, data: &Bytes) -> Bytes {
    let mut part = Vec::with_capacity(data.len() + 32);
    part.extend_from_slice(format!("event: {name}\ndata: ").as_bytes());
    part.extend_from_slice(data);
    part.extend_from_slice(b"\n\n");
    part.into()
}

const ROUND: Duration = Duration::from_secs(1);
/// Every so many rounds the whole report.
const ROUNDS: u32 = 5;
