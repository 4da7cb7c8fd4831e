//! Who is connected: so many in all, so many from one address, and so many streams.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Everybody who is connected.
#[derive(Debug, Default)]
pub(super) struct Crowd(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    connections: Count,
    streams: Count,
    turned_away: u64,
}

#[derive(Debug, Default)]
struct Count {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection's or stream's place; leaving it behind gives it back.
#[derive(Debug)]
pub(super) struct Seat {
    crowd: Arc<Crowd>,
    address: IpAddr,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Connection,
    Stream,
}

impl Crowd {
    /// A place for a connection; `None` when there are too many.
    pub(super) fn enter(self: &Arc<Self>, from: IpAddr) -> Option<Seat> {
        self.take(from, Kind::Connection)
    }

    /// A place for a stream of events.
    pub(super) fn watch(self: &Arc<Self>, from: IpAddr) -> Option<Seat> {
        self.take(from, Kind::Stream)
    }

    /// Connections and streams now, and those that were turned away so far.
    pub(super) fn counts(&self) -> (u64, u64, u64) {
        let inner = self.inner();
        (inner.connections.all as u64, inner.streams.all as u64, inner.turned_away)
    }

    fn take(self: &Arc<Self>, from: IpAddr, kind: Kind) -> Option<Seat> {
        let address = network(from);
        let mut inner = self.inner();
        let (most, most_of_one) = kind.limits();
        let count = inner.count(kind);
        let own = count.by_address.get(&address).copied().unwrap_or_default();
        if count.all >= most || own >= most_of_one {
            inner.turned_away = inner.turned_away.saturating_add(1);
            return None;
        }
        count.all += 1;
        count.by_address.insert(address, own + 1);
        drop(inner);
        Some(Seat { crowd: Arc::clone(self), address, kind })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn count(&mut self, kind: Kind) -> &mut Count {
        match kind {
            Kind::Connection => &mut self.connections,
            Kind::Stream => &mut self.streams,
        }
    }
}

impl Kind {
    fn limits(self) -> (usize, usize) {
        match self {
            Self::Connection => (MOST_CONNECTIONS, MOST_CONNECTIONS / 4),
            Self::Stream => (MOST_STREAMS, MOST_STREAMS / 2),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut inner = self.crowd.inner();
        let count = inner.count(self.kind);
        count.all = count.all.saturating_sub(1);
        if let Some(own) = count.by_address.get_mut(&self.address) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                count.by_address.remove(&self.address);
            }
        }
    }
}

/// An IPv6 host has a whole /64 (RFC 4291 section 2.5.1).
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

/// Connections at once.
pub(crate) const MOST_CONNECTIONS: usize = 256;
/// Streams of events at once.
const MOST_STREAMS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_all_places() {
        let crowd: Arc<Crowd> = Arc::default();
        let of = |host: u16| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, host));
        let greedy: Vec<_> = (0..1_000).filter_map(|host| crowd.enter(of(host))).collect();
        assert_eq!(greedy.len(), MOST_CONNECTIONS / 4);
        let other = crowd.enter(IpAddr::from([192, 0, 2, 1]));
        assert!(other.is_some(), "another address has its own");
        assert_eq!(crowd.counts(), (65, 0, 936));
        drop((greedy, other));
        assert_eq!(crowd.counts(), (0, 0, 936));
        assert!(crowd.inner().connections.by_address.is_empty(), "nothing is kept of who left");
    }

    #[test]
    fn all_together_have_a_limit() {
        let crowd: Arc<Crowd> = Arc::default();
        let seats = (0..=255).flat_map(|a| (0..4).map(move |b| IpAddr::from([10, 0, b, a])));
        let seats: Vec<_> = seats.filter_map(|from| crowd.enter(from)).collect();
        assert_eq!(seats.len(), MOST_CONNECTIONS);
        let streams: Vec<_> = (0..=255).filter_map(|a| crowd.watch([10, 0, 0, a].into())).collect();
        assert_eq!(streams.len(), MOST_STREAMS);
    }
}
