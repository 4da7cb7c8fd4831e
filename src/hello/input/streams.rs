//! The clients' bytes of a capture, connection by connection, in the order of the stream.
//!
//! Bytes that arrive twice count once, as first captured; a hole ends what can be read. Only as much
//! of a stream is kept as the largest hello can need.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::capture::Packet;
use super::frame::{self, Content, Segment};

/// The beginning of one connection, as its client sent it.
#[derive(Debug)]
pub(super) struct Stream<'a> {
    pub(super) client: SocketAddr,
    pub(super) server: SocketAddr,
    /// Contiguous, in order.
    pub(super) pieces: Vec<&'a [u8]>,
    pub(super) remarks: Vec<String>,
}

/// Puts the streams together. What has no beginning in the capture is taken only where its first
/// bytes could be one.
pub(super) fn assemble<'a>(packets: &[Packet<'a>], remarks: &mut Vec<String>) -> Vec<Stream<'a>> {
    let mut half_open = HalfStreams::default();
    let mut fragments = 0_usize;
    for packet in packets {
        match frame::read(packet) {
            Content::Tcp(segment) => half_open.take_in(&segment),
            Content::Fragment => fragments += 1,
            Content::Other => {}
        }
    }
    if fragments > 0 {
        remarks.push(format!("{fragments} fragments of IP packets were left out"));
    }
    let mut silent = 0_usize;
    let mut headless = 0_usize;
    let mut streams = Vec::new();
    for half in half_open.all {
        match half.finish() {
            Finished::Stream(stream) => streams.push(stream),
            Finished::Silent => silent += 1,
            Finished::Headless => headless += 1,
            Finished::Answers => {}
        }
    }
    if silent > 0 {
        remarks.push(format!("{silent} connections have no data from their client"));
    }
    if headless > 0 {
        remarks.push(format!("{headless} connections began before the capture"));
    }
    streams
}

#[derive(Debug, Default)]
struct HalfStreams<'a> {
    all: Vec<Half<'a>>,
    /// The latest half with these ends.
    latest: HashMap<(SocketAddr, SocketAddr), usize>,
}

/// One direction of one connection.
#[derive(Debug)]
struct Half<'a> {
    from: SocketAddr,
    to: SocketAddr,
    start: Start,
    /// The sequence number of the first byte, or of the first that was seen.
    base: u32,
    /// Offset from the base, and the bytes.
    segments: Vec<(i64, &'a [u8])>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// A SYN without ACK: this is the client.
    Client,
    /// A SYN with ACK: this is the server.
    Server,
    /// Neither was captured.
    Unseen,
}

enum Finished<'a> {
    Stream(Stream<'a>),
    Silent,
    Headless,
    Answers,
}

impl<'a> HalfStreams<'a> {
    fn take_in(&mut self, segment: &Segment<'a>) {
        let ends = (segment.from, segment.to);
        // A SYN counts as one byte of the stream (RFC 9293 section 3.4).
        let first = segment.sequence.wrapping_add(u32::from(segment.syn));
        let known = self.latest.get(&ends).and_then(|index| self.all.get_mut(*index));
        let half = match known {
            // Ports are used again: another SYN with another number is another connection.
            Some(half) if !segment.syn || half.start == Start::Unseen || half.base == first => half,
            _ => {
                self.latest.insert(ends, self.all.len());
                let (from, to) = ends;
                let half =
                    Half { from, to, start: Start::Unseen, base: first, segments: Vec::new() };
                self.all.push(half);
                let Some(half) = self.all.last_mut() else { return };
                half
            }
        };
        if segment.syn && half.start == Start::Unseen {
            half.start = if segment.ack { Start::Server } else { Start::Client };
            half.rebase(first);
        }
        let offset = half.offset(first);
        if !segment.payload.is_empty() && (-MOST_KEPT..MOST_KEPT).contains(&offset) {
            half.segments.push((offset, segment.payload));
        }
    }
}

impl<'a> Half<'a> {
    /// Sequence numbers wrap; the nearer way round is the right one.
    fn offset(&self, sequence: u32) -> i64 {
        i64::from(sequence.wrapping_sub(self.base).cast_signed())
    }

    /// A SYN came after data: captures of several queues are not always in order.
    fn rebase(&mut self, base: u32) {
        let shift = self.offset(base);
        for (offset, _) in &mut self.segments {
            *offset -= shift;
        }
        self.base = base;
    }

    fn finish(mut self) -> Finished<'a> {
        self.segments.sort_by_key(|(offset, _)| *offset);
        if self.start == Start::Server {
            return Finished::Answers;
        }
        let mut remarks = Vec::new();
        let mut next = 0;
        if self.start == Start::Unseen {
            next = self.segments.first().map_or(0, |(offset, _)| *offset);
        }
        let mut pieces = Vec::new();
        for (offset, bytes) in &self.segments {
            if *offset > next {
                remarks.push(format!("the capture lacks {} bytes of the stream", offset - next));
                break;
            }
            let behind = usize::try_from(next - offset).unwrap_or(usize::MAX);
            if let Some(fresh) = bytes.get(behind..).filter(|fresh| !fresh.is_empty()) {
                pieces.push(fresh);
                next += i64::try_from(fresh.len()).unwrap_or(i64::MAX);
            }
        }
        if self.start == Start::Unseen {
            let first: Vec<u8> = pieces.iter().copied().flatten().take(6).copied().collect();
            match beginning(&first, self.from, self.to) {
                Beginning::Hello => {}
                Beginning::Perhaps => {
                    remarks.push("the connection may have begun before the capture".to_owned());
                }
                Beginning::Nothing => return Finished::Answers,
                Beginning::Middle => return Finished::Headless,
            }
        } else if pieces.is_empty() && remarks.is_empty() {
            return Finished::Silent;
        }
        Finished::Stream(Stream { client: self.from, server: self.to, pieces, remarks })
    }
}

enum Beginning {
    Hello,
    Perhaps,
    Middle,
    Nothing,
}

/// Whether bytes without a captured SYN can be a client's first.
fn beginning(first: &[u8], from: SocketAddr, to: SocketAddr) -> Beginning {
    match first {
        [] => Beginning::Nothing,
        [22, 3, _, _, _, 1] => Beginning::Hello,
        // The answer of a server, or records from the middle.
        _ if from.port() <= to.port() => Beginning::Nothing,
        [20..=24, 3, ..] => Beginning::Middle,
        _ => Beginning::Perhaps,
    }
}

/// More than a hello of 64 KiB in the smallest records that are read.
const MOST_KEPT: i64 = 256 * 1024;
