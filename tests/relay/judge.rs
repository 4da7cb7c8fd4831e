//! What a flow must have come to, and what a whole run must have met.

use sluicegate::relay::{Engine, RelayCounters, RelayEnd};

use crate::fire::{Moved, Outcome};
use crate::peer::{Resigned, Seen};
use crate::plan::{End, Plan, Side};

/// Says what is wrong with a flow, if anything is.
pub(crate) fn judge(
    plan: &Plan,
    outcome: &Outcome,
    [device, endpoint]: &[Seen; 2],
    engine: Engine,
) -> Result<(), String> {
    judge_stream(device, &plan.device, endpoint, outcome.up, outcome.end)?;
    judge_stream(endpoint, &plan.endpoint, device, outcome.down, outcome.end)?;
    let (copied, spliced) =
        (outcome.up.copied + outcome.down.copied, outcome.up.spliced + outcome.down.spliced);
    if engine == Engine::Copy && spliced > 0 {
        return Err(format!("{spliced} bytes were spliced, {copied} copied, by {engine:?}"));
    }
    let Some(end) = outcome.end else { return Ok(()) };
    let allowed = ends(plan, device, endpoint);
    if !allowed.contains(&end) {
        return Err(format!("the end is {end:?}, not one of {allowed:?}"));
    }
    Ok(())
}

/// The ways in which a flow that is not dropped may end.
fn ends(plan: &Plan, device: &Seen, endpoint: &Seen) -> Vec<RelayEnd> {
    use RelayEnd::{ClosedByDevice, ClosedByEndpoint, ResetByDevice, ResetByEndpoint};
    let mut ends = Vec::new();
    for (side, reset) in [(device, ResetByDevice), (endpoint, ResetByEndpoint)] {
        if side.resigned.is_some() {
            ends.push(reset);
        }
    }
    // Unless a stream was broken off, the relay may have been through before it met a reset.
    if [device, endpoint].iter().all(|side| side.resigned != Some(Resigned::Open)) {
        match (plan.device.end, plan.endpoint.end) {
            (End::FinAfterPeer, _) => ends.push(ClosedByEndpoint),
            (_, End::FinAfterPeer) => ends.push(ClosedByDevice),
            _ => ends.extend([ClosedByDevice, ClosedByEndpoint]),
        }
    }
    ends
}

/// One direction: what its receiver saw, against what its sender did and what the relay counted.
fn judge_stream(
    sender: &Seen,
    plan: &Side,
    receiver: &Seen,
    moved: Moved,
    end: Option<RelayEnd>,
) -> Result<(), String> {
    let moved = usize::try_from(moved.copied + moved.spliced).unwrap();
    if let Some(place) = receiver.wrong_at {
        return Err(format!("a wrong byte at {place} or soon after"));
    }
    if moved > sender.sent || receiver.received > moved {
        let (sent, received) = (sender.sent, receiver.received);
        return Err(format!("{sent} bytes were sent, {moved} moved, {received} received"));
    }
    // What went to one who resigned may never have been read; a dropped relay lost what it held.
    if receiver.resigned.is_some() || end.is_none() {
        return Ok(());
    }
    if receiver.received < moved {
        return Err(format!("{moved} bytes were moved, but {} arrived", receiver.received));
    }
    let complete = receiver.received == plan.size;
    match sender.resigned {
        Some(Resigned::Open) if !receiver.reset => Err("a reset looked like a FIN".to_owned()),
        Some(Resigned::AfterFin) if !receiver.reset && !complete => {
            Err("a stream that was cut looked complete".to_owned())
        }
        None if receiver.reset => Err("a FIN looked like a reset".to_owned()),
        None if !complete => Err(format!("{} bytes arrived of {}", receiver.received, plan.size)),
        _ => Ok(()),
    }
}

/// What a run has met.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    flows: u64,
    copied: u64,
    spliced: u64,
    pipe_fallbacks: u64,
    promotions: u64,
    demotions: u64,
    closed_by_device: u64,
    closed_by_endpoint: u64,
    reset_by_device: u64,
    reset_by_endpoint: u64,
    dropped: u64,
    /// Streams that a reset cut before all of it had arrived, though something had.
    cut_short: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, outcome: &Outcome, [device, endpoint]: &[Seen; 2]) {
        self.flows += 1;
        *match outcome.end {
            None => &mut self.dropped,
            Some(RelayEnd::ClosedByDevice) => &mut self.closed_by_device,
            Some(RelayEnd::ClosedByEndpoint) => &mut self.closed_by_endpoint,
            Some(RelayEnd::ResetByDevice) => &mut self.reset_by_device,
            Some(RelayEnd::ResetByEndpoint) => &mut self.reset_by_endpoint,
            Some(RelayEnd::Idle) => unreachable!("judged already"),
        } += 1;
        for (sender, receiver) in [(device, endpoint), (endpoint, device)] {
            let cut = receiver.reset && (1..sender.sent).contains(&receiver.received);
            self.cut_short += u64::from(cut);
        }
    }

    pub(crate) fn add_counters(&mut self, counters: &RelayCounters) {
        self.copied += counters.copied;
        self.spliced += counters.spliced;
        self.pipe_fallbacks += counters.pipe_fallbacks;
        self.promotions += counters.promotions;
        self.demotions += counters.demotions;
    }

    /// A run that never came to a case has not tested it.
    pub(crate) fn assert_all_was_seen(&self) {
        let ends = [
            self.closed_by_device,
            self.closed_by_endpoint,
            self.reset_by_device,
            self.reset_by_endpoint,
            self.dropped,
            self.cut_short,
        ];
        assert!(ends.iter().all(|count| *count > self.flows / 1000), "{self:?}");
        assert!(self.copied > 100 << 20 && self.spliced > 100 << 20, "{self:?}");
        // Few of these streams turn into messages: the relay's own tests stop its clock for that.
        let turns = [self.pipe_fallbacks, self.promotions];
        assert!(turns.iter().all(|count| *count > self.flows / 1000), "{self:?}");
    }
}
