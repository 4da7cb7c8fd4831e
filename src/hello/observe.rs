//! What the plaintext part of a running handshake says, without touching it.
//!
//! An [`Observer`] looks at the first bytes of one direction and notes the ServerHello's version and
//! cipher suite, and a plaintext alert: they answer why a device that was let through still cannot
//! connect. Nothing is decided by them; the destination is fixed before the first of these bytes. It
//! stops when the rest is encrypted or after [`BUDGET`] bytes, and what it cannot read it leaves. Only
//! the current ServerHello or alert is kept, and no more of it than [`LONGEST_HELLO`] bytes.

use super::take::Take;

/// Whose bytes are observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the server: a ServerHello, then perhaps an alert.
    Server,
    /// From the device, behind its ClientHello: an alert.
    Device,
}

/// Whether more bytes are of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Push the next bytes.
    More,
    /// Nothing more can be learnt; further bytes are ignored.
    Done,
}

/// An alert in plaintext (RFC 8446 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenAlert {
    /// 1 is a warning, 2 is fatal.
    pub level: u8,
    /// The description; [`alert_name`](super::alert::alert_name) names it.
    pub description: u8,
}

/// What was seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The version the server chose.
    pub version: Option<u16>,
    /// The cipher suite the server chose (IANA TLS Cipher Suites).
    pub cipher: Option<u16>,
    /// The last alert in plaintext.
    pub alert: Option<SeenAlert>,
}

/// Observes one direction of one connection.
#[derive(Debug)]
pub struct Observer {
    direction: Direction,
    watch: Watch,
    seen: Seen,
    /// Bytes of the stream still to be looked at.
    budget: usize,
    /// The record header, as far as it has arrived.
    header: Vec<u8>,
    /// The type of the current record and its bytes still ahead.
    record: (u8, usize),
    /// Alert or handshake bytes of the current message.
    message: Vec<u8>,
    /// The ServerHello is behind us.
    answered: bool,
}

impl Observer {
    /// An observer at the beginning of `direction`; allocates nothing.
    pub fn new(direction: Direction) -> Self {
        Self {
            direction,
            watch: Watch::More,
            seen: Seen::default(),
            budget: BUDGET,
            header: Vec::new(),
            record: (0, 0),
            message: Vec::new(),
            answered: false,
        }
    }

    /// What was seen so far.
    pub fn seen(&self) -> Seen {
        self.seen
    }

    /// Looks at the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) -> Watch {
        let mut take = Take::new(bytes.get(..self.budget).unwrap_or(bytes));
        self.budget = self.budget.saturating_sub(bytes.len());
        while self.watch == Watch::More && !take.is_empty() {
            let (kind, remaining) = self.record;
            if remaining == 0 {
                self.header.extend(take.u8());
                self.open();
            } else {
                let step = remaining.min(take.rest().len());
                self.record = (kind, remaining - step);
                self.content(kind, take.bytes(step).unwrap_or_default());
            }
        }
        if self.budget == 0 {
            self.watch = Watch::Done;
        }
        self.watch
    }

    /// Reads the record header once it is complete.
    fn open(&mut self) {
        let [kind, major, _, high, low] = *self.header.as_slice() else { return };
        self.header.clear();
        let length = usize::from(u16::from_be_bytes([high, low]));
        self.record = (kind, length);
        let fits = match kind {
            // A longer one is encrypted.
            ALERT => length == 2,
            HANDSHAKE => length > 0,
            // Behind ChangeCipherSpec and with application data everything is encrypted.
            _ => false,
        };
        if major != 3 || !fits {
            self.watch = Watch::Done;
        }
        if kind == ALERT {
            // It ends the message that it interrupts (RFC 8446 section 5.1 allows none in between):
            // left in, the beginning of that message would be read as the alert.
            self.message.clear();
        }
    }

    fn content(&mut self, kind: u8, bytes: &[u8]) {
        if kind == HANDSHAKE && (self.direction == Direction::Device || self.answered) {
            return;
        }
        let room = (LONGEST_HELLO + 4).saturating_sub(self.message.len());
        self.message.extend(bytes.iter().take(room));
        if kind == HANDSHAKE {
            self.server_hello();
        } else if let [level, description] = *self.message.as_slice() {
            self.message.clear();
            self.seen.alert = Some(SeenAlert { level, description });
            if level == FATAL {
                self.watch = Watch::Done;
            }
        }
    }

    /// Reads the ServerHello once it is complete (RFC 8446 section 4.1.3).
    fn server_hello(&mut self) {
        let mut take = Take::new(&self.message);
        let Some([kind, high, middle, low]) = take.bytes(4) else { return };
        let length = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
        if *kind != SERVER_HELLO || length > LONGEST_HELLO {
            self.watch = Watch::Done;
            return;
        }
        let Some(body) = take.bytes(length) else { return };
        let Some(chosen) = Chosen::read(body) else {
            self.watch = Watch::Done;
            return;
        };
        self.seen.version = Some(chosen.version);
        self.seen.cipher = Some(chosen.cipher);
        // What follows in the same record may be the next message's beginning.
        self.message = take.rest().to_vec();
        match chosen.next {
            Next::SecondHello => self.server_hello(),
            Next::Encrypted => self.watch = Watch::Done,
            Next::Plaintext => self.answered = true,
        }
    }
}

