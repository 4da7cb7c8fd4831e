//! What was seen lately, for people: refusals with their remedies, what learn mode lets through, the
//! busiest devices and names.

use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::policy::{Asking, Policy};
use crate::proxy::{Busy, DeviceKey, Refusals, Sightings, Treatment};
use crate::reason::Reason;

/// What was seen lately. Bounded, and approximate: the log has everything.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Lately {
    /// Refusals by device and reason, the latest first.
    pub refusals: Vec<RefusalStatus>,
    /// What only learn mode lets through, the latest first: what rules would have to allow.
    pub learnt: Vec<RefusalStatus>,
    /// The devices with most flows since the start.
    pub devices: Vec<BusyStatus>,
    /// The names with most flows since the start.
    pub names: Vec<BusyStatus>,
}

/// Refusals of one device for one reason.
#[derive(Clone, Debug, Serialize)]
pub struct RefusalStatus {
    /// Its `[[device]]` name, else its address.
    pub device: String,
    /// Its address.
    pub address: std::net::IpAddr,
    /// Its hardware address, where it is known.
    pub mac: Option<String>,
    /// Why.
    pub reason: Reason,
    /// The same in one sentence.
    pub sentence: &'static str,
    /// What to do about it.
    pub remedy: String,
    /// What is known beyond the reason, of the last.
    pub detail: Option<String>,
    /// The `[endpoint.*]` table or the service that the last is of, where it is known.
    pub endpoint: Option<Arc<str>>,
    /// How many.
    pub count: u64,
    /// When the first was (RFC 3339).
    pub first: String,
    /// When the last was (RFC 3339).
    pub last: String,
    /// The last places, the latest first: name and port.
    pub places: Vec<PlaceStatus>,
}

/// What a device asked for.
#[derive(Clone, Debug, Serialize)]
pub struct PlaceStatus {
    /// The name, where it said one.
    pub name: Option<String>,
    /// The port.
    pub port: u16,
}

/// A busy device or name.
#[derive(Clone, Debug, Serialize)]
pub struct BusyStatus {
    /// A device's name or address, or the name itself.
    pub name: String,
    /// How busy.
    #[serde(flatten)]
    pub busy: Busy,
}

impl Lately {
    pub(super) fn new(seen: &Sightings, policy: &Policy) -> Self {
        let status = |of: &Refusals| RefusalStatus::new(of, policy);
        let (learnt, refusals): (Vec<_>, Vec<_>) = seen
            .refusals
            .latest(usize::MAX)
            .into_iter()
            .partition(|of| of.treatment == Treatment::Learnt);
        let first = |all: &[Refusals]| all.iter().take(MOST_SHOWN).map(status).collect();
        let devices = seen.devices.top(MOST_BUSY).into_iter();
        let names = seen.names.top(MOST_BUSY).into_iter();
        Self {
            refusals: first(&refusals),
            learnt: first(&learnt),
            devices: devices
                .map(|(key, busy)| BusyStatus { name: device(key, &busy, policy), busy })
                .collect(),
            names: names.map(|(name, busy)| BusyStatus { name: name.to_string(), busy }).collect(),
        }
    }
}

impl RefusalStatus {
    fn new(of: &Refusals, policy: &Policy) -> Self {
        let Asking { address, mac } = of.asking;
        let remedy = of.remedy.clone().unwrap_or_else(|| of.reason.remedy().to_owned());
        let places = of.names.iter().rev().map(|(name, port)| PlaceStatus {
            name: name.as_ref().map(ToString::to_string),
            port: *port,
        });
        Self {
            device: label(of.asking, policy),
            address: address.to_canonical(),
            mac: mac.map(|mac| mac.to_string()),
            reason: of.reason,
            sentence: of.reason.sentence(),
            remedy,
            detail: of.detail.clone(),
            endpoint: of.endpoint.clone(),
            count: of.count,
            first: rfc3339(of.first),
            last: rfc3339(of.last),
            places: places.collect(),
        }
    }
}

fn label(asking: Asking, policy: &Policy) -> String {
    match policy.identify(asking).name {
        Some(name) => name.to_string(),
        None => asking.address.to_canonical().to_string(),
    }
}

fn device(key: DeviceKey, busy: &Busy, policy: &Policy) -> String {
    let (mac, address) = match key {
        DeviceKey::Mac(mac) => (Some(mac), busy.address),
        DeviceKey::Address(address) => (None, Some(address)),
    };
    match (address, mac) {
        (Some(address), mac) => label(Asking { address, mac }, policy),
        (None, Some(mac)) => mac.to_string(),
        (None, None) => String::new(),
    }
}

fn rfc3339(at: SystemTime) -> String {
    OffsetDateTime::from(at).format(&Rfc3339).unwrap_or_default()
}

/// Groups of refusals.
const MOST_SHOWN: usize = 50;
/// Devices, and names.
const MOST_BUSY: usize = 10;
