//! One moment of a flow's life, in the words of the table in `kind`.

use super::kind::{self, Kind};
use super::{FlowEnd, TrafficFacts};
use crate::reason::Reason;

/// What is said of a flow at one moment of its life.
pub(super) struct Event<'a> {
    pub(super) kind: &'static Kind,
    pub(super) code: &'a str,
    pub(super) detail: Option<&'a str>,
    pub(super) reason: Option<Reason>,
    pub(super) remedy: Option<&'a str>,
    pub(super) alert: Option<u8>,
    /// What moved; of an interval, in that time.
    pub(super) traffic: Option<TrafficFacts>,
    /// Of an interval: what moved since the beginning.
    pub(super) total: Option<TrafficFacts>,
    /// Zeek's letters for what ended the flow, and its name for the whole.
    pub(super) flags: &'static str,
    pub(super) state: Option<&'static str>,
}

impl<'a> Event<'a> {
    pub(super) fn new(kind: &'static Kind, code: &'a str) -> Self {
        Self {
            kind,
            code,
            detail: None,
            reason: None,
            remedy: None,
            alert: None,
            traffic: None,
            total: None,
            flags: "",
            state: None,
        }
    }

    /// A flow that was not let through, or not connected; `heard` is what its device had sent.
    pub(super) fn refusal(kind: &'static Kind, reason: Reason, heard: u64) -> Self {
        let traffic = TrafficFacts { up: heard, ..TrafficFacts::default() };
        Self { reason: Some(reason), traffic: Some(traffic), ..Self::new(kind, reason.code()) }
    }

    /// A flow that lives, with what it moved since it was last reported.
    pub(super) fn interval(total: TrafficFacts, reported: TrafficFacts) -> Self {
        let traffic = TrafficFacts {
            up: total.up.saturating_sub(reported.up),
            down: total.down.saturating_sub(reported.down),
            spliced: total.spliced.saturating_sub(reported.spliced),
        };
        let new = Self::new(&kind::INTERVAL, kind::CODE_INTERVAL);
        Self { traffic: Some(traffic), total: Some(total), ..new }
    }

    pub(super) fn end(end: FlowEnd, traffic: TrafficFacts) -> Self {
        use kind::{STATE_CLOSED as SF, STATE_CONNECTED as S1};
        let (kind, code, flags, state) = match end {
            FlowEnd::ClosedByDevice => (&kind::CLOSED, "closed_by_device", "Ff", SF),
            FlowEnd::ClosedByEndpoint => (&kind::CLOSED, "closed_by_endpoint", "fF", SF),
            FlowEnd::Idle => (&kind::CLOSED, "idle", "", S1),
            FlowEnd::Drained => (&kind::CLOSED, "drained", "", S1),
            FlowEnd::ResetByDevice => (&kind::RESET, "reset_by_device", "R", "RSTO"),
            FlowEnd::ResetByEndpoint => (&kind::RESET, "reset_by_endpoint", "r", "RSTR"),
            FlowEnd::DeviceReturned => (&kind::RESET, "device_returned", "", S1),
            FlowEnd::TunnelLost => (&kind::RESET, "tunnel_lost", "", S1),
            FlowEnd::PolicyWithdrawn => (&kind::WITHDRAWN, "policy_withdrawn", "", S1),
            FlowEnd::InternalError => (&kind::BROKEN, "internal_error", "", kind::STATE_OTHER),
        };
        Self { flags, state: Some(state), traffic: Some(traffic), ..Self::new(kind, code) }
    }
}
