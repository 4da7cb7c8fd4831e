//! The record layer in front of a ClientHello (RFC 8446 section 5.1).
//!
//! [`Records`] walks the raw bytes once, however they arrive: it remembers where it stands and looks
//! at no byte twice but those of a half header. It copies nothing while the hello is incomplete, and
//! takes the record headers out only when the whole handshake message is there, so a name can never
//! be read across a header.
//!
//! How many records a hello may have: one of at most [`SMALL`] bytes may come in records of any size,
//! down to one byte each; a larger one in at most [`MAX_RECORDS`]. No TLS library cuts finer, and
//! without a limit each byte of a 64 KiB hello could cost six.

use std::borrow::Cow;

use super::fault::Fault;
use super::opening::{self, HANDSHAKE, MAJOR, Opening};
use super::take::Take;
use crate::reason::Reason;

/// Where the walk stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    /// Raw bytes behind us; never inside a record header.
    position: usize,
    /// Payload bytes of the current record still ahead.
    remaining: usize,
    /// Record headers read.
    count: usize,
    /// The handshake header: type and 24-bit length.
    head: [u8; HEAD],
    /// Handshake bytes behind us, `head` included.
    gathered: usize,
}

/// A handshake message that has arrived completely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole {
    /// Raw bytes up to its end.
    pub(super) end: usize,
    /// Records it came in.
    pub(super) records: usize,
    /// Bytes that its last record announces behind it.
    pub(super) surplus: usize,
}

impl Records {
    /// Walks on through `raw`, which is everything received so far.
    pub(super) fn advance(&mut self, raw: &[u8]) -> Result<Option<Whole>, Fault> {
        loop {
            let before = (self.position, self.count);
            if self.remaining == 0 && self.ahead() > 0 {
                self.header(raw)?;
            } else {
                self.payload(raw);
            }
            self.check()?;
            if self.ahead() == 0 {
                let (end, records, surplus) = (self.position, self.count, self.remaining);
                return Ok(Some(Whole { end, records, surplus }));
            }
            if before == (self.position, self.count) {
                return Ok(None);
            }
        }
    }

    /// Bytes of the handshake message received, and all it announces if that is known yet.
    pub(super) fn gathered(&self) -> (usize, Option<usize>) {
        (self.gathered, self.announced().map(|body| body + HEAD))
    }

    fn header(&mut self, raw: &[u8]) -> Result<(), Fault> {
        let rest = raw.get(self.position..).unwrap_or_default();
        if self.count == 0 && opening::judge(first_bytes(rest))? == Opening::Undecided {
            return Ok(());
        }
        match rest {
            [kind, ..] if *kind != HANDSHAKE => {
                return Err(Fault::malformed(format!(
                    "a record of type {kind} comes in the middle of the ClientHello"
                )));
            }
            [_, major, ..] if *major != MAJOR => {
                return Err(Fault::malformed(format!("a record has the major version {major}")));
            }
            _ => {}
        }
        let [_, _, _, high, low, ..] = rest else { return Ok(()) };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if length == 0 {
            return Err(Fault::malformed("a record is empty"));
        }
        if length > MAX_RECORD {
            return Err(Fault::malformed(format!(
                "a record announces {length} bytes; at most {MAX_RECORD} are allowed"
            )));
        }
        self.position += RECORD_HEADER;
        self.remaining = length;
        self.count += 1;
        Ok(())
    }

    fn payload(&mut self, raw: &[u8]) {
        let rest = raw.get(self.position..).unwrap_or_default();
        let step = rest.len().min(self.remaining).min(self.ahead());
        for (slot, byte) in self.head.iter_mut().skip(self.gathered).zip(rest.iter().take(step)) {
            *slot = *byte;
        }
        self.position += step;
        self.gathered += step;
        self.remaining -= step;
    }

    fn check(&self) -> Result<(), Fault> {
        let [kind, ..] = self.head;
        if self.gathered > 0 && kind != CLIENT_HELLO {
            return Err(Fault::malformed(format!(
                "the first handshake message has type {kind}, not ClientHello"
            )));
        }
        let Some(body) = self.announced() else { return Ok(()) };
        if body > MAX_BODY {
            return Err(Fault::new(
                Reason::HelloTooLarge,
                format!("the ClientHello announces {body} bytes; at most {MAX_BODY} are read"),
            ));
        }
        if self.count > MAX_RECORDS && body + HEAD > SMALL {
            return Err(Fault::malformed(format!(
                "a ClientHello of {body} bytes comes in more than {MAX_RECORDS} records"
            )));
        }
        Ok(())
    }

