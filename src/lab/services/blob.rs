//! Bytes of any amount that both ends can make and compare: pseudo-random, the same every time.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use sha2::{Digest, Sha256};

/// A body of pseudo-random bytes (xorshift64), which no layer in between can shorten, repeat or
/// reorder unnoticed.
#[derive(Clone, Debug)]
pub struct Blob {
    left: u64,
    state: u64,
}

impl Blob {
    /// The body of this many bytes.
    pub fn new(size: u64) -> Self {
        Self { left: size, state: 0x9e37_79b9_7f4a_7c15 }
    }

    /// The SHA-256 of the body of this many bytes, in lower-case hex.
    pub fn sha256(size: u64) -> String {
        let mut blob = Self::new(size);
        let mut hash = Sha256::new();
        while let Some(chunk) = blob.chunk() {
            hash.update(&chunk);
        }
        hex(&hash.finalize())
    }

    /// The next bytes, `None` at the end.
    pub fn chunk(&mut self) -> Option<Bytes> {
        let size = usize::try_from(self.left).unwrap_or(CHUNK).min(CHUNK);
        if size == 0 {
            return None;
        }
        let mut bytes = Vec::with_capacity(size + 8);
        while bytes.len() < size {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            bytes.extend_from_slice(&self.state.to_le_bytes());
        }
        bytes.truncate(size);
        self.left -= size as u64;
        Some(bytes.into())
    }
}

impl Body for Blob {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.chunk().map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Large enough that HTTP costs nothing beside the bytes.
const CHUNK: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_has_its_size_and_is_the_same_every_time() {
        let whole = |size| {
            let mut blob = Blob::new(size);
            std::iter::from_fn(move || blob.chunk()).flatten().collect::<Vec<u8>>()
        };
        for size in [0, 1, 7, 65_535, 65_536, 200_001] {
            let bytes = whole(size);
            assert_eq!(bytes.len() as u64, size);
            assert_eq!(hex(&Sha256::digest(&bytes)), Blob::sha256(size));
        }
        assert_eq!(whole(100), whole(200_001)[..100]);
        assert_ne!(whole(200_001)[..8], whole(200_001)[65_536..65_544]);
    }
}
