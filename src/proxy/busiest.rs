//! Who has most of something, among more than can be counted one by one.
//!
//! Space-saving (Metwally, Agrawal, El Abbadi: Efficient Computation of Frequent and Top-k Elements in
//! Data Streams): what is not among the counted takes the place of the least, and its count, so that
//! whoever really has many is never missing and is at most counted too high, by [`Busy::over`].

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

/// The busiest of what was seen, at most so many.
#[derive(Clone, Debug)]
pub struct Busiest<K> {
    most: usize,
    counted: HashMap<K, Busy>,
}

/// What is known of one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Busy {
    /// Flows that were opened or refused.
    pub flows: u64,
    /// Of these, those that may have been another's.
    pub over: u64,
    /// Of these, how many live.
    pub live: u64,
    /// Of these, how many were refused.
    pub refused: u64,
    /// Bytes of those that have ended, both directions together.
    pub bytes: u64,
    /// A device's last address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
}

impl<K: Clone + Eq + Hash> Busiest<K> {
    pub(super) fn new(most: usize) -> Self {
        Self { most, counted: HashMap::new() }
    }

    /// Counts a flow of this one.
    pub(super) fn count(&mut self, key: &K, change: impl FnOnce(&mut Busy)) {
        if let Some(busy) = self.counted.get_mut(key) {
            busy.flows += 1;
            return change(busy);
        }
        let mut busy = Busy { flows: 1, ..Busy::default() };
        if self.counted.len() >= self.most
            && let Some(least) = self.least()
            && let Some(before) = self.counted.remove(&least)
        {
            busy = Busy { flows: before.flows + 1, over: before.flows, ..Busy::default() };
        }
        change(&mut busy);
        self.counted.insert(key.clone(), busy);
    }

    /// Changes what is known of one that was counted, if it still is.
    pub(super) fn change(&mut self, key: &K, change: impl FnOnce(&mut Busy)) {
        if let Some(busy) = self.counted.get_mut(key) {
            change(busy);
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (key, more) in &other.counted {
            let busy = self.counted.entry(key.clone()).or_default();
            busy.flows += more.flows;
            busy.over += more.over;
            busy.live += more.live;
            busy.refused += more.refused;
            busy.bytes += more.bytes;
            busy.address = more.address.or(busy.address);
        }
    }

    /// The busiest first.
    pub fn top(&self, most: usize) -> Vec<(K, Busy)> {
        let mut all: Vec<_> = self.counted.iter().map(|(key, busy)| (key.clone(), *busy)).collect();
        all.sort_by_key(|(_, busy)| std::cmp::Reverse((busy.flows, busy.bytes)));
        all.truncate(most);
        all
    }

    /// Who has least, of those without live flows where there are any.
    fn least(&self) -> Option<K> {
        let least = self.counted.iter().min_by_key(|(_, busy)| (busy.live > 0, busy.flows));
        least.map(|(key, _)| key.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_many_is_never_missing() {
        let mut busiest = Busiest::new(8);
        for round in 0..1_000_u32 {
            for loud in 0..3 {
                busiest.count(&loud, |_| {});
            }
            busiest.count(&(100 + round), |_| {});
        }
        assert_eq!(busiest.counted.len(), 8, "bounded");
        let mut top: Vec<_> = busiest.top(3).into_iter().collect();
        top.sort_unstable_by_key(|(key, _)| *key);
        for (place, (key, busy)) in (0..3).zip(top) {
            assert_eq!((key, busy.flows - busy.over), (place, 1_000));
        }
    }

    #[test]
    fn who_has_live_flows_stays() {
        let mut busiest = Busiest::new(2);
        busiest.count(&1, |busy| busy.live += 1);
        busiest.count(&2, |_| {});
        busiest.count(&2, |_| {});
        busiest.count(&3, |_| {});
        busiest.change(&1, |busy| busy.live -= 1);
        let known: Vec<_> =
            busiest.top(9).into_iter().map(|(key, busy)| (key, busy.live)).collect();
        assert_eq!(known, [(3, 0), (1, 0)], "2 had to go");
    }
}