struct Chosen {
    version: u16,
    cipher: u16,
    next: Next,
}

/// What the server sends behind the message.
enum Next {
    /// It was a HelloRetryRequest: another ServerHello.
    SecondHello,
    /// TLS 1.3: nothing that can be read.
    Encrypted,
    /// TLS 1.2 and older: certificates, and an alert if it goes wrong.
    Plaintext,
}

impl Chosen {
    fn read(body: &[u8]) -> Option<Self> {
        let mut take = Take::new(body);
        let legacy_version = take.u16()?;
        let random = take.bytes(32)?;
        take.vector8()?;
        let cipher = take.u16()?;
        take.u8()?;
        let version = selected_version(take).unwrap_or(legacy_version);
        let next = match version {
            _ if random == RETRY => Next::SecondHello,
            0x0304.. => Next::Encrypted,
            _ => Next::Plaintext,
        };
        Some(Self { version, cipher, next })
    }
}

/// The `supported_versions` extension of a ServerHello (RFC 8446 section 4.2.1).
fn selected_version(mut take: Take<'_>) -> Option<u16> {
    let mut extensions = Take::new(take.vector16()?);
    loop {
        let kind = extensions.u16()?;
        let mut content = Take::new(extensions.vector16()?);
        if kind == SUPPORTED_VERSIONS {
            return content.u16();
        }
    }
}

