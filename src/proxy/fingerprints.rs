//! How each device has said hello so far, so that a record can tell when that changes.
//!
//! A device whose JA4 changes got other software, or is another device. Asked once for each flow,
//! after its hello, never for bytes. What is kept is bounded: devices that were not heard of while
//! very many others were are forgotten, and of one device only its last fingerprints are kept.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use smallvec::SmallVec;

use super::generations::Generations;
use crate::config::MacAddr;
use crate::hello::Ja4;
use crate::policy::Asking;

/// The fingerprints of all devices; shared by all threads, because a device's flows are on any.
#[derive(Debug)]
pub struct Fingerprints {
    hasher: RandomState,
    devices: Mutex<Generations<Shown, Last>>,
}

impl Default for Fingerprints {
    fn default() -> Self {
        let devices = Mutex::new(Generations::new(GENERATION));
        Self { hasher: RandomState::new(), devices }
    }
}

/// Whom a fingerprint belongs to: the most lasting of what is known of a device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Shown {
    Name(Arc<str>),
    Mac(MacAddr),
    Address(IpAddr),
}

impl Shown {
    pub(super) fn by(asking: Asking, name: Option<&Arc<str>>) -> Self {
        match (name, asking.mac) {
            (Some(name), _) => Self::Name(Arc::clone(name)),
            (None, Some(mac)) => Self::Mac(mac),
            (None, None) => Self::Address(asking.address.to_canonical()),
        }
    }
}

/// What a fingerprint is to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The device's first.
    First,
    /// One of its last.
    Known,
    /// Another one than those.
    New,
}

impl Fingerprints {
    /// Notes a fingerprint, and says what it is to the device.
    pub(super) fn note(&self, shown: &Shown, ja4: Ja4) -> Seen {
        let ja4 = self.hasher.hash_one(ja4);
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        devices.with(shown, Last::default, |last| last.note(ja4))
    }
}

/// Hashes of a device's last fingerprints, the latest first. Most devices have one or two TLS clients.
#[derive(Debug, Default)]
struct Last(SmallVec<[u64; 2]>);

impl Last {
    fn note(&mut self, ja4: u64) -> Seen {
        let seen = match self.0.iter().position(|known| *known == ja4) {
            Some(place) => {
                self.0.remove(place);
                Seen::Known
            }
            None if self.0.is_empty() => Seen::First,
            None => Seen::New,
        };
        self.0.insert(0, ja4);
        self.0.truncate(MOST_OF_ONE);
        seen
    }
}

/// Devices in one half: with both, at most a few MiB.
const GENERATION: usize = 8_192;
/// A device has a handful of TLS clients at most.
const MOST_OF_ONE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hello::ClientTraits;

    fn name(text: &str) -> Shown {
        Shown::Name(text.into())
    }

    /// A fingerprint of its own for each number: that of a client with so many suites.
    fn ja4(number: u8) -> Ja4 {
        ClientTraits::new(0x0303, None, 0..u16::from(number), &[], std::iter::empty()).ja4()
    }

    #[test]
    fn only_another_fingerprint_of_a_known_device_is_new() {
        let seen = Fingerprints::default();
        assert_eq!(seen.note(&name("press-3"), ja4(b'a')), Seen::First);
        assert_eq!(seen.note(&name("press-3"), ja4(b'a')), Seen::Known);
        assert_eq!(seen.note(&name("press-4"), ja4(b'b')), Seen::First);
        assert_eq!(seen.note(&name("press-3"), ja4(b'b')), Seen::New);
        assert_eq!(seen.note(&name("press-3"), ja4(b'a')), Seen::Known);
        assert_eq!(seen.note(&name("press-3"), ja4(b'b')), Seen::Known);
    }

    #[test]
    fn a_device_is_known_by_the_most_lasting_thing() {
        let mac: MacAddr = "00:1b:1b:00:00:0a".parse().expect("a MAC");
        let mut asking = Asking { address: "::ffff:10.10.3.7".parse().expect("one"), mac: None };
        let four = Shown::Address("10.10.3.7".parse().expect("one"));
        assert_eq!(Shown::by(asking, None), four);
        asking.mac = Some(mac);
        assert_eq!(Shown::by(asking, None), Shown::Mac(mac));
        assert_eq!(Shown::by(asking, Some(&"press-3".into())), name("press-3"));
    }

    #[test]
    fn memory_is_bounded_and_a_busy_device_outlives_a_flood() {
        let seen = Fingerprints::default();
        seen.note(&name("busy"), ja4(b'a'));
        seen.note(&name("quiet"), ja4(b'a'));
        for number in 0..3 * GENERATION as u128 {
            seen.note(&Shown::Address(std::net::Ipv6Addr::from(number).into()), ja4(b'x'));
            assert_eq!(seen.note(&name("busy"), ja4(b'a')), Seen::Known);
        }
        let held = seen.devices.lock().expect("one thread");
        assert!(held.all().count() <= 2 * GENERATION);
        assert!(!held.all().any(|(shown, _)| *shown == name("quiet")));
        drop(held);
        for number in 0..100 {
            seen.note(&name("busy"), ja4(number));
        }
        let held = seen.devices.lock().expect("one thread");
        assert!(held.all().all(|(_, last)| last.0.len() <= MOST_OF_ONE));
    }
}
