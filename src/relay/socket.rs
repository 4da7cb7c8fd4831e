//! The system calls on sockets, tied to what epoll has said of them.
//!
//! Events are edge-triggered (epoll(7)): what one has said may be forgotten only when the kernel said
//! EAGAIN for this very socket, or moved less than it was asked for where that means the same.
//! [`attempt`] is the only place that decides so.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::Poll;
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use socket2::SockRef;

/// A socket, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Socket<'a> {
    pub(super) fd: BorrowedFd<'a>,
    pub(super) known: &'a Known,
}

/// What epoll has said of a socket and nothing has disproved since.
#[derive(Debug, Default)]
pub(super) struct Known(Cell<u8>);

/// Which readiness an operation needs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// The socket has bytes, an end or an error for us.
    In,
    /// The socket has room, or an error for us.
    Out,
}

impl Known {
    /// Takes in an event. What is final, an end or an error, is never forgotten again.
    pub(super) fn learn(&self, flags: EventFlags) {
        let mut known = self.0.get();
        let has = |flag| flags.contains(flag);
        let (hung_up, failed) = (has(EventFlags::HUP), has(EventFlags::ERR));
        for (bit, holds) in [
            (IN, has(EventFlags::IN)),
            (OUT, has(EventFlags::OUT)),
            (IN_OVER, hung_up || failed || has(EventFlags::RDHUP)),
            (OUT_OVER, hung_up || failed),
            (FAILED, failed),
        ] {
            known |= if holds { bit } else { 0 };
        }
        self.0.set(known);
    }

    /// Whether the socket has, or had, an error.
    pub(super) fn has_failed(&self) -> bool {
        self.0.get() & FAILED != 0
    }

    fn forget(&self, way: Way) {
        let bit = match way {
            Way::In => IN,
            Way::Out => OUT,
        };
        self.0.set(self.0.get() & !bit);
    }
}

impl Socket<'_> {
    /// Whether an operation is worth trying; if not, an event says when it is.
    pub(super) fn is_ready(self, way: Way) -> bool {
        let bits = match way {
            Way::In => IN | IN_OVER,
            Way::Out => OUT | OUT_OVER,
        };
        self.known.0.get() & bits != 0
    }
}

/// What epoll has to say of a flow's socket.
pub(super) const EVENTS: EventFlags =
    EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP).union(EventFlags::ET);

/// Tries an operation until it is done, or until its socket is not ready.
///
/// One that moves something, but less than `full` bytes, has met the socket's limit: the next would
/// get EAGAIN, and is spared. What arrives from then on makes the socket ready anew, and an end of the
/// stream or an error is never forgotten (epoll(7), question 9).
pub(super) fn attempt(
    socket: Socket<'_>,
    way: Way,
    full: usize,
    mut job: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    while socket.is_ready(way) {
        match job() {
            Ok(size) => {
                if (1..full).contains(&size) {
                    socket.known.forget(way);
                }
                return Poll::Ready(Ok(size));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                socket.known.forget(way);
                return Poll::Pending;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
    Poll::Pending
}

/// Reads what has arrived; 0 is the end of the stream. Urgent data ends a read early as well: what
/// comes behind it waits for the next byte. TLS has none.
pub(super) fn receive(socket: Socket<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
    let full = buffer.len();
    attempt(socket, Way::In, full, || {
        let (_, size) = rustix::net::recv(socket.fd, &mut *buffer, RecvFlags::empty())?;
        Ok(size)
    })
}

/// Writes as much as the socket takes.
pub(super) fn send(socket: Socket<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    attempt(socket, Way::Out, bytes.len(), || {
        Ok(rustix::net::send(socket.fd, bytes, SendFlags::NOSIGNAL)?)
    })
}

/// Sends FIN after everything that was written.
pub(super) fn finish(socket: Socket<'_>) -> io::Result<()> {
    Ok(rustix::net::shutdown(socket.fd, Shutdown::Write)?)
}

/// Makes a later close send RST and drop what was not sent.
pub(super) fn reset_on_close(socket: impl AsFd) {
    // Fails only on what is no TCP socket; the close is then an ordinary one.
    let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
}

/// Waits until everything that was written has left the socket, or cannot any more. Of no use after
/// [`finish`]: a socket that has been shut down is always writable.
///
/// A reset throws away what still waits in the send buffer, so that must go out before. A low-water
/// mark of one byte (`TCP_NOTSENT_LOWAT`, tcp(7)) makes "writable" mean "nothing unsent".
pub(super) fn sent(socket: Socket<'_>) -> Poll<()> {
    // Without the mark the wait is for room instead: shorter, never longer.
    let _ = SockRef::from(&socket.fd).set_tcp_notsent_lowat(1);
    let done = attempt(socket, Way::Out, 0, || {
        let mut watched = [PollFd::from_borrowed_fd(socket.fd, PollFlags::OUT)];
        match poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(0),
        }
    });
    done.map(|_| ())
}

const IN: u8 = 1;
const OUT: u8 = 1 << 1;
/// Reading shows the end of the stream or an error.
const IN_OVER: u8 = 1 << 2;
/// Writing fails.
const OUT_OVER: u8 = 1 << 3;
const FAILED: u8 = 1 << 4;
