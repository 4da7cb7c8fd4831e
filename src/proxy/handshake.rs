//! What the handshake behind the hello says, for the flow's record.
//!
//! It is read by two onlookers of the relay, which are gone once the rest is encrypted;
//! what stays of it is a few bytes.

use std::cell::Cell;
use std::rc::Rc;

use crate::audit::{AlertFacts, AlertFrom, HandshakeFacts};
use crate::hello::observe::{Direction, Observer, Seen, Watch};
use crate::relay::{Attention, Onlooker, Onlookers};

/// What the plaintext part of a flow's handshake has said so far.
#[derive(Debug, Default)]
pub(super) struct Handshake(Cell<HandshakeFacts>);

impl Handshake {
    /// Those who look at the two directions; nobody where nothing more can be learnt. `behind_hello` is
    /// what the device has sent already behind its ClientHello.
    pub(super) fn onlookers(self: &Rc<Self>, behind_hello: &[u8]) -> Onlookers {
        Onlookers {
            up: onlooker(self, AlertFrom::Device, behind_hello),
            down: onlooker(self, AlertFrom::Endpoint, &[]),
        }
    }

    /// What it has said.
    pub(super) fn facts(&self) -> HandshakeFacts {
        self.0.get()
    }

    /// Notes what is new to one observer. The first fatal alert is the one that counts: what follows
    /// it is an answer to it.
    fn note(&self, from: AlertFrom, before: Seen, now: Seen) {
        let mut facts = self.0.get();
        if now.version.is_some() {
            facts.version = now.version;
            facts.cipher = now.cipher;
        }
        let settled = facts.alert.is_some_and(|alert| alert.level != WARNING);
        if let Some(alert) = now.alert.filter(|_| now.alert != before.alert && !settled) {
            let (level, description) = (alert.level, alert.description);
            facts.alert = Some(AlertFacts { from, level, description });
        }
        self.0.set(facts);
    }
}

fn onlooker(handshake: &Rc<Handshake>, from: AlertFrom, early: &[u8]) -> Option<Box<Onlooker>> {
    let mut observer = Observer::new(match from {
        AlertFrom::Endpoint => Direction::Server,
        AlertFrom::Device | AlertFrom::Gate => Direction::Device,
    });
    let handshake = Rc::clone(handshake);
    let mut look = move |bytes: &[u8]| {
        let before = observer.seen();
        let watch = observer.push(bytes);
        handshake.note(from, before, observer.seen());
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
        let handshake = Handshake::default();
        let nothing = Seen::default();
        let noted = |from, before, now| {
            handshake.note(from, before, now);
            handshake.facts().alert.map(|alert| (alert.from, alert.description))
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
        let handshake = Rc::new(Handshake::default());
        let early_data = [23, 3, 3, 0, 1, 0];
        let onlookers = handshake.onlookers(&early_data);
        assert!(onlookers.up.is_none() && onlookers.down.is_some());
        drop(onlookers);
        assert!(handshake.onlookers(&[]).up.is_some());
        assert_eq!(Rc::strong_count(&handshake), 1);
        drop(handshake.onlookers(&[21, 3, 1, 0, 2, 2, 42]));
        let alert = AlertFacts { from: AlertFrom::Device, level: 2, description: 42 };
        assert_eq!(handshake.facts().alert, Some(alert));
    }
}