    /// The length of the handshake body, once its header is here.
    fn announced(&self) -> Option<usize> {
        let [_, high, middle, low] = self.head;
        (self.gathered >= HEAD)
            .then(|| usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low))
    }

    /// Bytes wanted next: the rest of the handshake header, then the rest of the body.
    fn ahead(&self) -> usize {
        self.announced().map_or(HEAD, |body| body + HEAD).saturating_sub(self.gathered)
    }
}

/// The body of the handshake message in `raw`, without record headers and handshake header.
pub(super) fn body(raw: &[u8], whole: Whole) -> Cow<'_, [u8]> {
    let raw = raw.get(..whole.end).unwrap_or(raw);
    if whole.records == 1 {
        return Cow::Borrowed(raw.get(RECORD_HEADER + HEAD..).unwrap_or_default());
    }
    let headers = whole.records.saturating_mul(RECORD_HEADER);
    let mut message = Vec::with_capacity(raw.len().saturating_sub(headers));
    let mut take = Take::new(raw);
    while let Some([_, _, _, high, low]) = take.bytes(RECORD_HEADER) {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(take.rest().len());
        message.extend_from_slice(take.bytes(length).unwrap_or_default());
    }
    message.drain(..HEAD.min(message.len()));
    Cow::Owned(message)
}

/// The bytes a stream is judged and recorded by when it is not TLS.
pub(super) fn first_bytes(raw: &[u8]) -> &[u8] {
    raw.get(..FIRST_BYTES).unwrap_or(raw)
}

/// RFC 8446 section 5.1: type, version, length.
const RECORD_HEADER: usize = 5;
/// RFC 8446 section 5.1: a plaintext record carries at most 2^14 bytes.
const MAX_RECORD: usize = 1 << 14;
/// RFC 8446 section 4: type and 24-bit length.
const HEAD: usize = 4;
const CLIENT_HELLO: u8 = 1;
/// Real hellos stay below 4 KiB, also post-quantum ones; 64 KiB is what TLS servers read.
const MAX_BODY: usize = 64 * 1024;
/// Handshake bytes, header included, up to which the number of records is not limited.
const SMALL: usize = 2048;
/// Records that a hello larger than [`SMALL`] may come in.
const MAX_RECORDS: usize = 64;
const FIRST_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// A hello with a body of `length` bytes in records of `size`.
    fn hello(length: u16, size: usize) -> Vec<u8> {
        let [high, low] = length.to_be_bytes();
        let message = [&[CLIENT_HELLO, 0, high, low][..], &vec![7; usize::from(length)]].concat();
        message
            .chunks(size)
            .flat_map(|part| {
                let length = u16::try_from(part.len()).unwrap().to_be_bytes();
                [&[HANDSHAKE, MAJOR, 1, length[0], length[1]], part].concat()
            })
            .collect()
    }

    #[test]
    fn bytes_behind_are_never_looked_at_again() {
        // What makes the time linear: a walk that went back would trip over the spoilt bytes.
        for size in [1, 2, 5, 100, 2_000] {
            let stream = hello(1_000, size);
            let mut records = Records::default();
            let mut raw = Vec::new();
            let mut last = Ok(None);
            for byte in &stream {
                raw.push(*byte);
                last = records.advance(&raw);
                raw[..records.position].fill(0xee);
            }
            let records = 1_004_usize.div_ceil(size);
            let whole = Whole { end: stream.len(), records, surplus: 0 };
            assert_eq!(last, Ok(Some(whole)));
        }
    }

    #[test]
    fn the_body_has_no_headers_in_it() {
        for size in [1, 3, 4, 5, 64, 2_000] {
            let stream = [hello(300, size), vec![1, 2, 3]].concat();
            let whole = Records::default().advance(&stream).unwrap().unwrap();
            assert_eq!(*body(&stream, whole), [7; 300]);
        }
    }

    #[test]
    fn an_empty_body_is_whole() {
        let stream = hello(0, 4);
        let whole = Records::default().advance(&stream).unwrap().unwrap();
        assert_eq!((body(&stream, whole).len(), whole.end), (0, 9));
    }
}
