//! What the kernel's rules have counted. To read it starts `nft`, so whoever looks often is given what was
//! read a moment ago.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::intercept::{self, nft};

/// Packets by counter.
type Counts = BTreeMap<String, u64>;

/// What was read last.
#[derive(Clone, Debug, Default)]
pub(super) struct Packets(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    counts: Option<Counts>,
    /// When the last reading began.
    asked: Option<Instant>,
}

impl Packets {
    /// As it is now.
    pub(super) async fn now(&self) -> Counts {
        let counts = intercept::blocking(nft::counters).await.unwrap_or_default();
        self.known().counts = Some(counts.clone());
        counts
    }

    /// As it was a few seconds ago. Only the first who asks waits.
    pub(super) async fn lately(&self) -> Counts {
        let known = {
            let mut known = self.known();
            let due = known.asked.is_none_or(|asked| asked.elapsed() >= LATELY);
            if due {
                known.asked = Some(Instant::now());
                let packets = self.clone();
                if known.counts.is_some() {
                    tokio::spawn(async move { packets.now().await });
                }
            }
            known.counts.clone()
        };
        match known {
            Some(counts) => counts,
            None => self.now().await,
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const LATELY: Duration = Duration::from_secs(5);
