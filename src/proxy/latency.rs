//! How long the steps of flows' set-up take: one histogram for each step and data thread.
//!
//! Written by that thread only, with relaxed counters, once for each step of a flow.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

/// A step of a flow's set-up that somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SetUpStep {
    /// From the accepted connection to the complete ClientHello: the device's own time.
    Hello,
    /// The private answer for the name.
    Resolve,
    /// From the first connection attempt to a connected ENI.
    Dial,
    /// Until the Open record is on disk.
    Audit,
}

impl SetUpStep {
    /// Every step, in the order of a flow's life.
    pub const ALL: [Self; 4] = [Self::Hello, Self::Resolve, Self::Dial, Self::Audit];

    /// The word for it in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Resolve => "resolve",
            Self::Dial => "dial",
            Self::Audit => "audit",
        }
    }
}

/// Upper bounds of the buckets, in microseconds; what takes longer is in one more.
const BOUNDS: [u32; 13] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000,
];

/// One thread's histograms.
#[derive(Debug, Default)]
pub(super) struct Latencies([Histogram; 4]);

#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

/// How long a step took, of all threads together.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// Which step.
    pub step: SetUpStep,
    /// How often it was done.
    pub count: u64,
    /// Seconds that it took, of all together.
    pub sum_seconds: f64,
    /// How often it was done within each of [`Latency::bounds`] but not within the one before; the last
    /// took longer than all of them.
    pub buckets: Vec<u64>,
}

impl Latencies {
    pub(super) fn took(&self, step: SetUpStep, time: Duration) {
        let [hello, resolve, dial, audit] = &self.0;
        let histogram = match step {
            SetUpStep::Hello => hello,
            SetUpStep::Resolve => resolve,
            SetUpStep::Dial => dial,
            SetUpStep::Audit => audit,
        };
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|bound| micros <= u64::from(*bound));
        if let Some(count) = histogram.buckets.get(bucket.unwrap_or(BOUNDS.len())) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        histogram.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Adds these to a sum.
    pub(super) fn add_to(&self, sums: &mut [Latency]) {
        for (histogram, sum) in self.0.iter().zip(sums) {
            for (count, sum) in histogram.buckets.iter().zip(&mut sum.buckets) {
                *sum += count.load(Ordering::Relaxed);
            }
            sum.count = sum.buckets.iter().sum();
            let time = Duration::from_micros(histogram.micros.load(Ordering::Relaxed));
            sum.sum_seconds += time.as_secs_f64();
        }
    }
}

impl Latency {
    /// No step was done yet.
    pub fn none() -> Vec<Self> {
        let none =
            |step| Self { step, count: 0, sum_seconds: 0.0, buckets: vec![0; BOUNDS.len() + 1] };
        SetUpStep::ALL.map(none).to_vec()
    }

    /// Upper bounds of the buckets in seconds, but for the last bucket.
    pub fn bounds() -> impl Iterator<Item = f64> {
        BOUNDS.iter().map(|micros| f64::from(*micros) / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_first_bucket_that_holds_it() {
        let (one, two) = (Latencies::default(), Latencies::default());
        one.took(SetUpStep::Dial, Duration::from_micros(250));
        one.took(SetUpStep::Dial, Duration::from_micros(251));
        two.took(SetUpStep::Dial, Duration::from_secs(60));
        two.took(SetUpStep::Audit, Duration::from_millis(3));
        let mut sums = Latency::none();
        one.add_to(&mut sums);
        two.add_to(&mut sums);
        let [hello, _, dial, audit] = &sums[..] else { panic!("{sums:?}") };
        assert_eq!((hello.count, dial.count, audit.count), (0, 3, 1));
        let first_and_last = (dial.buckets[0], dial.buckets[1], dial.buckets.last().copied());
        assert_eq!(first_and_last, (1, 1, Some(1)));
        assert!((dial.sum_seconds - 60.000_501).abs() < 1e-9, "{dial:?}");
        assert_eq!(Latency::bounds().count() + 1, dial.buckets.len());
    }
}
