//! The record that counts refused flows for which there was no room.

use super::clock;
use super::inbox::{Shared, Unrecorded};
use super::kind;
use super::record::{self, Record};
use crate::reason::Reason;

/// The record that counts flows for which there was no room.
pub(super) fn unrecorded(shared: &Shared, counted: Unrecorded) -> Vec<u8> {
    let reason = Reason::AuditUnavailable;
    record::body(&Record {
        metadata: record::Metadata::new(&shared.site, kind::PROFILES_REFUSED, None),
        class: (&kind::UNRECORDED).into(),
        time: counted.last,
        start_time: Some(counted.first),
        end_time: Some(counted.last),
        duration: Some(counted.last.saturating_sub(counted.first)),
        count: Some(counted.count),
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
    })
}
