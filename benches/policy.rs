//! How long a verdict takes in a plant with 10,000 devices and 1,000 names, and how long it takes
//! to load the configuration of such a plant.

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

use criterion::{Criterion, criterion_group, criterion_main};
use samples::plant;
use sluicegate::config;
use sluicegate::policy::Policy;

fn judge(criterion: &mut Criterion) {
    let policy = plant::policy();
    let mut group = criterion.benchmark_group("verdict");
    for case in plant::cases(&policy) {
        let mut questions = case.questions.iter().cycle();
        group.bench_function(case.label, |bencher| {
            bencher.iter(|| {
                let (asking, name, port) = questions.next().expect("an endless cycle");
                policy.judge(black_box(*asking), black_box(name), *port)
            });
        });
    }
}

fn reload(criterion: &mut Criterion) {
    let text = plant::file();
    let site = config::parse(&text, "plant.toml").expect("a valid file").site;
    let mut group = criterion.benchmark_group("reload");
    group.sample_size(20);
    group.bench_function("load", |bencher| {
        bencher.iter(|| config::parse(black_box(&text), "plant.toml").expect("a valid file"));
    });
    group.bench_function("compile", |bencher| {
        bencher.iter(|| Policy::compile(black_box(&site)));
    });
    group.bench_function("load and compile", |bencher| {
        bencher.iter(|| {
            let loaded = config::parse(black_box(&text), "plant.toml").expect("a valid file");
            Policy::compile(&loaded.site)
        });
    });
}

criterion_group!(benches, judge, reload);
criterion_main!(benches);
