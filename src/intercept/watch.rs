//! Notices that somebody changed nftables.
//!
//! Another tool's `flush ruleset` takes the gate's table along. The kernel tells about every change
//! (group `NFNLGRP_NFTABLES`); which change it was is not asked here: whoever waits compares the
//! whole table with the plan afterwards, so no kind of damage can be missed.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use bytes::BytesMut;
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{AsyncSocket, SocketAddr, TokioSocket};

/// A subscription to changes of nftables in this network namespace.
pub struct Watch {
    socket: TokioSocket,
    buffer: BytesMut,
}

impl Watch {
    /// Subscribes. Must be made inside a tokio runtime.
    ///
    /// # Errors
    /// The kernel refuses: no nf_tables, or no `CAP_NET_ADMIN`.
    pub fn open() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
        socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
        socket.socket_mut().add_membership(NFNLGRP_NFTABLES)?;
        Ok(Self { socket, buffer: BytesMut::with_capacity(BUFFER) })
    }

    /// Resolves after one or more changes.
    ///
    /// # Errors
    /// The socket failed; the subscription is over.
    pub async fn changed(&mut self) -> io::Result<()> {
        self.receive().await?;
        // One transaction is many messages: take what is there already.
        poll_fn(|cx| {
            loop {
                self.buffer.clear();
                match self.socket.poll_recv(cx, &mut self.buffer) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) if overrun(&error) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Ready(Ok(())),
                }
            }
        })
        .await
    }

    async fn receive(&mut self) -> io::Result<()> {
        self.buffer.clear();
        match poll_fn(|cx| self.socket.poll_recv(cx, &mut self.buffer)).await {
            Err(error) if overrun(&error) => Ok(()),
            other => other,
        }
    }
}

/// The kernel dropped messages for want of room: something has changed, which is all we ask.
fn overrun(error: &io::Error) -> bool {
    error.raw_os_error() == Some(ENOBUFS)
}

/// `linux/netfilter/nfnetlink.h`.
const NFNLGRP_NFTABLES: u32 = 7;
const ENOBUFS: i32 = 105;
const BUFFER: usize = 64 * 1024;
