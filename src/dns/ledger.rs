//! What devices asked, counted until it is recorded.
//!
//! Questions that are alike (device, name, type, outcome) are one record with an exact count. The
//! first is recorded within ten seconds; while more of its kind come, their count follows every five
//! minutes. A device that asks for ever new names has some of them recorded, and the others counted
//! together; so are devices too many. The sum of the counts is the number of questions. While the log
//! cannot be written, counts are kept.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use super::message::Transport;
use crate::audit::{DnsAnswers, DnsDevice, DnsNames, DnsQueries};
use crate::config::MacAddr;
use crate::policy::{Asking, Identity};
use crate::reason::Reason;

/// One question and what became of it.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) asking: Asking,
    /// `None` where nobody has looked.
    pub(super) name: Option<String>,
    pub(super) kind: RecordType,
    pub(super) code: ResponseCode,
    pub(super) reason: Option<Reason>,
    pub(super) told: Told,
    pub(super) to: IpAddr,
    pub(super) transport: Transport,
    pub(super) began: SystemTime,
    pub(super) ended: SystemTime,
}

/// What a record says of the verdict; of the first question of its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// The policy's own reason.
    pub(super) why: Option<Reason>,
    pub(super) detail: Option<String>,
    pub(super) remedy: Option<String>,
    pub(super) rule: Option<Arc<str>>,
    pub(super) endpoint: Option<Arc<str>>,
    pub(super) service: Option<Arc<str>>,
    pub(super) addresses: Vec<Ipv4Addr>,
    pub(super) seconds: u32,
    /// The server of the plant's own that answered.
    pub(super) forwarded_to: Option<SocketAddr>,
}

/// What is not recorded yet, and what was lately.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    groups: HashMap<Key, Group>,
    /// How many names of each device have a group of their own.
    names: HashMap<Device, usize>,
}

type Device = (IpAddr, Option<MacAddr>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    /// `None` for several.
    device: Option<Device>,
    /// `None` for several, or where nobody has looked.
    name: Option<String>,
    kind: Option<RecordType>,
    code: ResponseCode,
    reason: Option<Reason>,
}

#[derive(Debug)]
struct Group {
    count: u64,
    /// Since the last record.
    first: SystemTime,
    last: SystemTime,
    began: SystemTime,
    samples: Vec<String>,
    told: Told,
    identity: Identity,
    policy: Arc<str>,
    to: IpAddr,
    transport: Transport,
    recorded: Option<Instant>,
}

impl Ledger {
    /// Counts a question. `who` is asked only where its kind is new.
    pub(super) fn add(
        &mut self,
        transaction: Transaction,
        who: impl FnOnce() -> (Identity, Arc<str>),
    ) {
        let Transaction { asking, name, kind, code, reason, .. } = transaction;
        let device = (asking.address, asking.mac);
        let has_name = name.is_some();
        let mut key =
            Key { device: Some(device), name, kind: has_name.then_some(kind), code, reason };
        let mut sample = None;
        if !self.groups.contains_key(&key) {
            if has_name {
                let names = self.names.entry(device).or_default();
                if *names >= MOST_NAMES {
                    sample = key.name.take();
                    key.kind = None;
                } else {
                    *names += 1;
                }
            }
            if self.groups.len() >= MOST_GROUPS && !self.groups.contains_key(&key) {
                if key.name.is_some() {
                    self.give_back(device);
                }
                sample = sample.or(key.name.take());
                key = Key { device: None, name: None, kind: None, code, reason };
            }
        }
        let single = key.name.is_some();
        let group = self.groups.entry(key).or_insert_with(|| {
            let (identity, policy) = who();
            Group {
                count: 0,
                first: transaction.began,
                last: transaction.ended,
                began: transaction.began,
                samples: Vec::new(),
                told: if single { transaction.told } else { Told::default() },
                identity,
                policy,
                to: transaction.to,
                transport: transaction.transport,
                recorded: None,
            }
        });
        if group.count == 0 {
            group.first = transaction.began;
        }
        group.count = group.count.saturating_add(1);
        (group.began, group.last) = (transaction.began, transaction.ended);
        if let Some(sample) = sample
            && group.samples.len() < MOST_SAMPLES
            && !group.samples.contains(&sample)
        {
            group.samples.push(sample);
        }
    }

    /// What is to be recorded now; everything, when the box shuts down.
    pub(super) fn due(&self, now: Instant, which: Due) -> Vec<DnsQueries> {
        let due = |group: &Group| group.count > 0 && (which == Due::All || group.is_due(now));
        self.groups.iter().filter(|(_, group)| due(group)).map(|(key, g)| facts(key, g)).collect()
    }

    /// What [`Self::due`] gave is recorded. What was silent for long is forgotten.
    pub(super) fn recorded(&mut self, now: Instant, which: Due) {
        for group in self.groups.values_mut() {
            if group.count > 0 && (which == Due::All || group.is_due(now)) {
                group.count = 0;
                group.samples.clear();
                group.recorded = Some(now);
            }
        }
        self.groups.retain(|_, group| group.count > 0 || !group.is_due(now));
        self.names.clear();
        for (device, _) in
            self.groups.keys().filter_map(|key| Some((key.device?, key.name.as_ref()?)))
        {
            *self.names.entry(device).or_default() += 1;
        }
    }

