//! A stream as a device may send it.

use sluicegate::hello::observe::{Direction, Observer, Seen, Watch};
use sluicegate::hello::{self, Hello, HelloFacts, HelloReader, Progress, Refusal, Stopped};

use super::{pieces, rustls_oracle};

/// The answer is the same however the stream is cut, no part of it panics, and what rustls accepts
/// with a name has the same name here.
pub(crate) fn check(stream: &[u8]) {
    let whole = read([stream]);
    let _ = match &whole {
        Progress::Incomplete => hello::report(Err(&HelloReader::new().stop(Stopped::Closed))),
        Progress::Hello(hello) => hello::report(Ok(hello)),
        Progress::Refused(refusal) => hello::report(Err(refusal)),
    };
    // Another cutting for each input, because there are more inputs than cuttings; byte by byte only
    // where that costs little.
    let seed =
        stream.iter().fold(0x9e37_79b9, |sum: u64, byte| sum.rotate_left(5) ^ u64::from(*byte));
    let mut cuttings = vec![pieces(stream, seed)];
    if stream.len() <= SHORT {
        cuttings.push(stream.chunks(1).collect());
    }
    for cutting in &cuttings {
        assert_eq!(read(cutting.iter().copied()), whole, "cut with {seed}");
    }
    for direction in [Direction::Server, Direction::Device] {
        let at_once = observe(direction, [stream]);
        for cutting in &cuttings {
            assert_eq!(observe(direction, cutting.iter().copied()), at_once, "cut with {seed}");
        }
    }
    if let Some(disagreement) = rustls_oracle::disagreement(stream) {
        panic!("{disagreement}");
    }
}

/// The answer to a stream in pieces, without what may depend on the cutting.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Progress {
    let mut reader = HelloReader::new();
    let mut sent = Vec::new();
    for piece in pieces {
        sent.extend_from_slice(piece);
        let progress = reader.push(piece);
        // The bytes themselves only at the end: else the time is quadratic.
        assert_eq!(reader.raw().len(), sent.len(), "every byte is kept");
        if progress != Progress::Incomplete {
            assert_eq!(reader.raw(), sent, "every byte is kept");
        }
        match progress {
            Progress::Incomplete => {}
            Progress::Hello(hello) => {
                assert_eq!(hello.facts.bytes + hello.facts.trailing_bytes, sent.len());
                let facts = HelloFacts { trailing_bytes: 0, ..hello.facts };
                return Progress::Hello(Hello { facts, ..hello });
            }
            Progress::Refused(refusal) => return Progress::Refused(settled(refusal, &sent)),
        }
    }
    assert_eq!(reader.raw(), sent, "every byte is kept");
    let _ = reader.stop(Stopped::Closed);
    Progress::Incomplete
}

fn settled(refusal: Refusal, sent: &[u8]) -> Refusal {
    let facts = refusal.facts.map(|facts| Box::new(HelloFacts { trailing_bytes: 0, ..*facts }));
    // Of something else than a hello it is said what it looks like, by the bytes that came first.
    let detail = if sent.starts_with(HELLO) { refusal.detail } else { String::new() };
    Refusal { facts, detail, first_bytes: Vec::new(), ..refusal }
}

fn observe<'a>(direction: Direction, pieces: impl IntoIterator<Item = &'a [u8]>) -> Seen {
    let mut observer = Observer::new(direction);
    for piece in pieces {
        if observer.push(piece) == Watch::Done {
            break;
        }
    }
    observer.seen()
}

/// Bytes up to which a stream is read byte by byte as well.
const SHORT: usize = 128;
/// How a stream with a hello begins: a handshake record of TLS.
const HELLO: &[u8] = &[22, 3];
