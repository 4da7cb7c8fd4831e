//! A bounded memory that forgets what was not asked for while very much else was.

use std::collections::HashMap;
use std::hash::Hash;

/// Two halves: what is asked for moves to the young one, and when that is full it becomes the old
/// one, whose rest is forgotten. A flood of made-up keys costs no search.
#[derive(Debug)]
pub(super) struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    /// Entries in one half.
    most: usize,
}

impl<K: Clone + Eq + Hash, V> Generations<K, V> {
    pub(super) fn new(most: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), most }
    }

    /// Uses what is remembered for a key, or else what is made for it now.
    pub(super) fn with<R>(
        &mut self,
        key: &K,
        make: impl FnOnce() -> V,
        using: impl FnOnce(&mut V) -> R,
    ) -> R {
        if let Some(known) = self.young.get_mut(key) {
            return using(known);
        }
        let mut value = self.old.remove(key).unwrap_or_else(make);
        let used = using(&mut value);
        if self.young.len() >= self.most {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key.clone(), value);
        used
    }

    /// What is remembered, in no order.
    #[cfg(test)]
    pub(super) fn all(&self) -> impl Iterator<Item = (&K, &V)> {
        self.young.iter().chain(&self.old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_outlives_a_flood() {
        let mut memory = Generations::new(100);
        let mut made = 0;
        for key in 1..10_000 {
            memory.with(&key, || (), |()| ());
            memory.with(&0, || made += 1, |()| ());
            assert!(memory.all().count() <= 200);
        }
        assert_eq!(made, 1);
        assert!(memory.all().any(|(key, ())| *key == 9_999));
        assert!(!memory.all().any(|(key, ())| *key == 1));
    }
}
