//! Recorded flows, one after the other, as the policy sees them.
//!
//! A flow counts once: by its Open, or by its refusal where there is no Open.

use std::net::IpAddr;
use std::path::Path;

use time::{Duration, OffsetDateTime};

use crate::audit::read::{self, ReadError};
use crate::audit::view::{REFUSE, Sort, View};
use crate::config::MacAddr;
use crate::name::ServerName;
use crate::reason::{Reason, Stage};

/// One recorded flow.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    pub(super) at: OffsetDateTime,
    pub(super) device: Device,
    /// `None` where the hello had no usable one.
    pub(super) name: Option<ServerName>,
    pub(super) port: u16,
    pub(super) verdict: Recorded,
    /// Why it was refused behind the policy, by resolution or the box; `None` where it was opened.
    pub(super) behind: Option<Reason>,
}

/// Who opened a flow.
#[derive(Clone, Debug)]
pub(super) struct Device {
    pub(super) name: Option<String>,
    pub(super) mac: Option<MacAddr>,
    pub(super) address: IpAddr,
}

impl Device {
    /// What to call it: its name, else its MAC, else its address.
    pub(super) fn label(&self) -> String {
        match (&self.name, self.mac) {
            (Some(name), _) => name.clone(),
            (None, Some(mac)) => mac.to_string(),
            (None, None) => self.address.to_string(),
        }
    }
}

/// What the policy said when the flow was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Recorded {
    Allowed,
    Learnt(Reason),
    Denied(Reason),
    /// The device fitted only half of an entry, which this rule names: perhaps a stolen address.
    Contradiction(String),
    /// Refused before the policy was asked.
    NotJudged(Reason),
}

/// What an answer leaves out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unread {
    /// Lines that cannot be read.
    pub(super) lines: u64,
    /// Flows that belong to no group, because there are too many.
    pub(super) groups: u64,
}

/// Gives every flow since a moment to `take`, oldest first.
///
/// # Errors
/// The records cannot be read.
pub(super) fn each(
    directory: &Path,
    since: OffsetDateTime,
    mut take: impl FnMut(Flow),
) -> Result<Unread, ReadError> {
    let mut unread = Unread::default();
    let mut lines = read::lines(directory)?;
    while let Some(line) = lines.next_line()? {
        match View::parse(line.bytes) {
            Ok(view) => {
                if let Some(flow) = flow(&view).filter(|flow| flow.at >= since) {
                    take(flow);
                }
            }
            Err(_) => unread.lines += 1,
        }
    }
    Ok(unread)
}

/// `None` for what is not the beginning of a flow, and for counts of several flows.
fn flow(view: &View<'_>) -> Option<Flow> {
    if !view.begins() || view.sort() != Sort::Flow {
        return None;
    }
    let (verdict, behind) = verdict(view)?;
    let source = &view.src_endpoint;
    let device = Device {
        name: source.name.as_deref().map(str::to_owned),
        mac: source.mac.as_deref().and_then(|mac| mac.parse().ok()),
        address: source.ip?,
    };
    let at = Duration::milliseconds(i64::try_from(view.time).ok()?);
    Some(Flow {
        at: OffsetDateTime::UNIX_EPOCH.checked_add(at)?,
        device,
        name: view.name().and_then(|name| name.parse().ok()),
        port: view.dst_endpoint.port?,
        verdict,
        behind,
    })
}

fn verdict(view: &View<'_>) -> Option<(Recorded, Option<Reason>)> {
    if view.activity_id != REFUSE {
        let would = view.status_code.strip_prefix(WOULD_REFUSE).and_then(Reason::from_code);
        return Some((would.map_or(Recorded::Allowed, Recorded::Learnt), None));
    }
    let reason = Reason::from_code(&view.status_code)?;
    let would = view.unmapped.egress.would_refuse.as_deref();
    Some(match (would.and_then(Reason::from_code), view.rule()) {
        _ if reason.stage() == Stage::Policy => (denied(view, reason), None),
        (Some(would), _) => (Recorded::Learnt(would), Some(reason)),
        (None, Some(_)) => (Recorded::Allowed, Some(reason)),
        (None, None) => (Recorded::NotJudged(reason), None),
    })
}

fn denied(view: &View<'_>, reason: Reason) -> Recorded {
    let rule = view.rule().unwrap_or_default();
    match (reason, &view.src_endpoint.name) {
        (Reason::DeviceNotAllowed, None) if rule.starts_with("device ") => {
            Recorded::Contradiction(rule.to_owned())
        }
        _ => Recorded::Denied(reason),
    }
}

/// Before the reason in the `status_code` of an Open in learn mode.
const WOULD_REFUSE: &str = "would_refuse_";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_counted_and_other_records_are_passed_over() {
        let directory = tempfile::tempdir().expect("a directory");
        let dns = r#"{"metadata":{"sequence":1,"logged_time":1},
            "class_uid":4003,"activity_id":1,"time":1,"status_code":"open"}"#;
        let count = r#"{"metadata":{"sequence":2,"logged_time":1},"class_uid":4001,"activity_id":5,"time":1,"status_code":"audit_unavailable",
            "src_endpoint":{"name":"several devices"},"unmapped":{"egress":{}}}"#;
        let flow = r#"{"metadata":{"sequence":4,"logged_time":1},"class_uid":4001,"activity_id":5,"time":1,"status_code":"limit_flows",
            "src_endpoint":{"ip":"10.10.3.7"},"dst_endpoint":{"port":443},
            "unmapped":{"egress":{}}}"#;
        let one_line = |text: &str| text.replace('\n', "");
        let text =
            [&*one_line(dns), &one_line(count), "not a record", &one_line(flow), "{\"torn", ""]
                .join("\n");
        let segment = directory.path().join("flow-00000000000000000001.ndjson");
        std::fs::write(segment, text).expect("a segment");
        let mut flows = Vec::new();
        let unread = each(directory.path(), OffsetDateTime::UNIX_EPOCH, |flow| flows.push(flow));
        assert_eq!(unread.expect("it is read"), Unread { lines: 2, groups: 0 });
        let [flow] = flows.as_slice() else { panic!("{flows:?}") };
        assert_eq!(flow.verdict, Recorded::NotJudged(Reason::LimitFlows));
        assert_eq!((flow.device.label(), flow.port), ("10.10.3.7".to_owned(), 443));
    }
}
