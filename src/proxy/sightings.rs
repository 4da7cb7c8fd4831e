//! What a data thread has seen lately: refusals by device and reason, the busiest devices and names.
//!
//! For people who look at the gate; the log is what counts. Bounded whatever devices do: the refusals
//! that are longest ago are forgotten, and so are devices and names with few flows.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use super::busiest::Busiest;
use crate::audit::PacketDestination;
use crate::config::MacAddr;
use crate::name::ServerName;
use crate::policy::{Asking, Denial};
use crate::reason::Reason;

/// A device, by the best that is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeviceKey {
    /// Its hardware address.
    Mac(MacAddr),
    /// Its address, while the hardware address is not known.
    Address(IpAddr),
}

impl DeviceKey {
    /// Who asks.
    pub fn of(asking: Asking) -> Self {
        match asking.mac {
            Some(mac) => Self::Mac(mac),
            None => Self::Address(asking.address.to_canonical()),
        }
    }
}

/// What became of a flow that the rules do not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Treatment {
    /// It was refused, or could not be connected.
    Refused,
    /// Learn mode let it through.
    Learnt,
}

/// What there is to say of one refusal.
#[derive(Clone, Debug)]
pub struct SeenRefusal<'a> {
    /// Who asked.
    pub asking: Asking,
    /// Refused, or only noted.
    pub treatment: Treatment,
    /// Why.
    pub reason: Reason,
    /// The name, where the device said one.
    pub name: Option<&'a ServerName>,
    /// The port that it dialled; `None` where there is none.
    pub port: Option<u16>,
    /// What is known beyond the reason.
    pub detail: Option<&'a str>,
    /// A better remedy than the reason's.
    pub remedy: Option<String>,
    /// The `[endpoint.*]` table that would allow it, or the service that it is of.
    pub endpoint: Option<Arc<str>>,
}

impl<'a> SeenRefusal<'a> {
    /// A flow to this port.
    pub(super) fn of(
        asking: Asking,
        reason: Reason,
        name: Option<&'a ServerName>,
        port: u16,
    ) -> Self {
        Self {
            asking,
            treatment: Treatment::Refused,
            reason,
            name,
            port: Some(port),
            detail: None,
            remedy: None,
            endpoint: None,
        }
    }

    /// Packets that never were a flow.
    pub fn packets(asking: Asking, reason: Reason, to: &PacketDestination) -> Self {
        let port = match to {
            PacketDestination::One(_, port) => *port,
            PacketDestination::Several(_) => None,
        };
        Self { port, ..Self::of(asking, reason, None, 0) }
    }

    /// A flow that only learn mode lets through.
    pub(super) fn learnt(asking: Asking, denial: &Denial, name: &'a ServerName, port: u16) -> Self {
        Self {
            treatment: Treatment::Learnt,
            remedy: denial.remedy(),
            endpoint: denial.endpoint().or_else(|| denial.service()),
            ..Self::of(asking, denial.reason, Some(name), port)
        }
    }
}

/// Refusals of one device for one reason.
#[derive(Clone, Debug)]
pub struct Refusals {
    /// Who asked last.
    pub asking: Asking,
    /// Refused, or only noted.
    pub treatment: Treatment,
    /// Why.
    pub reason: Reason,
    /// How many.
    pub count: u64,
    /// When the first was.
    pub first: SystemTime,
    /// When the last was.
    pub last: SystemTime,
    /// The last names and ports, the latest last.
    pub names: Vec<(Option<ServerName>, u16)>,
    /// Of the last.
    pub detail: Option<String>,
    /// Of the last.
    pub remedy: Option<String>,
    /// Of the last.
    pub endpoint: Option<Arc<str>>,
}

/// Refusals that were not long ago.
#[derive(Clone, Debug, Default)]
pub struct RefusalBook(HashMap<(DeviceKey, Reason, Treatment), Refusals>);

/// Everything that a thread has seen lately.
#[derive(Clone, Debug)]
pub struct Sightings {
    /// Refusals by device and reason.
    pub refusals: RefusalBook,
    /// The busiest devices.
    pub devices: Busiest<DeviceKey>,
    /// The names with most flows.
    pub names: Busiest<ServerName>,
}

impl Default for Sightings {
    fn default() -> Self {
        let (devices, names) = (Busiest::new(MOST_BUSY), Busiest::new(MOST_BUSY));
        Self { refusals: RefusalBook::default(), devices, names }
    }
}

impl Sightings {
    /// A flow was connected.
    pub(super) fn opened(&mut self, asking: Asking, name: &ServerName) {
        self.devices.count(&DeviceKey::of(asking), |busy| {
            busy.live += 1;
            busy.address = Some(asking.address.to_canonical());
        });
        self.names.count(name, |busy| busy.live += 1);
    }

    /// A flow that was connected has ended.
    pub(super) fn ended(&mut self, asking: Asking, name: &ServerName, bytes: u64) {
        self.devices.change(&DeviceKey::of(asking), |busy| {
            busy.live = busy.live.saturating_sub(1);
            busy.bytes = busy.bytes.saturating_add(bytes);
        });
        self.names.change(name, |busy| {
            busy.live = busy.live.saturating_sub(1);
            busy.bytes = busy.bytes.saturating_add(bytes);
        });
    }

