//! Values that many flows of a thread have alike, kept once.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::hash::Hash;
use std::rc::Rc;

/// A thread's shared values of one type.
///
/// Values that nobody has any more are forgotten each time as many new ones have come as were in use:
/// a flood of unlike values costs no more than keeping them apart.
#[derive(Debug)]
pub struct Interner<T> {
    known: RefCell<HashSet<Rc<T>>>,
    /// How many values there may be before unused ones are looked for.
    most: Cell<usize>,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { known: RefCell::default(), most: Cell::new(LEAST) }
    }
}

impl<T: Eq + Hash> Interner<T> {
    /// The one copy of this value.
    pub fn intern(&self, value: Rc<T>) -> Rc<T> {
        let mut known = self.known.borrow_mut();
        if let Some(known) = known.get(&*value) {
            return Rc::clone(known);
        }
        if known.len() >= self.most.get() {
            known.retain(|value| Rc::strong_count(value) > 1);
            self.most.set(known.len().saturating_mul(2).max(LEAST));
            known.shrink_to(self.most.get());
        }
        known.insert(Rc::clone(&value));
        value
    }
}

/// Below this many values there is nothing to be won by forgetting.
const LEAST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_unused_ones_go() {
        let interner = Interner::default();
        let kept = interner.intern(Rc::new(1_000_000));
        for value in 0..10_000 {
            interner.intern(Rc::new(value));
        }
        assert!(interner.known.borrow().len() <= 4 * LEAST);
        assert!(Rc::ptr_eq(&kept, &interner.intern(Rc::new(1_000_000))));
    }

    #[test]
    fn used_values_stay_shared_however_many_they_are() {
        let interner = Interner::default();
        let kept: Vec<_> = (0..1_000).map(|value| interner.intern(Rc::new(value))).collect();
        for (value, one) in kept.iter().enumerate() {
            assert!(Rc::ptr_eq(one, &interner.intern(Rc::new(value))));
        }
    }
}
