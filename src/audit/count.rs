//! Records that count many refusals together.

use std::time::Instant;

use super::clock;
use super::inbox::Shared;
use super::kind::{self, Kind};
use super::record::{self, Record};
use crate::reason::Reason;

/// What was counted. Times are Unix times in ms.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    pub(super) count: u64,
    /// When it began; `None` where that is not known.
    pub(super) since: Option<u64>,
    pub(super) until: u64,
}

/// Flows that were refused because there was no room to record them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unrecorded {
    pub(super) count: u64,
    pub(super) first: u64,
    pub(super) last: u64,
    /// When the first was counted; what decides when they are recorded.
    pub(super) since: Instant,
}

impl Unrecorded {
    pub(super) fn merge(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        let (Some(one), Some(other)) = (one, other) else { return one.or(other) };
        Some(Self {
            count: one.count.saturating_add(other.count),
            first: one.first.min(other.first),
            last: one.last.max(other.last),
            since: one.since.min(other.since),
        })
    }
}

/// A record of that many refusals for one reason, of which nothing else is known.
pub(super) fn refusals<'a>(
    shared: &'a Shared,
    kind: &Kind,
    reason: Reason,
    counted: Counted,
) -> Record<'a> {
    let Counted { count, since, until } = counted;
    Record {
        metadata: record::Metadata::new(&shared.site, kind::PROFILES_REFUSED, None),
        class: kind.into(),
        time: until,
        start_time: since,
        end_time: Some(until),
        duration: since.map(|since| until.saturating_sub(since)),
        count: Some(count),
        status_code: reason.code(),
        status_detail: Some(reason.sentence()),
        policy: None,
        firewall_rule: None,
        app_protocol_name: None,
        src_endpoint: record::SrcEndpoint::several(),
        dst_endpoint: None,
        connection_info: None,
        proxy_endpoint: None,
        traffic: None,
        cumulative_traffic: None,
        tls: None,
        ja4_fingerprint_list: None,
        device: record::Device::new(&shared.site, &shared.region),
        unmapped: record::Unmapped {
            egress: record::Egress {
                v: kind::EGRESS_VERSION,
                reason: Some(reason.code()),
                stage: Some(reason.stage().as_str()),
                remedy: Some(reason.remedy()),
                clock: shared.clock(),
                mono_ns: clock::mono_ns(),
                ..record::Egress::default()
            },
        },
    }
}

/// The record that counts flows for which there was no room.
pub(super) fn unrecorded(shared: &Shared, counted: Unrecorded) -> Vec<u8> {
    let Unrecorded { count, first, last, .. } = counted;
    let counted = Counted { count, since: Some(first), until: last };
    record::body(&refusals(shared, &kind::UNRECORDED, Reason::AuditUnavailable, counted))
}
