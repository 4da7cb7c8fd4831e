//! The system calls on sockets, tied to the runtime's readiness.
//!
//! Readiness is edge-triggered: it may be forgotten only when the kernel said EAGAIN for this very
//! socket, or moved less than it was asked for where that means the same, and a waker must be in place
//! before the relay goes to sleep. [`attempt`] is the only place that decides either.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Which readiness an operation needs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// The socket has bytes, an end or an error for us.
    In,
    /// The socket has room, or an error for us.
    Out,
}

/// Tries an operation until it is done, or until its socket is not ready and will wake the task.
///
/// One that moves something, but less than `full` bytes, has met the socket's limit: the next would
/// get EAGAIN, and is spared. What arrives from then on makes the socket ready anew, and an end of the
/// stream or an error is never forgotten (epoll(7), question 9; the runtime's own streams do the same).
pub(super) fn attempt(
    cx: &mut Context<'_>,
    socket: &TcpStream,
    way: Way,
    full: usize,
    mut job: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    let interest = match way {
        Way::In => Interest::READABLE,
        Way::Out => Interest::WRITABLE,
    };
    loop {
        let mut short = None;
        let done = socket.try_io(interest, || match job()? {
            size if 0 < size && size < full => {
                short = Some(size);
                Err(io::ErrorKind::WouldBlock.into())
            }
            size => Ok(size),
        });
        match done {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if let Some(size) = short {
                    return Poll::Ready(Ok(size));
                }
                ready!(ready_for(cx, socket, way))?
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return Poll::Ready(done),
        }
    }
}

/// Whether an operation is worth trying; if not, the task is woken when it is.
pub(super) fn ready_for(
    cx: &mut Context<'_>,
    socket: &TcpStream,
    way: Way,
) -> Poll<io::Result<()>> {
    match way {
        Way::In => socket.poll_read_ready(cx),
        Way::Out => socket.poll_write_ready(cx),
    }
}

/// Reads what has arrived; 0 is the end of the stream. Urgent data ends a read early as well: what
/// comes behind it waits for the next byte. TLS has none.
pub(super) fn receive(
    cx: &mut Context<'_>,
    socket: &TcpStream,
    buffer: &mut [u8],
) -> Poll<io::Result<usize>> {
    let full = buffer.len();
    attempt(cx, socket, Way::In, full, || {
        let (_, size) = rustix::net::recv(socket, &mut *buffer, RecvFlags::empty())?;
        Ok(size)
    })
}

/// Writes as much as the socket takes.
pub(super) fn send(
    cx: &mut Context<'_>,
    socket: &TcpStream,
    bytes: &[u8],
) -> Poll<io::Result<usize>> {
    attempt(cx, socket, Way::Out, bytes.len(), || {
        Ok(rustix::net::send(socket, bytes, SendFlags::NOSIGNAL)?)
    })
}

/// Sends FIN after everything that was written.
pub(super) fn finish(socket: &TcpStream) -> io::Result<()> {
    Ok(rustix::net::shutdown(socket, Shutdown::Write)?)
}

/// Makes a later close send RST and drop what was not sent.
pub(super) fn reset_on_close(socket: &TcpStream) {
    // Fails only on what is no TCP socket; the close is then an ordinary one.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// Waits until everything that was written has left the socket, or cannot any more. Of no use after
/// [`finish`]: a socket that has been shut down is always writable.
///
/// A reset throws away what still waits in the send buffer, so that must go out before. A low-water
/// mark of one byte (`TCP_NOTSENT_LOWAT`, tcp(7)) makes "writable" mean "nothing unsent".
pub(super) fn sent(cx: &mut Context<'_>, socket: &TcpStream) -> Poll<()> {
    // Without the mark the wait is for room instead: shorter, never longer.
    let _ = SockRef::from(socket).set_tcp_notsent_lowat(1);
    let done = attempt(cx, socket, Way::Out, 0, || {
        let mut watched = [PollFd::new(socket, PollFlags::OUT)];
        match poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(0),
        }
    });
    done.map(|_| ())
}
