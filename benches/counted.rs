//! Runs what `benches/gate` counts the instructions of: each part in a call of `measured`, which
//! the profiler knows by its name, and prints a line with label and count for each, in order.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a measurement that meets the unexpected has to fail"
)]

#[path = "../tests/support/client_hello.rs"]
mod client_hello;
mod samples;

use std::hint::black_box;

use samples::{hellos, plant};
use sluicegate::config;
use sluicegate::hello::{HelloReader, Progress};
use sluicegate::policy::Policy;
use sluicegate::proxy::Ja4Cache;

fn main() {
    for (label, bytes) in [
        ("hello, 517 bytes", hellos::common()),
        ("hello, 1800 bytes, post-quantum", hellos::post_quantum()),
        ("hello, 2048 bytes in records of 1", hellos::worst()),
    ] {
        report(label, HELLOS, || {
            for _ in 0..HELLOS {
                let mut reader = HelloReader::new();
                black_box(reader.push(black_box(&bytes)));
            }
        });
    }
    for (label, bytes) in [
        ("fingerprint, 517 bytes", hellos::common()),
        ("fingerprint, 1800 bytes, post-quantum", hellos::post_quantum()),
    ] {
        let Progress::Hello(hello) = HelloReader::new().push(&bytes) else { panic!("{label}") };
        let traits = hello.facts.traits;
        let mut cache = Ja4Cache::default();
        cache.ja4(&traits);
        report(&format!("{label}, cached"), HELLOS, || {
            for _ in 0..HELLOS {
                black_box(cache.ja4(black_box(&traits)));
            }
        });
        report(&format!("{label}, cold"), HELLOS, || {
            for _ in 0..HELLOS {
                black_box(black_box(&traits).ja4());
            }
        });
    }
    let text = plant::file();
    let mut site = None;
    report("load", 1, || site = config::parse(&text, "plant.toml").ok());
    let site = site.expect("a valid file").site;
    let mut policy = None;
    report("compile", 1, || policy = Some(Policy::compile(&site)));
    let policy = policy.expect("just compiled");
    for case in plant::cases(&policy) {
        report(&format!("verdict, {}", case.label), case.questions.len(), || {
            for (asking, name, port) in &case.questions {
                black_box(policy.judge(*asking, name, *port));
            }
        });
    }
}

fn report(label: &str, count: usize, mut run: impl FnMut()) {
    measured(&mut run);
    println!("{count}\t{label}");
}

/// Never inlined: its name is what turns counting on and off.
#[inline(never)]
fn measured(run: &mut dyn FnMut()) {
    run();
}

const HELLOS: usize = 100;