/// Bytes of a direction that are looked at. Behind the ServerHello of TLS 1.2 come the certificates of
/// both sides, and only then the endpoint's alert about the device's: enough for those.
const BUDGET: usize = 128 * 1024;
/// Bytes of a ServerHello behind its four bytes of header; far more than any has.
const LONGEST_HELLO: usize = 2048;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const SERVER_HELLO: u8 = 2;
const SUPPORTED_VERSIONS: u16 = 43;
const FATAL: u8 = 2;
/// RFC 8446 section 4.1.3: the random of a HelloRetryRequest, the SHA-256 of "HelloRetryRequest".
const RETRY: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
    0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    fn server_hello(legacy: u16, cipher: u16, random: [u8; 32], extensions: &[u8]) -> Vec<u8> {
        let mut body = legacy.to_be_bytes().to_vec();
        body.extend(random);
        body.push(0);
        body.extend(cipher.to_be_bytes());
        body.push(0);
        if !extensions.is_empty() {
            body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
            body.extend(extensions);
        }
        let mut message = vec![SERVER_HELLO, 0, 0, u8::try_from(body.len()).unwrap()];
        message.extend(body);
        message
    }

    fn record(kind: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[kind, 3, 3, length[0], length[1]], content].concat()
    }

    fn whole(direction: Direction, stream: &[u8]) -> (Seen, Watch) {
        let mut observer = Observer::new(direction);
        let watch = observer.push(stream);
        let mut slow = Observer::new(direction);
        let slow_watch = stream.iter().map(|byte| slow.push(&[*byte])).last();
        assert_eq!(slow.seen(), observer.seen(), "byte by byte is the same");
        assert_eq!(slow_watch.unwrap_or(Watch::More), watch);
        for cut in 0..stream.len().min(2_000) {
            let (head, tail) = stream.split_at(cut);
            let mut cut_once = Observer::new(direction);
            cut_once.push(head);
            assert_eq!((cut_once.push(tail), cut_once.seen()), (watch, observer.seen()), "{cut}");
        }
        (observer.seen(), watch)
    }

    const TLS13: &[u8] = &[0, 43, 0, 2, 3, 4];

    #[test]
    fn tls13_is_read_and_then_nothing_more() {
        let message = server_hello(0x0303, 0x1301, [7; 32], TLS13);
        let mut stream = record(HANDSHAKE, &message);
        stream.extend(record(ALERT, &[2, 40]));
        let (seen, watch) = whole(Direction::Server, &stream);
        assert_eq!((seen.version, seen.cipher), (Some(0x0304), Some(0x1301)));
        assert_eq!((seen.alert, watch), (None, Watch::Done));
    }

    #[test]
    fn tls12_is_read_in_pieces_and_the_alert_behind_it() {
        let message = server_hello(0x0303, 0xc02f, [7; 32], &[]);
        let mut stream: Vec<u8> =
            message.chunks(9).flat_map(|piece| record(HANDSHAKE, piece)).collect();
        let (seen, watch) = whole(Direction::Server, &stream);
        assert_eq!((seen.version, seen.cipher), (Some(0x0303), Some(0xc02f)));
        assert_eq!(watch, Watch::More);
        stream.extend(record(HANDSHAKE, &[11; 900]));
        stream.extend(record(ALERT, &[2, 48]));
        let (seen, watch) = whole(Direction::Server, &stream);
        assert_eq!(seen.alert, Some(SeenAlert { level: 2, description: 48 }));
        assert_eq!(watch, Watch::Done);
    }

    #[test]
    fn a_retry_is_followed_by_the_answer() {
        assert_eq!(Sha256::digest(b"HelloRetryRequest").as_slice(), RETRY);
        let mut stream = record(HANDSHAKE, &server_hello(0x0303, 0x1302, RETRY, TLS13));
        let (seen, watch) = whole(Direction::Server, &stream);
        assert_eq!((seen.cipher, watch), (Some(0x1302), Watch::More));
        stream.extend(record(HANDSHAKE, &server_hello(0x0303, 0x1301, [1; 32], TLS13)));
        let (seen, watch) = whole(Direction::Server, &stream);
        assert_eq!((seen.cipher, watch), (Some(0x1301), Watch::Done));
    }

    #[test]
    fn both_answers_may_lie_in_one_record() {
        let retry = server_hello(0x0303, 0x1302, RETRY, TLS13);
        let answer = server_hello(0x0303, 0x1301, [1; 32], TLS13);
        let stream = record(HANDSHAKE, &[retry, answer].concat());
        let (seen, watch) = whole(Direction::Server, &stream);
        assert_eq!((seen.cipher, watch), (Some(0x1301), Watch::Done));
    }

    #[test]
    fn an_alert_inside_a_message_ends_the_message() {
        let message = server_hello(0x0303, 0xc02f, [7; 32], &[]);
        for part in [1, 2, 3, message.len() - 1] {
            let begun = record(HANDSHAKE, &message[..part]);
            for level in [1, FATAL] {
                let stream = [begun.clone(), record(ALERT, &[level, 80])].concat();
                let (seen, _) = whole(Direction::Server, &stream);
                let alert = Some(SeenAlert { level, description: 80 });
                assert_eq!(seen, Seen { alert, ..Seen::default() }, "behind {part} bytes");
            }
        }
    }

    #[test]
    fn an_alert_alone_is_seen_from_both_sides() {
        for direction in [Direction::Server, Direction::Device] {
            let stream = [record(ALERT, &[1, 112]), record(ALERT, &[2, 70])].concat();
            let (seen, watch) = whole(direction, &stream);
            assert_eq!(seen.alert, Some(SeenAlert { level: 2, description: 70 }));
            assert_eq!(watch, Watch::Done);
        }
    }

    #[test]
    fn an_alert_in_the_middle_of_a_message_ends_the_message() {
        let message = server_hello(0x0303, 0xc02f, [7; 32], &[]);
        let stream = [record(HANDSHAKE, &message[..20]), record(ALERT, &[2, 80])].concat();
        let (seen, watch) = whole(Direction::Server, &stream);
        assert_eq!(seen.alert, Some(SeenAlert { level: 2, description: 80 }));
        assert_eq!((seen.version, watch), (None, Watch::Done));
    }

    #[test]
    fn the_device_is_watched_until_it_encrypts() {
        let flight = record(HANDSHAKE, &[16; 70]);
        assert_eq!(whole(Direction::Device, &flight), (Seen::default(), Watch::More));
        for encrypted in [record(20, &[1]), record(23, &[0; 30]), record(ALERT, &[0; 26])] {
            let stream = [flight.clone(), encrypted, record(ALERT, &[2, 46])].concat();
            assert_eq!(whole(Direction::Device, &stream), (Seen::default(), Watch::Done));
        }
    }

    #[test]
    fn it_ends_with_the_budget_and_with_what_is_not_tls() {
        let mut stream = record(HANDSHAKE, &server_hello(0x0303, 0xc02f, [7; 32], &[]));
        for _ in 0..BUDGET / 4000 {
            stream.extend(record(HANDSHAKE, &[11; 4000]));
        }
        assert_eq!(whole(Direction::Server, &stream).1, Watch::More);
        stream.extend(record(HANDSHAKE, &[11; 4000]));
        assert_eq!(whole(Direction::Server, &stream).1, Watch::Done);
        assert_eq!(whole(Direction::Server, b"SSH-2.0-x").1, Watch::Done);
        assert_eq!(whole(Direction::Server, &record(HANDSHAKE, &[])).1, Watch::Done);
        let cut = server_hello(0x0303, 0xc02f, [7; 32], &[0, 43]);
        assert_eq!(whole(Direction::Server, &record(HANDSHAKE, &cut)).0.version, Some(0x0303));
        let short = record(HANDSHAKE, &[SERVER_HELLO, 0, 0, 3, 3, 3, 0]);
        assert_eq!(whole(Direction::Server, &short), (Seen::default(), Watch::Done));
    }
}