    fn give_back(&mut self, device: Device) {
        if let Some(names) = self.names.get_mut(&device) {
            *names = names.saturating_sub(1);
        }
    }
}

/// Which groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Those whose time has come.
    Ripe,
    /// All.
    All,
}

impl Group {
    fn is_due(&self, now: Instant) -> bool {
        self.recorded.is_none_or(|at| now.saturating_duration_since(at) >= AGAIN)
    }
}

fn facts(key: &Key, group: &Group) -> DnsQueries {
    let told = &group.told;
    let device = key.device.map(|(address, mac)| DnsDevice {
        address,
        mac,
        name: group.identity.name.clone(),
        identity: group.identity.by,
    });
    let names = match (&key.name, key.kind) {
        (Some(name), Some(kind)) => DnsNames::One { name: name.clone(), kind: kind.to_string() },
        _ => DnsNames::Several(group.samples.clone()),
    };
    DnsQueries {
        device,
        names,
        code: u16::from(key.code),
        reason: key.reason,
        why: told.why,
        detail: told.detail.clone(),
        remedy: told.remedy.clone(),
        policy: Arc::clone(&group.policy),
        rule: told.rule.clone(),
        endpoint: told.endpoint.clone(),
        service: told.service.clone(),
        answers: DnsAnswers { addresses: told.addresses.clone(), seconds: told.seconds },
        forwarded_to: told.forwarded_to,
        to: SocketAddr::new(group.to, DNS_PORT),
        protocol: match group.transport {
            Transport::Udp => UDP,
            Transport::Tcp => TCP,
        },
        count: group.count,
        first: group.first,
        began: group.began,
        last: group.last,
    }
}

/// How often something may be recorded.
pub(super) const EVERY: Duration = Duration::from_secs(10);
/// How long after a record its kind is recorded again.
const AGAIN: Duration = Duration::from_secs(300);
/// Names of one device that are told apart at a time.
const MOST_NAMES: usize = 64;
/// Kinds that are told apart at a time.
const MOST_GROUPS: usize = 8_192;
const MOST_SAMPLES: usize = 16;
const DNS_PORT: u16 = 53;
const TCP: u8 = 6;
const UDP: u8 = 17;

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(ledger: &mut Ledger, device: u8, name: &str, reason: Option<Reason>) {
        let now = SystemTime::now();
        let transaction = Transaction {
            asking: Asking { address: [10, 10, 3, device].into(), mac: None },
            name: Some(name.to_owned()),
            kind: RecordType::A,
            code: if reason.is_some() { ResponseCode::Refused } else { ResponseCode::NoError },
            reason,
            told: Told::default(),
            to: [10, 10, 0, 1].into(),
            transport: Transport::Udp,
            began: now,
            ended: now,
        };
        ledger.add(transaction, || (Identity { name: None, by: "none" }, Arc::from("hash")));
    }

    fn sum(all: &[DnsQueries]) -> u64 {
        all.iter().map(|queries| queries.count).sum()
    }

    #[test]
    fn the_first_is_due_at_once_and_the_others_together_later() {
        let mut ledger = Ledger::default();
        let start = Instant::now();
        ask(&mut ledger, 7, "a.example", None);
        assert_eq!(sum(&ledger.due(start, Due::Ripe)), 1);
        ledger.recorded(start, Due::Ripe);
        for _ in 0..9 {
            ask(&mut ledger, 7, "a.example", None);
        }
        let soon = start + EVERY;
        assert_eq!(ledger.due(soon, Due::Ripe), []);
        assert_eq!(sum(&ledger.due(soon, Due::All)), 9, "a box that shuts down records them");
        ledger.recorded(soon, Due::Ripe);
        let later = start + AGAIN;
        let due = ledger.due(later, Due::Ripe);
        assert_eq!((due.len(), sum(&due)), (1, 9));
        ledger.recorded(later, Due::Ripe);
        assert_eq!(ledger.due(later + AGAIN, Due::Ripe), []);
        ledger.recorded(later + AGAIN, Due::Ripe);
        assert!(ledger.groups.is_empty() && ledger.names.is_empty());
    }

    #[test]
    fn who_asks_for_ever_new_names_fills_nothing() {
        let mut ledger = Ledger::default();
        for number in 0..10_000 {
            ask(&mut ledger, 7, &format!("n{number}.example"), Some(Reason::DnsNameRefused));
        }
        ask(&mut ledger, 8, "quiet.example", Some(Reason::DnsNameRefused));
        let due = ledger.due(Instant::now(), Due::Ripe);
        assert_eq!((due.len(), sum(&due)), (MOST_NAMES + 2, 10_001));
        let several = due.iter().find(|queries| queries.count > 1).expect("the others");
        assert!(matches!(&several.names, DnsNames::Several(names) if names.len() == MOST_SAMPLES));
        assert!(several.device.is_some());
    }

    #[test]
    fn more_devices_than_there_is_room_for_are_several() {
        let mut ledger = Ledger::default();
        for device in 0..=255 {
            for number in 0..60 {
                ask(&mut ledger, device, &format!("n{number}.example"), None);
            }
        }
        let due = ledger.due(Instant::now(), Due::Ripe);
        assert_eq!(sum(&due), 256 * 60);
        assert!(due.len() <= MOST_GROUPS + 1, "{}", due.len());
        assert!(due.iter().any(|queries| queries.device.is_none()));
    }
}