    /// A flow was refused.
    pub(super) fn refused(&mut self, refusal: &SeenRefusal<'_>) {
        self.devices.count(&DeviceKey::of(refusal.asking), |busy| {
            busy.refused += 1;
            busy.address = Some(refusal.asking.address.to_canonical());
        });
        self.refusals.note(refusal, 1, SystemTime::now());
    }

    /// Adds another thread's.
    pub fn add(&mut self, other: &Self) {
        self.refusals.add(&other.refusals);
        self.devices.add(&other.devices);
        self.names.add(&other.names);
    }
}

impl RefusalBook {
    /// Notes refusals that are alike.
    pub fn note(&mut self, refusal: &SeenRefusal<'_>, count: u64, at: SystemTime) {
        let key = (DeviceKey::of(refusal.asking), refusal.reason, refusal.treatment);
        if self.0.len() >= MOST_REFUSALS && !self.0.contains_key(&key) {
            self.forget_one();
        }
        let group = self.0.entry(key).or_insert_with(|| Refusals {
            asking: refusal.asking,
            treatment: refusal.treatment,
            reason: refusal.reason,
            count: 0,
            first: at,
            last: at,
            names: Vec::new(),
            detail: None,
            remedy: None,
            endpoint: None,
        });
        group.count = group.count.saturating_add(count);
        group.asking = refusal.asking;
        group.last = group.last.max(at);
        group.detail = refusal.detail.map(str::to_owned);
        group.remedy.clone_from(&refusal.remedy);
        group.endpoint.clone_from(&refusal.endpoint);
        if let Some(port) = refusal.port {
            group.saw(refusal.name.cloned(), port);
        }
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        for (key, more) in &other.0 {
            match self.0.get_mut(key) {
                Some(group) => group.join(more),
                None => _ = self.0.insert(*key, more.clone()),
            }
        }
    }

    /// The latest first.
    pub fn latest(&self, most: usize) -> Vec<Refusals> {
        let mut all: Vec<_> = self.0.values().collect();
        all.sort_by_key(|group| std::cmp::Reverse(group.last));
        all.into_iter().take(most).cloned().collect()
    }

    fn forget_one(&mut self) {
        let oldest = self.0.iter().min_by_key(|(_, group)| group.last).map(|(key, _)| *key);
        if let Some(oldest) = oldest {
            self.0.remove(&oldest);
        }
    }
}

impl Refusals {
    fn saw(&mut self, name: Option<ServerName>, port: u16) {
        let seen = (name, port);
        self.names.retain(|known| *known != seen);
        self.names.push(seen);
        if self.names.len() > MOST_NAMES {
            self.names.remove(0);
        }
    }

    fn join(&mut self, more: &Self) {
        let later = more.last > self.last;
        for (name, port) in &more.names {
            self.saw(name.clone(), *port);
        }
        self.count = self.count.saturating_add(more.count);
        self.first = self.first.min(more.first);
        if later {
            self.last = more.last;
            self.asking = more.asking;
            self.detail.clone_from(&more.detail);
            self.remedy.clone_from(&more.remedy);
            self.endpoint.clone_from(&more.endpoint);
        }
    }
}

/// Groups of refusals of one thread.
const MOST_REFUSALS: usize = 128;
/// Names that are kept of one group.
const MOST_NAMES: usize = 4;
/// Devices, and names, that are counted.
const MOST_BUSY: usize = 128;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn asking(device: u32) -> Asking {
        Asking { address: std::net::Ipv4Addr::from(0x0a0a_0000 + device).into(), mac: None }
    }

    fn refusal(device: u32, name: Option<&ServerName>) -> SeenRefusal<'_> {
        SeenRefusal::of(asking(device), Reason::NameNotAllowed, name, 443)
    }

    #[test]
    fn the_refusals_that_are_longest_ago_are_forgotten() {
        let mut book = RefusalBook::default();
        let at = |second| SystemTime::UNIX_EPOCH + Duration::from_secs(second);
        for device in 0..1_000 {
            book.note(&refusal(device, None), 1, at(u64::from(device)));
        }
        let latest = book.latest(MOST_REFUSALS * 2);
        assert_eq!(latest.len(), MOST_REFUSALS);
        assert_eq!(latest.first().map(|group| group.asking), Some(asking(999)));
        assert_eq!(latest.last().map(|group| group.asking), Some(asking(872)));
    }

    #[test]
    fn threads_add_up_and_the_last_names_are_kept() {
        let mut one = RefusalBook::default();
        let mut two = RefusalBook::default();
        let names: Vec<ServerName> =
            (0..9).map(|n| format!("n{n}.example.com").parse().expect("a name")).collect();
        for (second, name) in (0..).zip(&names) {
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            one.note(&refusal(1, Some(name)), 1, at);
        }
        two.note(&refusal(1, names.first()), 2, SystemTime::UNIX_EPOCH + Duration::from_secs(60));
        one.add(&two);
        let [group] = &one.latest(9)[..] else { panic!("one group") };
        assert_eq!((group.count, group.names.len()), (11, MOST_NAMES));
        assert_eq!(group.names.last(), Some(&(names.first().cloned(), 443)));
        assert_eq!(group.last, SystemTime::UNIX_EPOCH + Duration::from_secs(60));
    }
}
