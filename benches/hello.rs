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
