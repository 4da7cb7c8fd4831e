//! What the writer itself has to say, and when: checkpoints, the day's key, steps of the clock.
//!
//! A checkpoint is due after a minute, *also when nothing happened*, so that a log that was stopped
//! shows; after a thousand lines; and as the last line of every segment. It changes nothing here until
//! it is durable.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::chain::{Head, Hex, Prefixed};
use super::clock;
use super::inbox::Shared;
use super::keys::{Keyring, NextKey};
use super::record::Text;
use super::recover::Recovered;
use super::sign::SigningKey;
use super::storage;
use super::system::{self, Clock, Happened};

/// The writer's own records.
#[derive(Debug)]
pub(super) struct Journal {
    shared: Arc<Shared>,
    keys: Keyring,
    boot_id: String,
    interval: Duration,
    /// Lines since the last durable checkpoint.
    since: u64,
    /// When the last one became durable.
    last: Instant,
    /// Wall time less monotonic time, in ms: a change is a step of the wall clock.
    offset_ms: i64,
    /// No new key is tried before.
    next_key: Option<Instant>,
    copied: Option<Instant>,
    outage: Option<Outage>,
}

/// A time in which nothing could be written, which has not ended yet, or was not recorded.
#[derive(Clone, Copy, Debug)]
struct Outage {
    since_ns: u64,
    since_ms: u64,
    reason: &'static str,
}

impl Journal {
    pub(super) fn new(shared: Arc<Shared>, keys: Keyring, interval: Duration) -> Self {
        shared.keeper.set_signer(Arc::clone(keys.key()));
        let boot_id = std::fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned();
        Self {
            shared,
            keys,
            boot_id,
            interval,
            since: 0,
            last: Instant::now(),
            offset_ms: offset_ms(clock::unix_ms()),
            next_key: None,
            copied: None,
            outage: None,
        }
    }

    /// The key that signs the next line.
    pub(super) fn key(&self) -> &Arc<SigningKey> {
        self.keys.key()
    }

    /// Lines since the last durable checkpoint.
    pub(super) fn since(&self) -> u64 {
        self.since
    }

    /// When the next checkpoint is due, if nothing happens before.
    pub(super) fn due_at(&self) -> Instant {
        self.last.checked_add(self.interval).unwrap_or(self.last)
    }

    pub(super) fn boot(&self, epoch: u32, policy: &str) -> Vec<u8> {
        self.body(&Happened::Boot {
            epoch,
            key: self.key().id().as_str(),
            public: self.key().public().base64(),
            key_epoch: self.keys.epoch(),
            boot_id: &self.boot_id,
            policy,
        })
    }

    /// What a start had to put in order, where it had to.
    pub(super) fn recovery(&self, found: &Recovered) -> Option<Vec<u8>> {
        if found.damage.is_none() && found.open.is_empty() {
            return None;
        }
        let name = |path: &Path| Some(path.file_name()?.to_string_lossy().into_owned());
        let damage = found.damage.as_ref();
        Some(self.body(&Happened::Recovery {
            file: damage.and_then(|damage| name(&damage.file)),
            bytes: damage.map_or(0, |damage| damage.bytes),
            evidence: damage.and_then(|damage| name(damage.evidence.as_ref()?)),
            flows: found.open.len(),
            damaged: damage.is_some_and(|damage| damage.damaged),
        }))
    }

    /// The last record but for its checkpoint, of which a copy is wanted in any case.
    pub(super) fn stop(&mut self) -> Vec<u8> {
        self.copied = None;
        self.body(&Happened::Stop { boot_id: &self.boot_id })
    }

    /// The checkpoint of everything up to `head`.
    pub(super) fn checkpoint(&self, head: &Head, records: u64) -> Vec<u8> {
        self.body(&Happened::Checkpoint {
            seq: head.seq,
            head: Text(Prefixed(Hex(&head.hash))),
            records,
            interval_s: self.interval.as_secs(),
            boot_id: &self.boot_id,
            key_epoch: self.keys.epoch(),
            clock: Clock { synchronised: self.shared.look_at_clock().then_some(true) },
        })
    }

