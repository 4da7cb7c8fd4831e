//! What a flow that is connected is recorded by: its byte counts, and what its handshake said.
//!
//! The handshake is read by two onlookers of the relay, which are gone once the rest is encrypted;
//! what stays of it is a few bytes.

use std::cell::Cell;
use std::rc::Rc;

use crate::audit::{AlertFacts, AlertFrom, HandshakeFacts, Traffic, TrafficFacts};
use crate::hello::observe::{Direction, Observer, Seen, Watch};
use crate::relay::{Attention, FlowBytes, Onlooker};

/// What is known of a flow while it is relayed.
#[derive(Debug, Default)]
pub(super) struct Watched {
    pub(super) bytes: FlowBytes,
    handshake: Cell<HandshakeFacts>,
}

/// Who looks at the two directions; nobody where nothing more can be learnt.
#[derive(Debug, Default)]
pub(super) struct Onlookers {
    pub(super) up: Option<Box<Onlooker>>,
    pub(super) down: Option<Box<Onlooker>>,
}

impl Onlookers {
    /// `behind_hello` is what the device has sent already behind its ClientHello.
    pub(super) fn new(watched: &Rc<Watched>, behind_hello: &[u8]) -> Self {
        Self {
            up: onlooker(watched, AlertFrom::Device, behind_hello),
            down: onlooker(watched, AlertFrom::Endpoint, &[]),
        }
    }

    /// Hands them over.
    pub(super) fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}

impl Traffic for Watched {
    fn traffic(&self) -> TrafficFacts {
        let (up, down) = (&self.bytes.up, &self.bytes.down);
        TrafficFacts {
            up: up.copied.get() + up.spliced.get(),
            down: down.copied.get() + down.spliced.get(),
            spliced: up.spliced.get() + down.spliced.get(),
        }
    }
}

impl Watched {
    /// What the handshake has said so far.
    pub(super) fn handshake(&self) -> HandshakeFacts {
        self.handshake.get()
    }

    /// Notes what is new to one observer. The first fatal alert is the one that counts: what follows
    /// it is an answer to it.
    fn note(&self, from: AlertFrom, before: Seen, now: Seen) {
        let mut facts = self.handshake.get();
        if now.version.is_some() {
            facts.version = now.version;
            facts.cipher = now.cipher;
        }
        let settled = facts.alert.is_some_and(|alert| alert.level != WARNING);
        if let Some(alert) = now.alert.filter(|_| now.alert != before.alert && !settled) {
            let (level, description) = (alert.level, alert.description);
            facts.alert = Some(AlertFacts { from, level, description });
        }
        self.handshake.set(facts);
    }
}

fn onlooker(watched: &Rc<Watched>, from: AlertFrom, early: &[u8]) -> Option<Box<Onlooker>> {
    let mut observer = Observer::new(match from {
        AlertFrom::Endpoint => Direction::Server,
        AlertFrom::Device | AlertFrom::Gate => Direction::Device,
    });
    let watched = Rc::clone(watched);
    let mut look = move |bytes: &[u8]| {
        let before = observer.seen();
        let watch = observer.push(bytes);
        watched.note(from, before, observer.seen());
        match watch {
            Watch::More => Attention::Stays,
            Watch::Done => Attention::Goes,
        }
    };
    (look(early) == Attention::Stays).then(|| Onlooker::new(look))
}

const WARNING: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hello::observe::SeenAlert;

    fn alert(level: u8, description: u8) -> Seen {
        Seen { alert: Some(SeenAlert { level, description }), ..Seen::default() }
    }

    #[test]
    fn the_first_fatal_alert_counts() {
        let watched = Watched::default();
        let nothing = Seen::default();
        let noted = |from, before, now| {
            watched.note(from, before, now);
            watched.handshake().alert.map(|alert| (alert.from, alert.description))
        };
        use AlertFrom::{Device, Endpoint};
        assert_eq!(noted(Endpoint, nothing, alert(1, 112)), Some((Endpoint, 112)));
        assert_eq!(noted(Device, nothing, alert(1, 90)), Some((Device, 90)));
        // Seen before: later bytes of that side do not say it again.
        assert_eq!(noted(Endpoint, alert(1, 112), alert(1, 112)), Some((Device, 90)));
        assert_eq!(noted(Device, alert(1, 90), alert(2, 48)), Some((Device, 48)));
        assert_eq!(noted(Endpoint, alert(1, 112), alert(2, 40)), Some((Device, 48)));
    }

    #[test]
    fn nobody_looks_where_all_is_encrypted_already() {
        let watched = Rc::new(Watched::default());
        let early_data = [23, 3, 3, 0, 1, 0];
        let onlookers = Onlookers::new(&watched, &early_data);
        assert!(onlookers.up.is_none() && onlookers.down.is_some());
        drop(onlookers);
        assert!(Onlookers::new(&watched, &[]).up.is_some());
        assert_eq!(Rc::strong_count(&watched), 1);
        drop(Onlookers::new(&watched, &[21, 3, 1, 0, 2, 2, 42]));
        let alert = AlertFacts { from: AlertFrom::Device, level: 2, description: 42 };
        assert_eq!(watched.handshake().alert, Some(alert));
    }
}
