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
    pub(super) traffic: Option<TrafficFacts>,
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
            flags: "",
            state: None,
        }
    }

    pub(super) fn refusal(
        kind: &'static Kind,
        reason: Reason,
        detail: Option<&'a str>,
        remedy: Option<&'a str>,
        alert: Option<u8>,
    ) -> Self {
        let failed = kind.activity == kind::FAILED.activity;
        let traffic = failed.then(TrafficFacts::default);
        let reason = Some(reason);
        let code = reason.map_or("", Reason::code);
        let detail = detail.filter(|detail| !detail.is_empty());
        Self { reason, detail, remedy, alert, traffic, ..Self::new(kind, code) }
    }

    pub(super) fn end(end: FlowEnd, traffic: TrafficFacts) -> Self {
        let (kind, code, flags, state) = match end {
            FlowEnd::ClosedByDevice => (&kind::CLOSED, "closed_by_device", "Ff", Some("SF")),
            FlowEnd::ClosedByEndpoint => (&kind::CLOSED, "closed_by_endpoint", "fF", Some("SF")),
            FlowEnd::Idle => (&kind::CLOSED, "idle", "", None),
            FlowEnd::Drained => (&kind::CLOSED, "drained", "", None),
            FlowEnd::ResetByDevice => (&kind::RESET, "reset_by_device", "R", Some("RSTO")),
            FlowEnd::ResetByEndpoint => (&kind::RESET, "reset_by_endpoint", "r", Some("RSTR")),
            FlowEnd::DeviceReturned => (&kind::RESET, "device_returned", "", None),
            FlowEnd::TunnelLost => (&kind::RESET, "tunnel_lost", "", None),
            FlowEnd::PolicyWithdrawn => (&kind::WITHDRAWN, "policy_withdrawn", "", None),
            FlowEnd::InternalError => (&kind::BROKEN, "internal_error", "", None),
        };
        Self { flags, state, traffic: Some(traffic), ..Self::new(kind, code) }
    }
}
