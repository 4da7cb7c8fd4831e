//! A captured hello in the form in which people have it: bytes, hex, base64, or a capture file.
//!
//! Pure and bounded: nothing here reads a file, every take is checked, and work and memory are linear
//! in the input. A capture's streams are read as the gate would have read them, in the order of
//! their sequence numbers.

mod capture;
mod frame;
mod streams;
mod text;

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;

use super::{Hello, HelloReader, Progress, Refusal, Stopped};

/// The form in which the bytes came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The bytes themselves.
    Binary,
    /// Hexadecimal digits.
    Hex,
    /// Base64 (RFC 4648), either alphabet, with or without padding.
    Base64,
    /// A capture file of libpcap.
    Pcap,
    /// A capture file of the newer format.
    Pcapng,
}

/// Why nothing could be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// No bytes.
    #[error("the input is empty")]
    Empty,
    /// A compressed file.
    #[error("the input is compressed; unpack it first (`gunzip`, `unzstd`)")]
    Compressed,
    /// Text of hexadecimal digits that end in the middle of a byte.
    #[error("the input looks like hex but has {0} digits, so half a byte is missing")]
    HalfByte(usize),
    /// A capture file that breaks off or contradicts itself before its first packet.
    #[error("the capture file has no readable packet: {0}")]
    Capture(&'static str),
    /// A capture of something that is not read here.
    #[error(
        "the capture has the link type {0}, which is not read here; capture on a network interface \
         or on `any`"
    )]
    LinkType(u32),
    /// A capture without anything to judge.
    #[error("the capture has no TCP connection with data from its client{0}")]
    NoStream(String),
}

/// What was found.
#[derive(Debug)]
pub struct Examined {
    /// The form of the input.
    pub format: Format,
    /// One for bytes; one for each connection of a capture, in the order of their first packets.
    pub found: Vec<Found>,
    /// What kept parts of the input from being read, one sentence each.
    pub remarks: Vec<String>,
}

/// One stream's answer.
#[derive(Debug)]
pub struct Found {
    /// What the reader says.
    pub answer: Result<Hello, Refusal>,
    /// Client and server, where the input is a capture.
    pub between: Option<(SocketAddr, SocketAddr)>,
    /// What the capture lacks of this stream, one sentence each.
    pub remarks: Vec<String>,
}

/// Recognises the form and reads every hello.
///
/// # Errors
/// [`InputError`], where there is nothing to judge.
pub fn examine(bytes: &[u8]) -> Result<Examined, InputError> {
    if let Some(format) = capture::recognise(bytes) {
        return captured(bytes, format);
    }
    let (format, bytes) = match bytes {
        [] => return Err(InputError::Empty),
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] => return Err(InputError::Compressed),
        _ => match text::decode(bytes)? {
            Some((format, decoded)) => (format, Cow::Owned(decoded)),
            None => (Format::Binary, Cow::Borrowed(bytes)),
        },
    };
    if bytes.is_empty() {
        return Err(InputError::Empty);
    }
    // A capture may have come as text as well.
    if let Some(inner) = capture::recognise(&bytes) {
        return captured(&bytes, inner);
    }
    let answer = read(std::iter::once(&*bytes));
    let found = vec![Found { answer, between: None, remarks: Vec::new() }];
    Ok(Examined { format, found, remarks: Vec::new() })
}

fn captured(bytes: &[u8], format: Format) -> Result<Examined, InputError> {
    let packets = capture::packets(bytes, format)?;
    let mut remarks = packets.remarks;
    let streams = streams::assemble(&packets.list, &mut remarks);
    let found: Vec<Found> = streams
        .into_iter()
        .map(|stream| {
            let answer = read(stream.pieces.iter().copied());
            let between = Some((stream.client, stream.server));
            let remarks = if answer.is_ok() { Vec::new() } else { stream.remarks };
            Found { answer, between, remarks }
        })
        .collect();
    if found.is_empty() {
        if let Some(link) = packets.unread_link {
            return Err(InputError::LinkType(link));
        }
        let why: String = remarks.iter().map(|remark| format!("; {remark}")).collect();
        return Err(InputError::NoStream(why));
    }
    Ok(Examined { format, found, remarks })
}

/// Pushes pieces until there is an answer. Bytes that end too early were cut off.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Hello, Refusal> {
    let mut reader = HelloReader::new();
    for piece in pieces {
        match reader.push(piece) {
            Progress::Incomplete => {}
            Progress::Hello(hello) => return Ok(hello),
            Progress::Refused(refusal) => return Err(refusal),
        }
    }
    Err(reader.stop(Stopped::Closed))
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Binary => "binary",
            Self::Hex => "hex",
            Self::Base64 => "base64",
            Self::Pcap => "pcap",
            Self::Pcapng => "pcapng",
        })
    }
}

#[cfg(test)]
mod tests;
