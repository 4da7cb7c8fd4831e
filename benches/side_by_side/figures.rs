//! What each figure is called in tables, and medians and spreads.

use crate::plan::{Kind, Subject, Variant, Workload};
use crate::rounds::Record;

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// The figure's name in the records.
    pub(crate) figure: &'static str,
    /// Its heading.
    pub(crate) heading: &'static str,
    /// Digits behind the point.
    pub(crate) digits: usize,
}

/// A median and what lies around it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    /// The middle one.
    pub(crate) median: f64,
    /// The smallest.
    pub(crate) least: f64,
    /// The largest.
    pub(crate) most: f64,
}

impl Spread {
    /// Of these values; `None` without any, or when one is no number.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        if values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let upper = *values.get(values.len() / 2)?;
        let lower = *values.get((values.len() - 1) / 2)?;
        Some(Self { median: f64::midpoint(lower, upper), least, most })
    }
}

/// The figures of one subject in all rounds of a workload.
pub(crate) fn spread(
    records: &[Record],
    at: (Variant, Workload),
    subject: Subject,
    figure: &str,
) -> Option<Spread> {
    let own = records
        .iter()
        .filter(|record| (record.variant, record.workload) == at && record.subject == subject);
    Spread::of(own.filter_map(|record| record.figures.get(figure).copied()).collect())
}

/// The ratios of ours to a peer's, round by round.
pub(crate) fn ratio(
    records: &[Record],
    at: (Variant, Workload),
    peer: Subject,
    figure: &str,
) -> Option<Spread> {
    let here = |record: &&Record| (record.variant, record.workload) == at;
    let value = |round: u32, subject: Subject| {
        let mut same = records.iter().filter(here);
        let record = same.find(|one| one.round == round && one.subject == subject)?;
        record.figures.get(figure).copied()
    };
    let rounds = records.iter().filter(here).filter(|record| record.subject == Subject::Ours);
    let ratios = rounds.filter_map(|record| {
        Some(value(record.round, Subject::Ours)? / value(record.round, peer)?)
    });
    Spread::of(ratios.collect())
}

/// The columns of a workload's table; ratios are those of the first.
pub(crate) fn columns(workload: Workload) -> &'static [Column] {
    match workload.kind() {
        Kind::Bulk { .. } => &BULK,
        Kind::Messages { .. } => &MESSAGES,
        Kind::Connect { .. } | Kind::Deny { .. } => &CONNECT,
        Kind::Idle => &IDLE,
        Kind::Storm => &STORM,
    }
}

const fn column(figure: &'static str, heading: &'static str, digits: usize) -> Column {
    Column { figure, heading, digits }
}

const BULK: [Column; 4] = [
    column("cpu_s_per_gb", "CPU s/GB", 3),
    column("gbit_s", "Gbit/s", 2),
    column("own_cpu", "own s/GB", 3),
    column("copied_share", "copied share", 4),
];
const MESSAGES: [Column; 5] = [
    column("cpu_us_per_pair", "CPU µs/pair", 2),
    column("pairs_s", "pairs/s", 0),
    column("p50_us", "p50 µs", 0),
    column("p99_us", "p99 µs", 0),
    column("own_cpu", "own µs/pair", 2),
];
const CONNECT: [Column; 6] = [
    column("cpu_us_per_flow", "CPU µs/flow", 1),
    column("flows_s", "flows/s", 0),
    column("p50_us", "p50 µs", 0),
    column("p99_us", "p99 µs", 0),
    column("own_cpu", "own µs/flow", 1),
    column("failed", "failed", 0),
];
const IDLE: [Column; 4] = [
    column("user_kb_per_flow", "user KB/flow", 2),
    column("slab_kb_per_flow", "slab KB/flow", 2),
    column("taken_kb_per_flow", "avail. KB/flow", 2),
    column("idle_core_percent", "core %", 3),
];
const STORM: [Column; 8] = [
    column("cpu_us_per_flow", "CPU µs/flow", 1),
    column("flows", "flows", 0),
    column("seconds", "seconds", 2),
    column("failed", "failed", 0),
    column("overflows", "overflows", 0),
    column("steady_user_mb", "steady MB", 1),
    column("peak_user_mb", "peak MB", 1),
    column("peak_ratio", "peak/steady", 2),
];
