//! What the hot paths may allocate. Counted, not timed, so that it holds on any machine.
//!
//! The crate that counts puts itself in place of the allocator, so this is a test program of its own.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure, as it should be"
)]

#[path = "support/client_hello.rs"]
mod client_hello;
#[path = "../benches/samples/mod.rs"]
mod samples;

use allocation_counter::{AllocationInfo, measure};
use samples::{hellos, plant};
use sluicegate::hello::{HelloReader, Progress};

/// What is left of a hello that came in one piece, and what was allocated on the way.
fn read(bytes: &[u8]) -> (Progress, AllocationInfo) {
    let mut kept = None;
    let info = measure(|| {
        let mut reader = HelloReader::new();
        let progress = reader.push(bytes);
        kept = Some((progress, reader.into_raw()));
    });
    let (progress, raw) = kept.unwrap();
    assert_eq!(raw, bytes);
    (progress, info)
}

#[test]
fn a_hello_keeps_its_bytes_and_six_small_pieces() {
    for bytes in [hellos::common(), hellos::post_quantum(), hellos::worst()] {
        let (progress, info) = read(&bytes);
        let Progress::Hello(hello) = progress else { panic!("{progress:?}") };
        let facts = &hello.facts;
        // The bytes; the name, behind the two counts of an `Arc`; versions and ALPN names in lists
        // with room for four; the one ALPN name; the fingerprint.
        let name = (hello.name.as_str().len() + 16).next_multiple_of(8);
        let lists = 4 * size_of::<u16>() + 4 * size_of::<Box<[u8]>>();
        let small = name + lists + facts.alpn[0].len() + facts.ja4.capacity();
        assert_eq!(info.count_current, 6, "{info:?}");
        let kept = usize::try_from(info.bytes_current).unwrap();
        assert!(kept <= bytes.len() + small, "{kept} bytes kept of {}: {info:?}", bytes.len());
    }
}

#[test]
fn reading_a_hello_allocates_little_beside_what_it_keeps() {
    for (bytes, joined) in [
        (hellos::common(), 0),
        (hellos::post_quantum(), 0),
        // Records are joined into a message, in a buffer that doubles as it grows.
        (hellos::worst(), 16 * 1024),
    ] {
        let (_, info) = read(&bytes);
        assert!(info.count_total <= 40, "{info:?}");
        let most = (bytes.len() + joined + 1_400) as u64;
        assert!(info.bytes_total <= most, "more than {most}: {info:?}");
    }
}

#[test]
fn an_incomplete_hello_holds_nothing_but_its_bytes() {
    for bytes in [hellos::common(), hellos::post_quantum(), hellos::worst()] {
        let (_, incomplete) = bytes.split_last().unwrap();
        let mut reader = HelloReader::new();
        let info = measure(|| {
            for byte in incomplete {
                assert_eq!(reader.push(&[*byte]), Progress::Incomplete);
            }
        });
        assert_eq!(info.count_current, 1, "{info:?}");
        // The buffer doubles from eight bytes on; the old one lives until it is copied.
        let held = bytes.len().next_power_of_two();
        assert!(info.bytes_max <= (held + held / 2) as u64, "{info:?}");
        assert!(info.count_total <= u64::from(held.ilog2()), "{info:?}");
    }
}

#[test]
fn a_verdict_that_allows_allocates_nothing() {
    let policy = plant::policy();
    let cases = plant::cases(&policy);
    let allowed = cases.iter().filter(|case| case.reason.is_none());
    let mut judged = 0;
    for case in allowed {
        for (asking, name, port) in &case.questions {
            let info = measure(|| assert!(policy.judge(*asking, name, *port).outcome.is_ok()));
            assert_eq!(info.count_total, 0, "{}: {name}: {info:?}", case.label);
            judged += 1;
        }
    }
    assert_eq!(judged, 11_000);
}

#[test]
fn a_refusal_allocates_nothing() {
    let policy = plant::policy();
    let cases = plant::cases(&policy);
    let refused: Vec<_> = cases.iter().filter(|case| case.reason.is_some()).collect();
    assert_eq!(refused.len(), 7);
    for case in refused {
        for (asking, name, port) in &case.questions {
            let info = measure(|| drop(policy.judge(*asking, name, *port)));
            assert_eq!(info.count_total, 0, "{}: {name}: {info:?}", case.label);
        }
    }
}
