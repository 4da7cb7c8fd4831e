//! However the bytes are cut, the answer is the same.

use proptest::prelude::*;
use sluicegate::hello::{Hello, HelloFacts, HelloReader, Progress, Refusal};

use crate::client_hello::{
    Builder, KEY_SHARE, PADDING, PSK, SNI, list16, record, sni, sni_entries,
};
use crate::{read, read_in};

/// Well-formed hellos of every kind, as messages that can be cut into records.
fn good() -> Vec<Builder> {
    let name = "device.example.com";
    let share = [&[0x11, 0xec][..], &list16(&[5; 1216])].concat();
    vec![
        Builder::tls12(name),
        Builder::tls13(name),
        Builder::tls13("Device.Example.com."),
        Builder::tls13(name).replacing(KEY_SHARE, list16(&share)),
        Builder::tls13(name).with(0xfe0d, vec![1; 60]).with(PSK, vec![2; 60]),
        Builder::bare().with(SNI, sni(name.as_bytes())),
        Builder { legacy_version: 0x0300, ..Builder::bare() }.with(SNI, sni(name.as_bytes())),
    ]
}

/// Hellos that are refused when they are complete, and not before.
fn bad() -> Vec<Builder> {
    let hello = Builder::tls13("device.example.com");
    vec![
        Builder::bare(),
        hello.clone().without(SNI),
        hello.clone().replacing(SNI, sni(b"10.0.0.1")),
        hello.clone().replacing(SNI, sni(b"a\0b.example")),
        hello.clone().replacing(SNI, sni_entries(&[(0, b"a.example"), (0, b"b.example")])),
        hello.clone().with(PADDING, vec![]).with(PADDING, vec![]),
        hello.with(SNI, sni(b"other.example")),
    ]
}

/// The answer without the counts that tell how the bytes came.
fn answer(progress: Progress) -> Progress {
    let plain = |facts: HelloFacts| HelloFacts { records: 0, bytes: 0, trailing_bytes: 0, ..facts };
    match progress {
        Progress::Incomplete => Progress::Incomplete,
        Progress::Hello(hello) => Progress::Hello(Hello { facts: plain(hello.facts), ..hello }),
        Progress::Refused(refusal) => Progress::Refused(Refusal {
            facts: refusal.facts.map(|facts| Box::new(plain(*facts))),
            ..refusal
        }),
    }
}

#[test]
fn every_prefix_is_incomplete() {
    for hello in [good(), bad()].concat() {
        for bytes in [hello.bytes(), hello.in_records(7), hello.in_records(1)] {
            let mut reader = HelloReader::new();
            for (at, byte) in bytes[..bytes.len() - 1].iter().enumerate() {
                assert_eq!(reader.push(&[*byte]), Progress::Incomplete, "byte {at}");
            }
            assert_ne!(reader.push(&bytes[bytes.len() - 1..]), Progress::Incomplete);
        }
    }
}

#[test]
fn every_split_gives_the_same_answer() {
    for hello in [good(), bad()].concat() {
        for bytes in [hello.bytes(), hello.in_records(50)] {
            let whole = read(&bytes);
            for at in 0..=bytes.len() {
                let (first, second) = bytes.split_at(at);
                assert_eq!(read_in([first, second]), whole, "split at {at}");
            }
        }
    }
}

#[test]
fn every_record_boundary_gives_the_same_answer() {
    for hello in [good(), bad()].concat() {
        let message = hello.message();
        let whole = answer(read(&hello.bytes()));
        for at in 1..message.len() {
            let (first, second) = message.split_at(at);
            let bytes = [record(22, 0x0301, first), record(22, 0x0303, second)].concat();
            assert_eq!(answer(read(&bytes)), whole, "boundary at {at}");
        }
    }
}

#[test]
fn a_name_is_not_read_across_a_record_header() {
    // The five bytes of the second header spell no part of the name, whatever a reader makes of
    // the bytes around them.
    let hello = Builder::tls13("good.example.com");
    let message = hello.message();
    let at = message.windows(4).position(|window| window == b"good").unwrap() + 2;
    let bytes = [record(22, 0x0301, &message[..at]), record(22, 0x0301, &message[at..])].concat();
    assert!(!bytes.windows(16).any(|window| window == b"good.example.com"));
    let Progress::Hello(read) = read(&bytes) else { panic!("refused") };
    assert_eq!(read.name.as_str(), "good.example.com");
}

/// Cuts `bytes` at random places, each piece at least one byte.
fn pieces<'a>(mut bytes: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for size in sizes.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (piece, rest) = bytes.split_at((*size).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

proptest! {
    #[test]
    fn any_cutting_gives_the_same_answer(
        hello in prop::sample::select([good(), bad()].concat()),
        records in prop::collection::vec(1_usize..400, 1..20),
        segments in prop::collection::vec(1_usize..400, 1..20),
        behind in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let message = hello.message();
        let mut bytes = Vec::new();
        for part in pieces(&message, &records) {
            bytes.extend(record(22, 0x0301, part));
        }
        bytes.extend(behind);
        prop_assert_eq!(answer(read_in(pieces(&bytes, &segments))), answer(read(&hello.bytes())));
    }

    #[test]
    fn no_bytes_can_make_it_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        sizes in prop::collection::vec(1_usize..50, 1..5),
    ) {
        let whole = read(&bytes);
        let cut = read_in(pieces(&bytes, &sizes));
        prop_assert_eq!(reason(&whole), reason(&cut));
    }

    #[test]
    fn no_body_can_make_it_panic(
        body in prop::collection::vec(any::<u8>(), 0..600),
        head in prop::sample::select(vec![0_usize, 2, 34, 35, 40, 100]),
    ) {
        // A good beginning leads the random bytes deeper.
        let good = Builder::tls13("device.example.com").message();
        let body = [&good[4..4 + head], &body].concat();
        let bytes = record(22, 0x0301, &crate::client_hello::handshake(1, &body));
        prop_assert_ne!(read(&bytes), Progress::Incomplete);
    }
}

fn reason(progress: &Progress) -> Option<&'static str> {
    match progress {
        Progress::Refused(refusal) => Some(refusal.reason.code()),
        _ => None,
    }
}
