//! One connection: the TLS handshake, then requests, each within its time.

use std::cell::Cell;
use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Hall;
use super::answer::{self, Lasts};
use super::crowd::Seat;
use super::doors::{Doors, Visitor};
use super::snapshot::Snapshots;

/// Serves a connection to its end.
pub(super) async fn serve(
    stream: TcpStream,
    hall: Arc<Hall>,
    snapshots: Arc<Snapshots>,
    (from, _seat): (IpAddr, Seat),
) {
    // Pages are small, and come whole.
    let _ = stream.set_nodelay(true);
    let doors = hall.doors();
    let talk = Talk { hall, snapshots, from, doors: Arc::clone(&doors) };
    let Some(acceptor) = doors.tls() else {
        return talk.requests(stream, Visitor::Stranger).await;
    };
    let shaking = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream));
    let shaken = tokio::select! {
        () = talk.hall.stop.cancelled() => return,
        shaken = shaking => shaken,
    };
    let Ok(Ok(stream)) = shaken else { return };
    let visitor = match stream.get_ref().1.peer_certificates() {
        Some([_, ..]) => Visitor::Certified,
        _ => Visitor::Stranger,
    };
    talk.requests(stream, visitor).await;
}

struct Talk {
    hall: Arc<Hall>,
    snapshots: Arc<Snapshots>,
    from: IpAddr,
    doors: Arc<Doors>,
}

impl Talk {
    async fn requests(&self, stream: impl AsyncRead + AsyncWrite + Unpin, visitor: Visitor) {
        // A connection that asks for nothing, or takes no answer, ends; each request that is answered gives
        // it more time.
        let until = Rc::new(Cell::new(Instant::now() + PATIENCE));
        let service = service_fn(|request| {
            let until = Rc::clone(&until);
            async move {
                let asked =
                    answer::Asked { hall: &self.hall, snapshots: &self.snapshots, from: self.from };
                let admission = self.doors.admits(visitor, request.headers());
                let (response, lasts) = asked.answer(&request, admission).await;
                match lasts {
                    Lasts::Ends => {}
                    Lasts::GoesOn => until.set(Instant::now() + PATIENCE),
                    Lasts::Streams => until.set(Instant::now() + STREAM),
                }
                if response.status() == hyper::StatusCode::UNAUTHORIZED {
                    self.hall.not_permitted.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, Infallible>(response)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS)
            .max_buf_size(LARGEST_HEAD)
            .max_headers(MOST_HEADERS)
            .half_close(false)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        loop {
            tokio::select! {
                // What goes wrong is the client's to see.
                _ = &mut connection => return,
                () = self.hall.stop.cancelled() => return,
                () = tokio::time::sleep_until(until.get()) => {
                    if until.get() <= Instant::now() {
                        return;
                    }
                }
            }
        }
    }
}

const HANDSHAKE: Duration = Duration::from_secs(5);
/// For a request's head.
const HEADERS: Duration = Duration::from_secs(5);
/// Between two requests, and for an answer to be taken.
const PATIENCE: Duration = Duration::from_secs(15);
/// A browser connects again by itself.
const STREAM: Duration = Duration::from_hours(1);
/// A request's head, in bytes; 8,192 is the least that hyper takes.
const LARGEST_HEAD: usize = 8_192;
const MOST_HEADERS: usize = 64;
