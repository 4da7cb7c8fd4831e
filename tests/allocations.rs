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
use sluicegate::proxy::Ja4Cache;

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
fn a_hello_allocates_its_bytes_and_its_name() {
    for bytes in [hellos::common(), hellos::post_quantum()] {
        let (progress, info) = read(&bytes);
        let Progress::Hello(hello) = progress else { panic!("{progress:?}") };
        // The name stands behind the two counts of an `Arc`.
        let name = (hello.name.as_str().len() + 16).next_multiple_of(8);
        assert_eq!((info.count_total, info.count_current), (2, 2), "{info:?}");
        let kept = (bytes.len() + name) as u64;
        assert!(info.bytes_total <= kept, "more than {kept}: {info:?}");
    }
}

#[test]
fn records_are_joined_in_one_buffer_more() {
    let bytes = hellos::worst();
    let (progress, info) = read(&bytes);
    let Progress::Hello(hello) = progress else { panic!("{progress:?}") };
    assert_eq!((info.count_total, info.count_current), (3, 2), "{info:?}");
    let most = (bytes.len() + 2_048 + hello.name.as_str().len() + 24) as u64;
    assert!(info.bytes_total <= most, "more than {most}: {info:?}");
}

#[test]
fn the_fingerprint_of_a_known_client_allocates_nothing() {
    let mut cache = Ja4Cache::default();
    for bytes in [hellos::common(), hellos::post_quantum(), hellos::worst()] {
        let (Progress::Hello(hello), _) = read(&bytes) else { panic!("a good hello") };
        let traits = &hello.facts.traits;
        let first = cache.ja4(traits);
        let mut again = None;
        let info = measure(|| again = Some(cache.ja4(traits)));
        assert_eq!((again, info.count_total), (Some(first), 0), "{info:?}");
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
