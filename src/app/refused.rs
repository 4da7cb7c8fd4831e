//! Refused packets on their way to the log: harvested from the kernel, recorded together.
//!
//! The sum of what is recorded is the sum of what the rules have counted. A harvest becomes a bounded
//! number of records: one for each device, protocol and destination, and where these are too many,
//! one for each device and protocol with some of the destinations. While the log cannot be written,
//! counts are kept and added up.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use super::State;
use crate::audit::{Audit, PacketDestination, PacketDevice, PacketFacts};
use crate::config::MacAddr;
use crate::intercept::tally::{self, Tally};
use crate::intercept::{self, nft};
use crate::policy::{Asking, Policy};
use crate::reason::Reason;

/// What is known of refused packets that were not recorded yet.
#[derive(Debug, Default)]
pub(super) struct Refused {
    /// The kernel's count at the last harvest.
    seen: Option<u64>,
    /// When the last harvest began: what is counted is not older.
    last: Option<SystemTime>,
    ledger: Ledger,
}

impl Refused {
    /// Whether there may be something to record.
    pub(super) async fn is_due(&self) -> bool {
        if self.last.is_none() || !self.ledger.groups.is_empty() {
            return true;
        }
        let counted = intercept::blocking(tally::refused).await;
        counted.is_ok_and(|counted| Some(counted) != self.seen)
    }

    /// Takes what the kernel has counted, and records it.
    pub(super) async fn record(&mut self, audit: &Audit, policy: &Policy, state: &State) {
        if self.last.is_none() {
            // A run before may have left something in either generation of the counts.
            self.harvest().await;
        }
        self.harvest().await;
        self.ledger.bound(MOST_RECORDS);
        if self.ledger.groups.is_empty() {
            return;
        }
        let facts = self.ledger.facts(policy);
        match audit.note_packets(&facts) {
            Ok(()) => {
                state.note_packets(&facts);
                self.ledger = Ledger::default();
            }
            Err(error) => {
                let packets = self.ledger.packets();
                tracing::warn!(packets, %error, "refused packets are not recorded yet");
            }
        }
    }

    async fn harvest(&mut self) {
        let begin = SystemTime::now();
        // Read first: what comes in meanwhile makes the next harvest due.
        let seen = intercept::blocking(tally::refused).await.ok();
        match intercept::blocking(tally::harvest).await {
            Ok(tallies) => {
                let until = SystemTime::now();
                for tally in &tallies {
                    self.ledger.add(tally, self.last, until);
                }
                (self.seen, self.last) = (seen, Some(begin));
            }
            Err(error) => note(&error),
        }
    }
}

fn note(error: &nft::NftError) {
    tracing::warn!(%error, "cannot read who sent refused packets; what is counted is read later");
}

/// Counts by who sent packets.
#[derive(Debug, Default)]
struct Ledger {
    groups: BTreeMap<Group, Counts>,
}

/// A reason, a device and a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    reason: Reason,
    /// `None` for several.
    device: Option<(MacAddr, IpAddr)>,
    protocol: Option<u8>,
}

type Place = (IpAddr, Option<u16>);

/// What one group sent.
#[derive(Debug)]
struct Counts {
    since: Option<SystemTime>,
    until: SystemTime,
    /// By destination.
    places: BTreeMap<Place, u64>,
    /// Without.
    folded: Option<Folded>,
}

/// Packets whose destinations are no longer told apart.
#[derive(Debug, Default)]
struct Folded {
    packets: u64,
    samples: Vec<Place>,
}

impl Ledger {
    fn add(&mut self, tally: &Tally, since: Option<SystemTime>, until: SystemTime) {
        let group = Group {
            reason: tally.reason,
            device: tally.between.map(|between| (between.mac, between.from)),
            protocol: tally.between.map(|between| between.protocol),
        };
        let counts = self.groups.entry(group).or_insert_with(|| Counts::new(since, until));
        counts.widen(since, until);
        match (tally.between, &mut counts.folded) {
            (Some(between), None) => {
                let packets = counts.places.entry((between.to, between.port)).or_default();
                *packets = packets.saturating_add(tally.packets);
            }
            (between, folded) => {
                let folded = folded.get_or_insert_default();
                folded.add(tally.packets, between.map(|between| (between.to, between.port)));
            }
        }
    }

    /// Makes at most so many records of it: those with most destinations are folded first, then
    /// those of the last devices.
    fn bound(&mut self, most: usize) {
        let mut records: usize = self.groups.values().map(Counts::records).sum();
        let mut by_size: Vec<_> =
            self.groups.iter().map(|(group, counts)| (counts.places.len(), *group)).collect();
        by_size.sort_unstable_by(|one, other| other.cmp(one));
        for (places, group) in by_size {
            if records <= most || places < 2 {
                break;
            }
            if let Some(counts) = self.groups.get_mut(&group) {
                records -= counts.records();
                counts.fold();
                records += counts.records();
            }
        }
        let too_many = |group: &Group, index: usize| index >= most && group.device.is_some();
        let last: Vec<Group> = self
            .groups
            .keys()
            .enumerate()
            .filter(|(index, group)| too_many(group, *index))
            .map(|(_, group)| *group)
            .collect();
        for group in last {
            if let Some(counts) = self.groups.remove(&group) {
                self.merge(group.reason, counts);
            }
        }
    }

