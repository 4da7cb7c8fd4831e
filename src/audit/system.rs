//! Records of what the log itself and its box did: OCSF 1.8.0 Application Lifecycle.
//!
//! Every one is signed. What happened is in `status_code`, its facts are under `unmapped.system`.

use serde::Serialize;

use super::chain::{Head, Hex, Prefixed};
use super::clock;
use super::facts::{ClosingFacts, LeakFacts};
use super::keys::NextKey;
use super::kind;
use super::manifest::Sealed;
use super::record::{self, Device, Metadata, Product, Text};

/// One thing that the log or its box did.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Happened<'a> {
    /// The daemon started.
    Boot {
        epoch: u32,
        key: &'a str,
        public: String,
        key_epoch: u32,
        boot_id: &'a str,
        policy: &'a str,
    },
    /// The daemon ends in order.
    Stop { boot_id: &'a str },
    /// Another configuration is in force.
    Reload { old: String, new: String },
    /// A tunnel came up or was lost.
    Tunnel {
        interface: &'a str,
        /// `up`, `suspect`, `dead` or `down`.
        from: &'static str,
        to: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        why: Option<&'a str>,
        /// How long it was as it was.
        lasted_ms: u64,
    },
    /// New flows go by another tunnel, or find none.
    Preferred {
        #[serde(skip_serializing_if = "Option::is_none")]
        interface: Option<&'a str>,
    },
    /// What the leak canary found.
    Canary { tried: u16, answered: u16, leaks: &'a [LeakFacts], gate: ClosingFacts },
    /// What the chain was, in the signature of the key of its time.
    Checkpoint {
        /// The line before this one.
        seq: u64,
        head: Text<Prefixed<Hex<'a>>>,
        /// Lines since the last checkpoint.
        records: u64,
        interval_s: u64,
        boot_id: &'a str,
        key_epoch: u32,
        clock: Clock,
    },
    /// A new key; this record is the last line of the old one.
    Key { epoch: u32, key: &'a str, public: String, previous: &'a str, since: u64 },
    /// What a start found and put in order.
    Recovery {
        /// The segment whose tail was torn.
        #[serde(skip_serializing_if = "Option::is_none")]
        file: Option<String>,
        /// Bytes that were moved aside.
        bytes: u64,
        /// Where they are kept.
        #[serde(skip_serializing_if = "Option::is_none")]
        evidence: Option<String>,
        /// Flows that were open, whose ends follow.
        flows: usize,
        /// A line was found that a crash does not explain.
        damaged: bool,
    },
    /// Segments were removed that no sink had taken.
    Gap(Removal<'a>),
    /// Segments were removed that were too old, or that every sink had taken.
    Retention(Removal<'a>),
    /// Nothing could be written for a time; new flows were refused meanwhile.
    Outage {
        /// When writing first failed, by the monotonic clock of `mono_ns`, and Unix time in ms.
        since_ns: u64,
        since_ms: u64,
        /// `disk_full` or `write_failed`.
        reason: &'static str,
        boot_id: &'a str,
    },
    /// The wall clock went another way than the monotonic one.
    ClockStep { step_ms: i64, before: u64, after: u64 },
}

/// Which segments were removed, oldest first.
#[derive(Serialize)]
pub(super) struct Removal<'a> {
    pub(super) segments: Vec<RemovedSegment<'a>>,
    /// All their lines.
    pub(super) records: u64,
    /// Of their plain forms.
    pub(super) bytes: u64,
    /// SHA-256 of the last line that was removed, hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_hash: Option<&'a str>,
    /// `age`, `quota` or `disk_full`.
    pub(super) reason: &'static str,
}

/// One of them, as the manifest has it.
#[derive(Serialize)]
pub(super) struct RemovedSegment<'a> {
    name: &'a str,
    first: u64,
    last: u64,
    sha256: &'a str,
}

impl<'a> From<&'a Sealed> for RemovedSegment<'a> {
    fn from(sealed: &'a Sealed) -> Self {
        let Sealed { segment, first, last, sha256, .. } = sealed;
        Self { name: segment, first: *first, last: *last, sha256 }
    }
}

