//! The fingerprints of the clients that a data thread has heard.
//!
//! A plant has a handful of TLS stacks and very many flows: two digests for each flow would cost more
//! than reading its hello. What is looked up is all that the fingerprint is computed over, compared
//! in full, so a cached answer is the computed one.

use super::generations::Generations;
use crate::hello::{ClientTraits, Ja4};

/// JA4 by what it is computed over; bounded.
#[derive(Debug)]
pub struct Ja4Cache(Generations<ClientTraits, Ja4>);

impl Default for Ja4Cache {
    fn default() -> Self {
        Self(Generations::new(GENERATION))
    }
}

impl Ja4Cache {
    /// The fingerprint of a client. Allocates nothing for one that was heard before.
    pub fn ja4(&mut self, traits: &ClientTraits) -> Ja4 {
        if traits.count() > LARGEST {
            return traits.ja4();
        }
        self.0.with(traits, || traits.ja4(), |ja4| *ja4)
    }
}

/// Clients in one half.
const GENERATION: usize = 128;
/// No real client has so many values; others are not kept. With both halves full of such, a thread
/// holds less than 200 KiB.
const LARGEST: usize = 192;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cached_fingerprint_is_the_computed_one() {
        let mut cache = Ja4Cache::default();
        for round in 0..2 {
            for number in 0..600 {
                let none = std::iter::empty();
                let client = ClientTraits::new(0x0303, None, 0..number, &[], none);
                assert_eq!(cache.ja4(&client), client.ja4(), "{round} {number}");
                assert_eq!(cache.ja4(&client), client.ja4(), "{round} {number}");
            }
        }
        let held: Vec<_> = cache.0.all().collect();
        assert!(held.len() <= 2 * GENERATION, "{}", held.len());
        assert!(
            held.iter().all(|(client, ja4)| client.count() <= LARGEST && client.ja4() == **ja4)
        );
    }
}
