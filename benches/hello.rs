//! How long it takes to read a ClientHello.

#![allow(missing_docs, reason = "the macros make functions without a word")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a measurement that meets the unexpected has to fail"
)]

#[path = "../tests/support/client_hello.rs"]
mod client_hello;
mod samples;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use samples::hellos;
use sluicegate::hello::{HelloReader, Progress};
use sluicegate::proxy::Ja4Cache;

fn read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hello");
    for (label, bytes) in [
        ("517 bytes", hellos::common()),
        ("1800 bytes, post-quantum", hellos::post_quantum()),
        ("2048 bytes in records of 1", hellos::worst()),
    ] {
        assert!(matches!(HelloReader::new().push(&bytes), Progress::Hello(_)), "{label}");
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(label, |bencher| {
            bencher.iter(|| {
                let mut reader = HelloReader::new();
                let progress = reader.push(black_box(&bytes));
                (progress, reader.into_raw())
            });
        });
    }
    for (label, bytes) in
        [("517 bytes", hellos::common()), ("1800 bytes, post-quantum", hellos::post_quantum())]
    {
        let read = |bytes: &[u8]| {
            let mut reader = HelloReader::new();
            match reader.push(bytes) {
                Progress::Hello(hello) => (hello, reader.into_raw()),
                other => panic!("{label}: {other:?}"),
            }
        };
        let mut cache = Ja4Cache::default();
        group.bench_function(format!("{label}, fingerprint cached"), |bencher| {
            bencher.iter(|| {
                let (hello, raw) = read(black_box(&bytes));
                (cache.ja4(&hello.facts.traits), hello, raw)
            });
        });
        group.bench_function(format!("{label}, fingerprint cold"), |bencher| {
            bencher.iter(|| {
                let (hello, raw) = read(black_box(&bytes));
                (hello.facts.ja4(), hello, raw)
            });
        });
    }
    let bytes = hellos::worst();
    group.bench_function("2048 bytes in records of 1, byte by byte", |bencher| {
        bencher.iter(|| {
            let mut reader = HelloReader::new();
            bytes.iter().map(|byte| reader.push(&[*black_box(byte)])).last()
        });
    });
}

criterion_group!(benches, read);
criterion_main!(benches);
