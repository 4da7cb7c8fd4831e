//! What is compared: the subjects, the workloads and the variants, with their names.

use clap::ValueEnum;
use serde::Serialize;
use sluicegate::lab::topology::{Offload, Plant, Wiring};

/// What stands in the box while a workload runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Subject {
    /// No proxy: the kernel forwards.
    Kernel,
    /// Two sockets per flow that only carry the hello and its answer: idle memory's reference.
    Bare,
    /// A relay that decides nothing, one blocking thread and one 256 KiB pipe per direction.
    NullSplice,
    /// The same, copying through 64 KiB buffers.
    NullCopy,
    /// HAProxy in TCP mode, copying.
    HaproxyCopy,
    /// HAProxy with `splice-auto`.
    HaproxyAuto,
    /// HAProxy with splice in both directions and 256 KiB pipes.
    HaproxySplice,
    /// nginx stream with `ssl_preread`.
    Nginx,
    /// sniproxy.
    Sniproxy,
    /// Sluicegate with everything on.
    Ours,
}

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Workload {
    /// One flow receives as fast as it can.
    #[value(name = "bulk-down-1")]
    #[serde(rename = "bulk-down-1")]
    BulkDown1,
    /// Four flows do.
    #[value(name = "bulk-down-4")]
    #[serde(rename = "bulk-down-4")]
    BulkDown4,
    /// 32 flows do.
    #[value(name = "bulk-down-32")]
    #[serde(rename = "bulk-down-32")]
    BulkDown32,
    /// One flow sends as fast as it can.
    #[value(name = "bulk-up-1")]
    #[serde(rename = "bulk-up-1")]
    BulkUp1,
    /// Four flows do.
    #[value(name = "bulk-up-4")]
    #[serde(rename = "bulk-up-4")]
    BulkUp4,
    /// 32 flows do.
    #[value(name = "bulk-up-32")]
    #[serde(rename = "bulk-up-32")]
    BulkUp32,
    /// One flow asks with 64 bytes and waits for 64.
    RoundTrip,
    /// 50 flows, each asks with 64 bytes and is answered with 64.
    #[value(name = "messages-64")]
    #[serde(rename = "messages-64")]
    Messages64,
    /// With 256 bytes.
    #[value(name = "messages-256")]
    #[serde(rename = "messages-256")]
    Messages256,
    /// With 1 KiB.
    #[value(name = "messages-1k")]
    #[serde(rename = "messages-1k")]
    Messages1K,
    /// With 4 KiB.
    #[value(name = "messages-4k")]
    #[serde(rename = "messages-4k")]
    Messages4K,
    /// With 16 KiB.
    #[value(name = "messages-16k")]
    #[serde(rename = "messages-16k")]
    Messages16K,
    /// With 64 KiB.
    #[value(name = "messages-64k")]
    #[serde(rename = "messages-64k")]
    Messages64K,
    /// Connect, hello, reply, close; one after the other.
    #[value(name = "connect-1")]
    #[serde(rename = "connect-1")]
    Connect1,
    /// The same, 64 at a time.
    #[value(name = "connect-64")]
    #[serde(rename = "connect-64")]
    Connect64,
    /// Hellos with a name that is not allowed, 64 at a time.
    Deny,
    /// 1,000, 5,000 and 9,000 flows that say nothing.
    Idle,
    /// All devices come back within a second while their old flows are still there.
    Storm,
}

/// How the wires are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Variant {
    /// Segmentation offload on: segments of up to 64 KiB cross the wires whole.
    GsoOn,
    /// GSO, TSO and GRO off and an MTU of 1,446: segments of a real tunnel.
    GsoOff,
}

/// What kind a workload is of; its subjects and its figures follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Streams, in one direction.
    Bulk {
        /// Which way.
        direction: Direction,
        /// How many at once.
        flows: u32,
    },
    /// Request and response over and over.
    Messages {
        /// Over how many flows at once.
        flows: u32,
        /// Bytes each way.
        size: u32,
    },
    /// Flows that begin and end.
    Connect {
        /// How many at once.
        at_once: u32,
    },
    /// Flows that are refused, this many at once.
    Deny {
        /// How many at once.
        at_once: u32,
    },
    /// Flows that are only there.
    Idle,
    /// Everybody at once.
    Storm,
}

/// Which way a stream goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// Endpoint to device.
    Down,
    /// Device to endpoint.
    Up,
}

impl Workload {
    /// Its kind.
    pub(crate) fn kind(self) -> Kind {
        let bulk = |direction, flows| Kind::Bulk { direction, flows };
        let messages = |size| Kind::Messages { flows: MESSAGE_FLOWS, size };
        match self {
            Self::BulkDown1 => bulk(Direction::Down, 1),
            Self::BulkDown4 => bulk(Direction::Down, 4),
            Self::BulkDown32 => bulk(Direction::Down, 32),
            Self::BulkUp1 => bulk(Direction::Up, 1),
            Self::BulkUp4 => bulk(Direction::Up, 4),
            Self::BulkUp32 => bulk(Direction::Up, 32),
            Self::RoundTrip => Kind::Messages { flows: 1, size: 64 },
            Self::Messages64 => messages(64),
            Self::Messages256 => messages(256),
            Self::Messages1K => messages(1_024),
            Self::Messages4K => messages(4_096),
            Self::Messages16K => messages(16_384),
            Self::Messages64K => messages(65_536),
            Self::Connect1 => Kind::Connect { at_once: 1 },
            Self::Connect64 => Kind::Connect { at_once: 64 },
            Self::Deny => Kind::Deny { at_once: 64 },
            Self::Idle => Kind::Idle,
            Self::Storm => Kind::Storm,
        }
    }

    /// Whether it makes sense with this subject: what decides nothing cannot refuse, and only the
    /// idle workload needs bare sockets.
    pub(crate) fn suits(self, subject: Subject) -> bool {
        match (self.kind(), subject) {
            (Kind::Idle, Subject::NullSplice | Subject::NullCopy) => false,
            (Kind::Idle, _) => true,
            (_, Subject::Bare) => false,
            (Kind::Deny { .. }, Subject::Kernel | Subject::NullSplice | Subject::NullCopy) => false,
            (Kind::Storm, _) => matches!(subject, Subject::HaproxyAuto | Subject::Ours),
            _ => true,
        }
    }
}

impl Workload {
    /// Whether large and small segments make a difference worth measuring.
    pub(crate) fn depends_on_wires(self) -> bool {
        matches!(self.kind(), Kind::Bulk { .. } | Kind::Messages { .. })
    }
}

impl Variant {
    /// The lab's wires.
    pub(crate) fn wiring(self) -> Wiring {
        let plant = Plant::Wired(super::stage::DEVICE);
        match self {
            Self::GsoOn => Wiring { plant, ..Wiring::default() },
            Self::GsoOff => Wiring {
                tunnel_mtu: Some(REAL_MTU),
                offload: Offload::Off,
                plant,
                ..Wiring::default()
            },
        }
    }

    /// The largest segment of a tunnel's MTU, in bytes: 40 less (IPv4 and TCP headers).
    pub(crate) fn mss(self) -> u16 {
        match self {
            Self::GsoOn => 1_460,
            Self::GsoOff => REAL_MTU - 40,
        }
    }
}

/// The name of a value on the command line, in tables and in JSON.
pub(crate) fn label(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// How many flows exchange messages.
const MESSAGE_FLOWS: u32 = 50;
/// The MTU inside an IPsec tunnel with AES-GCM over UDP.
const REAL_MTU: u16 = 1_446;