    fn merge(&mut self, reason: Reason, mut counts: Counts) {
        counts.fold();
        let group = Group { reason, device: None, protocol: None };
        let (since, until) = (counts.since, counts.until);
        let several = self.groups.entry(group).or_insert_with(|| Counts::new(since, until));
        several.widen(since, until);
        let folded = several.folded.get_or_insert_default();
        folded.add(counts.folded.map_or(0, |counts| counts.packets), None);
    }

    fn packets(&self) -> u64 {
        let places = self.groups.values().flat_map(|counts| counts.places.values());
        let folded = self.groups.values().filter_map(|counts| counts.folded.as_ref());
        places.sum::<u64>() + folded.map(|folded| folded.packets).sum::<u64>()
    }

    fn facts(&self, policy: &Policy) -> Vec<PacketFacts> {
        let mut all = Vec::new();
        for (group, counts) in &self.groups {
            let device = group.device.map(|(mac, address)| {
                let identity = policy.identify(Asking { address, mac: Some(mac) });
                PacketDevice { mac, address, name: identity.name, identity: identity.by }
            });
            let facts = |to, packets| PacketFacts {
                reason: group.reason,
                device: device.clone(),
                protocol: group.protocol,
                to,
                packets,
                since: counts.since,
                until: counts.until,
            };
            let places = counts.places.iter();
            all.extend(
                places.map(|((ip, port), packets)| {
                    facts(PacketDestination::One(*ip, *port), *packets)
                }),
            );
            all.extend(counts.folded.iter().map(|folded| {
                facts(PacketDestination::Several(folded.samples.clone()), folded.packets)
            }));
        }
        all
    }
}

impl Counts {
    fn new(since: Option<SystemTime>, until: SystemTime) -> Self {
        Self { since, until, places: BTreeMap::new(), folded: None }
    }

    fn widen(&mut self, since: Option<SystemTime>, until: SystemTime) {
        // Nothing is before an unknown time.
        self.since = self.since.min(since);
        self.until = self.until.max(until);
    }

    fn records(&self) -> usize {
        self.places.len() + usize::from(self.folded.is_some())
    }

    fn fold(&mut self) {
        let folded = self.folded.get_or_insert_default();
        for (place, packets) in std::mem::take(&mut self.places) {
            folded.add(packets, Some(place));
        }
    }
}

impl Folded {
    fn add(&mut self, packets: u64, place: Option<Place>) {
        self.packets = self.packets.saturating_add(packets);
        if let Some(place) = place
            && self.samples.len() < MOST_SAMPLES
            && !self.samples.contains(&place)
        {
            self.samples.push(place);
        }
    }
}

/// How often refused packets are recorded.
pub(super) const EVERY: Duration = Duration::from_secs(10);
/// Records of one harvest at most, but for one of each reason.
const MOST_RECORDS: usize = 256;
const MOST_SAMPLES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intercept::tally::Between;

    fn tally(device: u8, to: u16, packets: u64) -> Tally {
        let [high, low] = to.to_be_bytes();
        let between = Between {
            mac: MacAddr([2, 0, 0, 0, 0, device]),
            from: [10, 10, 0, device].into(),
            protocol: 17,
            to: [198, 51, high, low].into(),
            port: Some(9),
        };
        Tally { reason: Reason::UdpBlocked, between: Some(between), packets }
    }

    fn ledger(tallies: impl IntoIterator<Item = Tally>) -> Ledger {
        let mut ledger = Ledger::default();
        for tally in tallies {
            ledger.add(&tally, None, SystemTime::UNIX_EPOCH);
        }
        ledger
    }

    fn records(ledger: &Ledger) -> usize {
        ledger.groups.values().map(Counts::records).sum()
    }

    #[test]
    fn only_who_sends_to_most_places_loses_them() {
        let mut ledger = ledger((0..5000).map(|to| tally(1, to, 4)).chain([tally(2, 1, 7)]));
        ledger.bound(256);
        assert_eq!((records(&ledger), ledger.packets()), (2, 20_007));
        let [loud, quiet] = ledger.groups.values().collect::<Vec<_>>()[..] else { panic!() };
        assert_eq!(loud.folded.as_ref().unwrap().samples.len(), 16);
        assert_eq!(quiet.places.len(), 1);
        // What comes before it could be recorded is added.
        ledger.add(&tally(1, 9000, 1), None, SystemTime::UNIX_EPOCH);
        ledger.bound(256);
        assert_eq!((records(&ledger), ledger.packets()), (2, 20_008));
    }

    #[test]
    fn more_devices_than_records_are_several() {
        let mut ledger =
            ledger((0..=255).flat_map(|device| [tally(device, 1, 1), tally(device, 2, 1)]));
        ledger.bound(10);
        assert_eq!(ledger.packets(), 512);
        assert!(records(&ledger) <= 11, "{}", records(&ledger));
        let unknown = Tally { between: None, ..tally(0, 0, 5) };
        ledger.add(&unknown, Some(SystemTime::now()), SystemTime::now());
        ledger.bound(10);
        assert_eq!(ledger.packets(), 517);
        assert!(records(&ledger) <= 11, "{}", records(&ledger));
    }

    #[test]
    fn few_are_kept_apart() {
        let mut ledger = ledger([tally(1, 1, 1), tally(1, 2, 2), tally(2, 1, 3), tally(1, 1, 4)]);
        ledger.bound(3);
        assert_eq!((records(&ledger), ledger.packets()), (3, 10));
    }
}
