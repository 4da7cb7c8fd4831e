//! How a ClientHello is cut before it is sent.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What becomes of the first TLS record on its way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HelloShape {
    /// As the TLS library writes it.
    #[default]
    Whole,
    /// Its first bytes, this many, each in a segment of its own.
    OneByteSegments(usize),
    /// Spread over records with this many bytes of it each (RFC 8446 section 5.1 allows it).
    Records(usize),
}

/// A stream that cuts the first record written to it.
#[derive(Debug)]
pub struct Shaped<S> {
    inner: S,
    shape: HelloShape,
    pending: Option<Pending>,
}

#[derive(Debug)]
struct Pending {
    bytes: Vec<u8>,
    sent: usize,
    /// How much of the caller's bytes this stands for.
    stands_for: usize,
}

impl<S> Shaped<S> {
    pub(super) fn new(inner: S, shape: HelloShape) -> Self {
        Self { inner, shape, pending: None }
    }

    /// The stream below.
    pub fn inner(&self) -> &S {
        &self.inner
    }
}

impl<S: AsyncWrite + Unpin> Shaped<S> {
    fn poll_pending(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        while let Some(pending) = &mut self.pending {
            let rest = pending.bytes.get(pending.sent..).unwrap_or_default();
            if rest.is_empty() {
                let stands_for = pending.stands_for;
                self.pending = None;
                return Poll::Ready(Ok(stands_for));
            }
            pending.sent += ready!(Pin::new(&mut self.inner).poll_write(cx, rest))?;
        }
        Poll::Ready(Ok(0))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Shaped<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.pending.is_some() {
            return self.poll_pending(cx);
        }
        match self.shape {
            HelloShape::OneByteSegments(left) if left > 0 && !bytes.is_empty() => {
                let first = bytes.get(..1).unwrap_or_default();
                let sent = ready!(Pin::new(&mut self.inner).poll_write(cx, first))?;
                self.shape = HelloShape::OneByteSegments(left - sent);
                Poll::Ready(Ok(sent))
            }
            HelloShape::Records(size) if !bytes.is_empty() => {
                let pending =
                    Pending { bytes: reframe(bytes, size), sent: 0, stands_for: bytes.len() };
                self.pending = Some(pending);
                self.shape = HelloShape::Whole;
                self.poll_pending(cx)
            }
            _ => Pin::new(&mut self.inner).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Shaped<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

/// The record's payload in records of at most `size` bytes. What is no whole record stays as it is.
fn reframe(record: &[u8], size: usize) -> Vec<u8> {
    let Some(([kind, major, minor, high, low], payload)) = record.split_first_chunk::<5>() else {
        return record.to_vec();
    };
    if payload.len() != usize::from(u16::from_be_bytes([*high, *low])) {
        return record.to_vec();
    }
    // Never longer than the record was, so the length fits again.
    let cut = |piece: &[u8]| {
        let length = u16::try_from(piece.len()).unwrap_or(u16::MAX).to_be_bytes();
        [&[*kind, *major, *minor][..], &length, piece].concat()
    };
    payload.chunks(size.max(1)).flat_map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_cut_into_records_with_the_same_payload() {
        let record = [22, 3, 1, 0, 5, 1, 2, 3, 4, 5];
        let expected = [22, 3, 1, 0, 2, 1, 2, 22, 3, 1, 0, 2, 3, 4, 22, 3, 1, 0, 1, 5];
        assert_eq!(reframe(&record, 2), expected);
        assert_eq!(reframe(&record, 5), record);
        assert_eq!(reframe(&record[..7], 2), record[..7], "half a record is left alone");
    }
}
