//! What client and server say to each other.
//!
//! The client opens with a ClientHello, the server answers with [`reply`]. From then on the client
//! sends commands of [`COMMAND`] bytes: a letter, seven zeros, and a number, big-endian.

/// Bytes of a command.
pub(super) const COMMAND: usize = 16;
/// Bytes of a TLS record's header.
pub(super) const RECORD_HEADER: usize = 5;
/// Bytes of [`reply`]: what the first flight of a server with a small certificate takes.
pub(super) const REPLY: usize = 1_300;
/// Bytes of a block of bulk data.
pub(super) const BLOCK: usize = 1 << 20;

/// What the server is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Send until the next command.
    Down,
    /// Swallow so many bytes.
    Up(u64),
    /// Answer one byte.
    Answer,
    /// Send back as many bytes as come, in portions of this size, for ever.
    Echo(u64),
    /// Close.
    Quit,
}

impl Command {
    pub(super) fn bytes(self) -> [u8; COMMAND] {
        let (letter, number) = match self {
            Self::Down => (b'D', 0),
            Self::Up(bytes) => (b'U', bytes),
            Self::Answer => (b'A', 0),
            Self::Echo(size) => (b'E', size),
            Self::Quit => (b'Q', 0),
        };
        (u128::from(letter) << 120 | u128::from(number)).to_be_bytes()
    }

    pub(super) fn read(bytes: [u8; COMMAND]) -> Option<Self> {
        let [letter, 0, 0, 0, 0, 0, 0, 0, number @ ..] = bytes else { return None };
        let number = u64::from_be_bytes(number);
        match letter {
            b'D' => Some(Self::Down),
            b'U' => Some(Self::Up(number)),
            b'A' => Some(Self::Answer),
            b'E' if number > 0 => Some(Self::Echo(number)),
            b'Q' => Some(Self::Quit),
            _ => None,
        }
    }
}

/// A ServerHello and a record of application data (RFC 8446 sections 4.1.3 and 5.2).
pub(super) fn reply() -> Vec<u8> {
    let mut hello = vec![2, 0, 0, 118, 3, 3];
    hello.extend([0x5a; 32]);
    hello.push(32);
    hello.extend([7; 32]);
    // TLS_AES_128_GCM_SHA256, no compression; supported_versions and an X25519 key share.
    hello.extend([0x13, 0x01, 0, 0, 46, 0, 43, 0, 2, 3, 4, 0, 51, 0, 36, 0, 0x1d, 0, 32]);
    hello.extend([9; 32]);
    let mut reply = vec![22, 3, 3, 0, 122];
    reply.extend(hello);
    let rest = REPLY - reply.len() - RECORD_HEADER;
    reply.extend([23, 3, 3]);
    reply.extend(u16::try_from(rest).unwrap_or_default().to_be_bytes());
    reply.resize(REPLY, 0xa5);
    reply
}

/// A block to send bulk data from: the command to swallow the rest of it, and zeros.
///
/// Nothing but its first page is ever written, so the kernel maps one page of zeros for the rest.
pub(super) fn block() -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    let payload = (BLOCK - COMMAND) as u64;
    if let Some(head) = block.first_chunk_mut() {
        *head = Command::Up(payload).bytes();
    }
    block
}
