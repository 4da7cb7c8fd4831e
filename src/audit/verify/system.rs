//! What a check needs of a signed record of the box's own.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::keys::Introduced;
use super::manifest::Removed;
use super::report::Code;

/// A record's facts.
pub(super) struct System<'a> {
    pub(super) status_code: &'a str,
    pub(super) facts: Facts<'a>,
}

/// `unmapped.system`; each kind of record has some of it.
#[derive(Debug, Deserialize)]
pub(super) struct Facts<'a> {
    pub(super) mono_ns: u64,
    pub(super) seq: Option<u64>,
    pub(super) head: Option<&'a str>,
    pub(super) records: Option<u64>,
    pub(super) interval_s: Option<u64>,
    pub(super) boot_id: Option<&'a str>,
    epoch: Option<u32>,
    key: Option<&'a str>,
    public: Option<&'a str>,
    previous: Option<&'a str>,
    since: Option<u64>,
    /// Of an outage: when it began, by the clock of `mono_ns`.
    pub(super) since_ns: Option<u64>,
    reason: Option<&'a str>,
    bytes: Option<u64>,
    flows: Option<u64>,
    #[serde(default)]
    damaged: bool,
    /// A list of objects in a record of retention.
    #[serde(borrow)]
    segments: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Record<'a> {
    status_code: &'a str,
    #[serde(borrow)]
    unmapped: Unmapped<'a>,
}

#[derive(Deserialize)]
struct Unmapped<'a> {
    #[serde(borrow)]
    system: Option<Facts<'a>>,
}

impl<'a> System<'a> {
    /// `None` for a signed line of another kind.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let record: Record<'a> = serde_json::from_slice(line).ok()?;
        Some(Self { status_code: record.status_code, facts: record.unmapped.system? })
    }

    /// The key that the record introduces.
    pub(super) fn introduced(&self, seq: u64) -> Option<Introduced<'a>> {
        let facts = &self.facts;
        (self.status_code == "key").then(|| Introduced {
            seq,
            epoch: facts.epoch.unwrap_or_default(),
            id: facts.key.unwrap_or_default(),
            public: facts.public.unwrap_or_default(),
            previous: facts.previous.unwrap_or_default(),
            since: facts.since.unwrap_or_default(),
        })
    }

    /// The segments that the record says were removed.
    pub(super) fn removed(&self) -> Vec<Removed<'a>> {
        if !matches!(self.status_code, "retention" | "gap") {
            return Vec::new();
        }
        let segments = self.facts.segments.map(|segments| serde_json::from_str(segments.get()));
        segments.and_then(Result::ok).unwrap_or_default()
    }

    /// What an auditor should know of it.
    pub(super) fn finding(&self) -> Option<(Code, String)> {
        let bytes = self.facts.bytes.unwrap_or_default();
        match self.status_code {
            "recovery" => {
                let flows = self.facts.flows.unwrap_or_default();
                let damaged = if self.facts.damaged {
                    "; it found a line that a crash does not explain"
                } else {
                    ""
                };
                let sentence = format!(
                    "a start put the log in order after a crash: {bytes} bytes of a torn tail were \
                     moved aside, {flows} flows had no end{damaged}"
                );
                Some((Code::Recovery, sentence))
            }
            "outage" => {
                let began = self.facts.since_ns.unwrap_or(self.facts.mono_ns);
                let seconds = self.facts.mono_ns.saturating_sub(began) / 1_000_000_000;
                let why = self.facts.reason.unwrap_or("unknown");
                let sentence = format!(
                    "for {seconds} s the log could not be written ({why}): new flows were refused, and \
                     the ends of others waited"
                );
                Some((Code::Outage, sentence))
            }
            "gap" => {
                let sentence =
                    format!("for want of room, {bytes} bytes of records were removed unshipped");
                Some((Code::Gap, sentence))
            }
            _ => None,
        }
    }
}
