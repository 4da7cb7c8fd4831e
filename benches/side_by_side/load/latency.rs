//! How long things took: counts in buckets that are at most 1/128 of their value wide.

use std::time::Duration;

use serde_json::{Value, json};

/// A distribution of durations.
#[derive(Clone, Debug, Default)]
pub(super) struct Latencies {
    /// By [`bucket`]; as long as needed.
    counts: Vec<u64>,
    total: u64,
    longest: Duration,
}

impl Latencies {
    pub(super) fn add(&mut self, took: Duration) {
        let bucket = bucket(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.total += 1;
        self.longest = self.longest.max(took);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        let length = self.counts.len().max(other.counts.len());
        self.counts.resize(length, 0);
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.longest = self.longest.max(other.longest);
    }

    /// In microseconds: half of them took at most `p50`, 99 of 100 at most `p99`. `null` without any.
    pub(super) fn json(&self) -> Value {
        json!({
            "p50": self.percentile(50),
            "p99": self.percentile(99),
            "max": (self.total > 0).then(|| micros(nanos(self.longest))),
        })
    }

    /// The largest value of the bucket in which that many per cent are reached.
    fn percentile(&self, percent: u64) -> Option<f64> {
        let wanted = self.total.checked_mul(percent)?.div_ceil(100).max(1);
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(micros(largest(bucket).min(nanos(self.longest))))
    }
}

/// Values below 256 have a bucket each; above, every power of two has 128.
pub(super) fn bucket(value: u64) -> usize {
    let shift = value.max(1).ilog2().saturating_sub(7);
    shift as usize * 128 + usize::try_from(value >> shift).unwrap_or(usize::MAX)
}

/// The largest value of a bucket.
pub(super) fn largest(bucket: usize) -> u64 {
    if bucket < 256 {
        return bucket as u64;
    }
    let shift = bucket / 128 - 1;
    let next = (bucket - shift * 128 + 1) as u128;
    u64::try_from((next << shift) - 1).unwrap_or(u64::MAX)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn micros(nanos: u64) -> f64 {
    // Tenths of a microsecond are as fine as a bucket gets from 13 µs on.
    (nanos as f64 / 100.0).round() / 10.0
}