/// How far the wall clock can be believed.
#[derive(Serialize)]
pub(super) struct Clock {
    /// The system says that it follows a time server; absent where it does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) synchronised: Option<bool>,
}

impl<'a> Happened<'a> {
    /// A new key, introduced by the line behind `head`.
    pub(super) fn key(next: &'a NextKey, previous: &'a str, head: &Head) -> Self {
        Self::Key {
            epoch: next.epoch(),
            key: next.key().id().as_str(),
            public: next.key().public().base64(),
            previous,
            since: head.seq.saturating_add(1),
        }
    }

    fn row(&self) -> (&'static str, u8, &'static str, u8) {
        const OTHER: (u8, &str) = (99, "Other");
        let (code, (activity, caption), severity) = match self {
            Self::Boot { .. } => ("boot", (3, "Start"), INFORMATIONAL),
            Self::Stop { .. } => ("stop", (4, "Stop"), INFORMATIONAL),
            Self::Reload { .. } => ("reload", (8, "Update"), INFORMATIONAL),
            Self::Tunnel { to: "up", .. } => ("tunnel", OTHER, INFORMATIONAL),
            Self::Tunnel { .. } => ("tunnel", OTHER, MEDIUM),
            Self::Preferred { interface: Some(_) } => ("tunnel_preferred", OTHER, INFORMATIONAL),
            Self::Preferred { interface: None } => ("tunnel_preferred", OTHER, HIGH),
            Self::Canary { leaks: [], .. } => ("canary", OTHER, INFORMATIONAL),
            Self::Canary { .. } => ("canary", OTHER, CRITICAL),
            Self::Checkpoint { .. } => ("checkpoint", OTHER, INFORMATIONAL),
            Self::Key { .. } => ("key", OTHER, INFORMATIONAL),
            Self::Recovery { damaged: true, .. } => ("recovery", OTHER, HIGH),
            Self::Recovery { .. } => ("recovery", OTHER, LOW),
            Self::Gap(_) => ("gap", OTHER, HIGH),
            Self::Retention(_) => ("retention", OTHER, INFORMATIONAL),
            Self::Outage { .. } => ("outage", OTHER, HIGH),
            Self::ClockStep { .. } => ("clock_step", OTHER, LOW),
        };
        (code, activity, caption, severity)
    }
}

/// Serialises a record of the box's own.
pub(super) fn body(site: &str, region: &str, happened: &Happened<'_>) -> Vec<u8> {
    let (status_code, activity_id, activity_name, severity_id) = happened.row();
    record::body(&SystemRecord {
        metadata: Metadata::system(site),
        category_uid: 6,
        class_uid: kind::CLASS_UID_SYSTEM,
        class_name: "Application Lifecycle",
        activity_id,
        activity_name,
        type_uid: u32::from(kind::CLASS_UID_SYSTEM) * 100 + u32::from(activity_id),
        severity_id,
        time: clock::unix_ms(),
        status_code,
        app: Product::this(),
        device: Device::new(site, region),
        unmapped: Unmapped { system: Facts { v: 1, mono_ns: clock::mono_ns(), facts: happened } },
    })
}

#[derive(Serialize)]
struct SystemRecord<'a> {
    metadata: Metadata<'a>,
    category_uid: u8,
    class_uid: u16,
    class_name: &'static str,
    activity_id: u8,
    activity_name: &'static str,
    type_uid: u32,
    severity_id: u8,
    time: u64,
    status_code: &'static str,
    app: Product,
    device: Device<'a>,
    unmapped: Unmapped<'a>,
}

#[derive(Serialize)]
struct Unmapped<'a> {
    system: Facts<'a>,
}

#[derive(Serialize)]
struct Facts<'a> {
    v: u8,
    mono_ns: u64,
    #[serde(flatten)]
    facts: &'a Happened<'a>,
}

const INFORMATIONAL: u8 = 1;
const LOW: u8 = 2;
const MEDIUM: u8 = 3;
const HIGH: u8 = 4;
const CRITICAL: u8 = 5;
