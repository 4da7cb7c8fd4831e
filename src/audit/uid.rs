//! The numbers of flows and records: UUIDv7 (RFC 9562 section 5.7), the time in milliseconds and 74
//! random bits.
//!
//! A flow takes three. Each thread asks the kernel for the randomness of many at once and shares
//! nothing with the others; what was used is never used again.

use std::cell::RefCell;

use uuid::{Builder, Uuid};

use super::clock;

/// Random bytes that no number has had yet.
struct Pool {
    bytes: [u8; POOL],
    used: usize,
}

thread_local! {
    static RANDOM: RefCell<Pool> = const { RefCell::new(Pool { bytes: [0; POOL], used: POOL }) };
}

/// A number that nothing else has.
pub(super) fn fresh() -> Uuid {
    match RANDOM.with_borrow_mut(Pool::take) {
        Some(random) => Builder::from_unix_timestamp_millis(clock::unix_ms(), &random).into_uuid(),
        // The kernel has no randomness now; this asks it again.
        None => Uuid::now_v7(),
    }
}

impl Pool {
    fn take(&mut self) -> Option<[u8; EACH]> {
        if self.used >= POOL {
            getrandom::fill(&mut self.bytes).ok()?;
            self.used = 0;
        }
        let random = self.bytes.get(self.used..)?.first_chunk().copied()?;
        self.used += EACH;
        Some(random)
    }
}

/// Random bytes of one number.
const EACH: usize = 10;
const POOL: usize = 64 * EACH;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_number_comes_twice_from_any_thread() {
        let numbers = || (0..5_000).map(|_| fresh()).collect::<Vec<_>>();
        let before = clock::unix_ms();
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(numbers)).collect();
        let all: Vec<_> = threads.into_iter().flat_map(|t| t.join().expect("no panic")).collect();
        let after = clock::unix_ms();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 20_000);
        for number in all {
            assert_eq!(number.get_version_num(), 7);
            let [high @ .., _, _, _, _, _, _, _, _, _, _] = number.into_bytes();
            let ms = high.iter().fold(0, |ms, byte| ms << 8 | u64::from(*byte));
            assert!((before..=after).contains(&ms), "{number}");
        }
    }
}