    /// The record of a step of the wall clock, where there was one.
    pub(super) fn clock_step(&self, now_ms: u64) -> Option<Vec<u8>> {
        let step_ms = offset_ms(now_ms).saturating_sub(self.offset_ms);
        if step_ms.unsigned_abs() <= STEP_MS {
            return None;
        }
        let before = now_ms.saturating_add_signed(step_ms.saturating_neg());
        Some(self.body(&Happened::ClockStep { step_ms, before, after: now_ms }))
    }

    /// Nothing can be written from now on.
    pub(super) fn failed(&mut self, error: &io::Error) {
        self.outage.get_or_insert_with(|| Outage {
            since_ns: clock::mono_ns(),
            since_ms: clock::unix_ms(),
            reason: if storage::is_full(error) { "disk_full" } else { "write_failed" },
        });
    }

    /// The record of the time in which nothing could be written, where it was not recorded yet. Only
    /// this explains to an auditor why checkpoints are missing.
    pub(super) fn outage(&self) -> Option<Vec<u8>> {
        let Outage { since_ns, since_ms, reason } = self.outage?;
        Some(self.body(&Happened::Outage { since_ns, since_ms, reason, boot_id: &self.boot_id }))
    }

    /// These lines are durable; `checkpoint` is the last checkpoint among them.
    pub(super) fn wrote(&mut self, since: u64, checkpoint: Option<&[u8]>, now_ms: u64) {
        self.since = since;
        self.outage = None;
        self.offset_ms = offset_ms(now_ms);
        let Some(line) = checkpoint else { return };
        self.last = Instant::now();
        if self.copied.is_none_or(|copied| copied.elapsed() >= COPY_AT_MOST) {
            self.copied = Some(self.last);
            // For anchors: a copy that whoever reads the log may take away.
            let path = self.shared.directory.join(CHECKPOINT);
            if let Err(error) = storage::replace(&path, &[line, b"\n"].concat()) {
                tracing::warn!(%error, "the copy of the newest checkpoint could not be written");
            }
        }
    }

    /// A new key, when another day has begun, with the record that introduces it.
    pub(super) fn new_key(&mut self, head: &Head) -> Option<(NextKey, Vec<u8>)> {
        let now = Instant::now();
        let wait = self.next_key.is_some_and(|at| now < at);
        if wait || !self.keys.is_old(clock::unix_ms()) {
            return None;
        }
        self.next_key = Some(now + KEY_RETRY);
        match self.keys.prepare(clock::unix_ms()) {
            Ok(next) => {
                let record = self.body(&Happened::key(&next, self.key().id().as_str(), head));
                Some((next, record))
            }
            Err(error) => {
                tracing::error!(%error, "the day's new signing key could not be made; the old one \
                    stays in use");
                None
            }
        }
    }

    /// The record that introduces a key is durable at `seq`.
    pub(super) fn adopt(&mut self, next: NextKey, seq: u64) {
        let adopted = self.keys.adopt(next, seq);
        self.shared.keeper.set_signer(Arc::clone(self.key()));
        match adopted {
            Ok(()) => tracing::info!(key = %self.key().id(), "the audit log has a new signing key"),
            Err(error) => {
                tracing::error!(%error, "the new signing key is in use, but could not be \
                kept; the next start tries again")
            }
        }
    }

    fn body(&self, happened: &Happened<'_>) -> Vec<u8> {
        system::body(&self.shared.site, &self.shared.region, happened)
    }
}

fn offset_ms(wall_ms: u64) -> i64 {
    let mono_ms = i64::try_from(clock::mono_ns() / 1_000_000).unwrap_or(i64::MAX);
    i64::try_from(wall_ms).unwrap_or(i64::MAX).saturating_sub(mono_ms)
}

/// A copy of the newest checkpoint, in the log's directory.
pub(super) const CHECKPOINT: &str = "checkpoint";
/// The id of this boot of the machine (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// A step of the wall clock that is recorded.
const STEP_MS: u64 = 1000;
const COPY_AT_MOST: Duration = Duration::from_secs(1);
const KEY_RETRY: Duration = Duration::from_secs(60);
