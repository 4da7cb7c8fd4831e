//! The status report as metrics.
//!
//! Made from one report at each scrape: nothing is kept, and nothing is counted twice. Labels come from
//! the configuration, the vocabulary of reasons and the kernel's rules; never from what devices send, so
//! that no device can make them many. What a site can make many is cut at [`MOST_ROWS`].

mod families;
mod text;

use std::fmt::{self, Write as _};
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::http::HttpStatus;
use super::report::Report;
use crate::proxy::Latency;

/// In which of the two formats a scraper wants metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The Prometheus text format 0.0.4.
    Text,
}

impl Format {
    /// What an `Accept` header asks for.
    pub(super) fn of(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Text }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// The metrics of a report.
pub(super) fn render(report: &Arc<Report>, http: HttpStatus, format: Format) -> String {
    let mut registry = Registry::with_prefix("sluicegate");
    registry.register_collector(Box::new(Scrape { report: Arc::clone(report), http }));
    let mut out = String::with_capacity(64 << 10);
    // Writing to a String cannot fail.
    let _ = prometheus_client::encoding::text::encode(&mut out, &registry);
    match format {
        Format::OpenMetrics => out,
        Format::Text => text::from_open_metrics(&out),
    }
}

#[derive(Debug)]
struct Scrape {
    report: Arc<Report>,
    http: HttpStatus,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        families::write(&mut Families(encoder), &self.report, self.http)
    }
}

/// A row's labels.
type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Writes metric families.
struct Families<'e>(DescriptorEncoder<'e>);

impl Families<'_> {
    /// Values that go up and down.
    fn gauges<'a>(
        &mut self,
        (name, help): (&str, &str),
        rows: impl IntoIterator<Item = (Labels<'a>, f64)>,
    ) -> fmt::Result {
        let mut rows = rows.into_iter().take(MOST_ROWS).peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let mut family = self.begin(name, help, MetricType::Gauge)?;
        for (labels, value) in rows {
            // The library writes `{}` for no labels, which not every reader takes.
            match labels.is_empty() {
                true => family.encode_gauge(&value)?,
                false => family.encode_family(&labels)?.encode_gauge(&value)?,
            }
        }
        Ok(())
    }

    /// Values that only go up; the format adds `_total` to their name.
    fn counters<'a>(
        &mut self,
        (name, help): (&str, &str),
        rows: impl IntoIterator<Item = (Labels<'a>, u64)>,
    ) -> fmt::Result {
        let mut rows = rows.into_iter().take(MOST_ROWS).peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        let mut family = self.begin(name, help, MetricType::Counter)?;
        for (labels, value) in rows {
            match labels.is_empty() {
                true => family.encode_counter::<NoLabelSet, _, f64>(&value, None)?,
                false => {
                    let mut row = family.encode_family(&labels)?;
                    row.encode_counter::<NoLabelSet, _, f64>(&value, None)?;
                }
            }
        }
        Ok(())
    }

    fn gauge(&mut self, head: (&str, &str), value: f64) -> fmt::Result {
        self.gauges(head, [(Vec::new(), value)])
    }

    fn counter(&mut self, head: (&str, &str), value: u64) -> fmt::Result {
        self.counters(head, [(Vec::new(), value)])
    }

    /// Set-up times, a histogram for each step.
    fn latencies(&mut self, (name, help): (&str, &str), steps: &[Latency]) -> fmt::Result {
        let mut family = self.begin(name, help, MetricType::Histogram)?;
        for latency in steps {
            let bounds = Latency::bounds().chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(latency.buckets.iter().copied()).collect();
            let labels = vec![("step", latency.step.as_str())];
            let mut row = family.encode_family(&labels)?;
            let (sum, count) = (latency.sum_seconds, latency.count);
            row.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }

    fn begin<'a>(
        &'a mut self,
        name: &'a str,
        help: &'a str,
        kind: MetricType,
    ) -> Result<MetricEncoder<'a>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, kind)
    }
}

/// One row with one label.
fn one<'a>(key: &'static str, value: &'a str) -> Labels<'a> {
    vec![(key, value)]
}

/// What is true is 1.
fn truth(is: bool) -> f64 {
    f64::from(u8::from(is))
}

/// A count as a gauge.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
fn number(count: u64) -> f64 {
    count as f64
}

/// An address as a label.
fn word(value: &impl fmt::Display) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write!(text, "{value}");
    text
}

/// Rows of one family.
const MOST_ROWS: usize = 1_000;
