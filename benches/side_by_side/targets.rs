//! The targets, each judged by figures of the same run.

use serde::Serialize;

use crate::figures::{Spread, ratio, spread};
use crate::plan::{Kind, Subject, Variant, Workload, label};
use crate::rounds::Record;
use crate::sample::{STORM, storm_flows};

/// One target and how it was met.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Verdict {
    /// What is measured.
    pub(crate) axis: String,
    /// Against what.
    pub(crate) against: String,
    /// The figure, a median.
    pub(crate) measured: f64,
    /// The smallest and the largest in a round.
    pub(crate) between: (f64, f64),
    /// The bound.
    pub(crate) target: String,
    /// Whether the median keeps to it.
    pub(crate) met: bool,
    /// What bounds the measurement on this machine.
    pub(crate) note: Option<String>,
}

/// Judges every target that the records have figures for.
pub(crate) fn judge(records: &[Record]) -> Vec<Verdict> {
    let mut judge = Judge { records, verdicts: Vec::new() };
    for (variant, workload) in measured(records) {
        judge.workload(variant, workload);
    }
    judge.verdicts
}

/// The workloads that were measured, in their order, once.
pub(crate) fn measured(records: &[Record]) -> Vec<(Variant, Workload)> {
    let mut all: Vec<_> = records.iter().map(|record| (record.variant, record.workload)).collect();
    all.dedup();
    all
}

struct Judge<'a> {
    records: &'a [Record],
    verdicts: Vec<Verdict>,
}

/// Which side of the bound is good.
#[derive(Clone, Copy, Debug)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Judge<'_> {
    fn workload(&mut self, variant: Variant, workload: Workload) {
        let at = (variant, workload);
        let haproxy = self.best_haproxy(at);
        match workload.kind() {
            Kind::Bulk { .. } => self.bulk(at, haproxy),
            // With more flows the cores are full, and a round trip tells what a message costs.
            Kind::Messages { flows: 1, .. } => {
                self.ratio(at, haproxy, "p50_us", Bound::AtMost(1.0));
                self.ratio(at, haproxy, "p99_us", Bound::AtMost(1.0));
            }
            Kind::Messages { .. } => {
                let cost = "cpu_us_per_pair";
                self.ratio(at, Some(Subject::NullCopy), cost, Bound::AtMost(1.05));
                self.ratio(at, haproxy, cost, Bound::AtMost(1.0));
            }
            Kind::Connect { at_once } => {
                // One after the other they wait for the network, not for the box.
                if at_once > 1 {
                    self.ratio(at, haproxy, "flows_s", Bound::AtLeast(1.15));
                }
                self.ratio(at, haproxy, "cpu_us_per_flow", Bound::AtMost(0.9));
            }
            Kind::Deny { .. } => {}
            Kind::Idle => self.idle(at),
            Kind::Storm => self.storm(at),
        }
    }

    fn bulk(&mut self, at: (Variant, Workload), haproxy: Option<Subject>) {
        let cost = "cpu_s_per_gb";
        match at.0 {
            Variant::GsoOn => {
                self.ratio(at, Some(Subject::NullSplice), cost, Bound::AtMost(1.0));
                self.ratio(at, haproxy, cost, Bound::AtMost(0.95));
                self.ratio(at, Some(Subject::HaproxyAuto), cost, Bound::AtMost(0.6));
            }
            Variant::GsoOff => {
                self.ratio(at, Some(Subject::NullSplice), cost, Bound::AtMost(0.9));
                self.ratio(at, haproxy, cost, Bound::AtMost(0.9));
            }
        }
        self.own(at, "copied_share", Bound::AtMost(0.01));
    }

    fn idle(&mut self, at: (Variant, Workload)) {
        self.own(at, "user_kb_per_flow", Bound::AtMost(1.0));
        // Device and server have two sockets, too: they are in both, and what two bare sockets in
        // the box have is in the reference.
        let slab = |subject| spread(self.records, at, subject, "slab_kb_per_flow");
        if let (Some(ours), Some(bare)) = (slab(Subject::Ours), slab(Subject::Bare)) {
            let beyond = Spread {
                median: ours.median - bare.median,
                least: ours.least - bare.most,
                most: ours.most - bare.least,
            };
            let against = "two bare sockets, difference".to_owned();
            self.add(at, "slab_kb_per_flow", against, beyond, Bound::AtMost(0.8));
        }
        self.own(at, "idle_core_percent", Bound::AtMost(0.1));
    }

    fn storm(&mut self, at: (Variant, Workload)) {
        let flows = storm_flows();
        let first = self.verdicts.len();
        self.own(at, "failed", Bound::AtMost(0.0));
        self.own(at, "overflows", Bound::AtMost(0.0));
        self.own(at, "peak_ratio", Bound::AtMost(1.3));
        if flows < STORM {
            let note = format!("bounded by descriptors to {flows} flows beside as many old ones");
            for verdict in self.verdicts.iter_mut().skip(first) {
                verdict.note = Some(note.clone());
            }
        }
    }

    /// The mode of HAProxy that costs least CPU here.
    fn best_haproxy(&self, at: (Variant, Workload)) -> Option<Subject> {
        let cost = crate::figures::columns(at.1).first()?.figure;
        let modes = [Subject::HaproxyCopy, Subject::HaproxyAuto, Subject::HaproxySplice];
        let costs = modes
            .into_iter()
            .filter_map(|mode| Some((mode, spread(self.records, at, mode, cost)?.median)));
        costs.min_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(mode, _)| mode)
    }

    fn ratio(
        &mut self,
        at: (Variant, Workload),
        peer: Option<Subject>,
        figure: &str,
        bound: Bound,
    ) {
        let Some(peer) = peer else { return };
        if let Some(ratio) = ratio(self.records, at, peer, figure) {
            self.add(at, figure, format!("× {}", label(peer)), ratio, bound);
        }
    }

    fn own(&mut self, at: (Variant, Workload), figure: &str, bound: Bound) {
        if let Some(own) = spread(self.records, at, Subject::Ours, figure) {
            self.add(at, figure, String::new(), own, bound);
        }
    }

    fn add(
        &mut self,
        at: (Variant, Workload),
        figure: &str,
        against: String,
        measured: Spread,
        bound: Bound,
    ) {
        let (target, met) = match bound {
            Bound::AtMost(most) => (format!("≤ {most}"), measured.median <= most),
            Bound::AtLeast(least) => (format!("≥ {least}"), measured.median >= least),
        };
        self.verdicts.push(Verdict {
            axis: format!("{} {} {figure}", label(at.0), label(at.1)),
            against,
            measured: measured.median,
            between: (measured.least, measured.most),
            target,
            met,
            note: None,
        });
    }
}
