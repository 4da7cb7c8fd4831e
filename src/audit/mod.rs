//! The flow audit log: one durable OCSF line per event, in a hash chain.
//!
//! Owns the record format and the spool. A flow reserves room for its records before anything else
//! ([`Audit::reserve`]); its Open record is on disk before a byte goes upstream
//! ([`FlowRecord::open`]); its end is recorded exactly once, also when its task panics or is dropped.
//!
//! A record is serialised on its flow's thread (`flow`, `record`), queued (`inbox`), linked and
//! written by one thread (`spool`), and read back by anybody (`read`, `chain`, `query`). What a crash
//! left is put in order at the next start (`recover`, `crash`). Another thread lists full segments in
//! the manifest, compresses them and removes old ones (`keeper`, `seal`, `manifest`).

mod ahead;
mod batch;
mod chain;
mod clock;
mod common;
mod community;
mod count;
mod crash;
mod dns;
mod errands;
mod event;
mod facts;
mod flow;
mod inbox;
mod journal;
mod keeper;
mod keys;
mod kind;
mod lag;
mod manifest;
mod packets;
pub mod query;
pub mod read;
mod record;
mod recover;
mod room;
mod seal;
mod segment;
mod sign;
mod spool;
mod storage;
mod system;
#[cfg(test)]
mod tests;
mod tls;
mod tuning;
mod uid;
pub mod verify;
pub mod view;
mod writing;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

pub use common::CommonFacts;
pub use dns::{DnsAnswers, DnsDevice, DnsNames, DnsQueries};
pub use facts::{
    AlertFacts, AlertFrom, CanaryFacts, ClosingFacts, DeviceFacts, DialFacts, DnsFacts, FlowEnd,
    HandshakeFacts, LeakFacts, LearntFacts, NoteFacts, RuleFacts, TrafficFacts, TunnelFacts,
};
pub use flow::{FlowRecord, Slot};
pub use keys::pinned_key;
pub use packets::{PacketDestination, PacketDevice, PacketFacts};
pub use sign::{KeyId, NoPublicKey, PublicKey};
pub use verify::verify;

use crate::config::Retention;
use inbox::{Entry, Part, Shared};
use journal::Journal;
use keeper::Keeper;
use keys::{KeyPlace, Keyring};
use recover::{Opens, Tail};
use spool::{Place, Writer};
use storage::{Disk, Storage};
use system::Happened;
use tuning::Tuning;
use writing::Segment;

/// How the log is set up.
#[derive(Clone, Debug)]
pub struct AuditOptions {
    /// Where segments are kept; made if missing, mode 0750.
    pub directory: PathBuf,
    /// How much is kept, and what happens when there is no room for more.
    pub retention: Retention,
    /// `site.name`: the box in records.
    pub site: String,
    /// `site.region`.
    pub region: String,
    /// How many flows may have reserved room at once.
    pub slots: usize,
    /// Where private signing keys are kept; made if missing, mode 0700.
    pub keys: PathBuf,
    /// A file with the seed of a root key, which certifies the log's first key. Without it the
    /// first key certifies itself.
    pub root_key: Option<PathBuf>,
    /// The configuration's hash, for the record of the start.
    pub policy: String,
}

/// A handle on the log; cheap to clone, used by every thread. The log is closed when the last handle,
/// slot and record are gone, or by [`Audit::close`].
#[derive(Clone, Debug)]
pub struct Audit {
    handle: Arc<Handle>,
}

/// No room for another flow's records, or the log cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AuditUnavailable(pub String);

/// What `status` says of the log.
#[derive(Clone, Debug, serde::Serialize)]
pub struct AuditStatus {
    /// Sequence number of the last durable record.
    pub seq: u64,
    /// SHA-256 of the last durable line, hex.
    pub head: String,
    /// Records that no sink has taken yet.
    pub unshipped: u64,
    /// New flows are refused because there is no room, on the disk or within the quota.
    pub full: bool,
    /// Why the log cannot be written, where it cannot.
    pub failure: Option<String>,
    /// Where it is.
    pub directory: PathBuf,
    /// What is in there, in bytes on the disk; looked at every few seconds.
    pub used_bytes: u64,
    /// `audit.quota`.
    pub quota_bytes: u64,
    /// When the oldest record was written (RFC 3339).
    pub oldest: Option<String>,
    /// Records on their way to the disk.
    pub waiting: u64,
    /// How long the oldest of them has been, in seconds; 0 when none is.
    pub lag_seconds: f64,
    /// Flows since the start that were refused because they could not be recorded.
    pub unrecorded_total: u64,
    /// Records that were taken and could not be written until the end.
    pub lost_total: u64,
}

impl Audit {
    /// Opens or continues the log of a directory and starts its writer thread.
    ///
    /// # Errors
    /// What stands in the way, in one sentence with the path and what to do.
    pub fn start(options: AuditOptions) -> Result<Self, AuditUnavailable> {
        Self::start_with(&options, Disk, Tuning::default())
    }

    fn start_with<S: Storage>(
        options: &AuditOptions,
        storage: S,
        mut tuning: Tuning,
    ) -> Result<Self, AuditUnavailable> {
        // Small enough that to remove one is a small part of what may be kept.
        tuning.segment_bytes =
            tuning.segment_bytes.min(options.retention.quota / SEGMENTS_AT_LEAST);
        let directory = options.directory.display();
        let refuse = |what: &str, error: &io::Error| {
            AuditUnavailable(format!(
                "{what} {directory}: {error}; check that the directory is on a working disk and \
                 belongs to the daemon's user"
            ))
        };
        storage::make_directory(&options.directory)
            .map_err(|e| refuse("cannot make the audit directory", &e))?;
        let lock = storage::lock(&options.directory)
            .map_err(|e| refuse("cannot lock the audit directory", &e))?;
        let Some(lock) = lock else {
            return Err(AuditUnavailable(format!(
                "the audit directory {directory} is in use by another process; stop it, or set \
                 another audit.directory"
            )));
        };
        let writer = Self::writer(options, storage, tuning, lock, &refuse)?;
        let shared = writer.shared();
        let keeper = Keeper::new(Arc::clone(&shared));
        let handle = Handle { shared, threads: Mutex::default() };
        handle
            .start("audit", move || writer.run())
            .and_then(|()| handle.start("audit-keeper", move || keeper.run()))
            .map_err(|e| refuse("cannot start the threads of the audit log in", &e))?;
        Ok(Self { handle: Arc::new(handle) })
    }

    /// Puts in order what the last run left, and makes the writer that continues it.
    fn writer<S: Storage>(
        options: &AuditOptions,
        storage: S,
        tuning: Tuning,
        lock: File,
        refuse: &dyn Fn(&str, &io::Error) -> AuditUnavailable,
    ) -> Result<Writer<S>, AuditUnavailable> {
        let found = recover::recover(&options.directory, &tuning)
            .map_err(|e| refuse("cannot read the audit log in", &e))?;
        let segment = match found.tail.clone() {
            None => None,
            Some(Tail { name, len, age }) => {
                let file = storage
                    .append_to(&name.path)
                    .map_err(|e| refuse("cannot continue the audit log in", &e))?;
                let since = Instant::now();
                let since = since.checked_sub(age).unwrap_or(since);
                Some(Segment { file, name, len, since, taken: len })
            }
        };
        let place = KeyPlace {
            keys: options.keys.clone(),
            log: options.directory.clone(),
            root: options.root_key.clone(),
        };
        let keys = Keyring::open(place, found.key.as_ref());
        let keys = keys.map_err(|error| AuditUnavailable(error.to_string()))?;
        let shared = Arc::new(Shared::new(options, found.head.clone()));
        let journal = Journal::new(Arc::clone(&shared), keys, tuning.checkpoint_every);
        let mut first = vec![Entry::system(journal.boot(found.epoch, &options.policy))];
        first.extend(journal.recovery(&found).map(Entry::system));
        let mut opens = Opens::default();
        for flow in &found.open {
            let open = opens.read(flow);
            let body = open.and_then(|open| crash::end(&shared, flow.flow, open));
            let body = body.map_err(|e| refuse("cannot read the audit log in", &e))?;
            first.push(Entry { flow: flow.flow, body, part: Part::Extra });
        }
        let chain = format!("{}/{:04}", options.site, found.epoch);
        let place = Place { chain, head: found.head, segment, lock };
        let mut writer = Writer::new(shared, storage, tuning, journal, place);
        writer.write_first(first);
        Ok(writer)
    }

    /// Reserves room for all records of one flow: its Open and its end, or its refusal.
    ///
    /// # Errors
    /// There is no room, or the log cannot be written: the flow must be refused, and counted with
    /// [`Audit::count_unrecorded`].
    pub fn reserve(&self) -> Result<Slot, AuditUnavailable> {
        Slot::take(&self.handle)
    }

    /// Counts a flow that was refused because [`Audit::reserve`] failed. As soon as the log can be
    /// written, one record says how many there were, and the times of the first and the last.
    pub fn count_unrecorded(&self) {
        self.handle.shared.count_unrecorded(clock::unix_ms());
    }

    /// Records refused packets that never were a flow.
    ///
    /// # Errors
    /// The log cannot be written now: nothing was taken, and the same may be tried again. What was
    /// taken is not waited for.
    pub fn note_packets(&self, facts: &[PacketFacts]) -> Result<(), AuditUnavailable> {
        self.note(facts.iter().map(|facts| packets::body(&self.handle.shared, facts)))
    }

    /// Records devices' DNS questions.
    ///
    /// # Errors
    /// As [`Audit::note_packets`].
    pub fn note_dns(&self, queries: &[DnsQueries]) -> Result<(), AuditUnavailable> {
        let bodies = queries.iter().map(|queries| dns::body(&self.handle.shared, queries));
        self.note(bodies)
    }

    fn note(&self, bodies: impl Iterator<Item = Vec<u8>>) -> Result<(), AuditUnavailable> {
        let shared = &self.handle.shared;
        if shared.is_refusing() {
            return Err(shared.unavailable());
        }
        for body in bodies {
            shared.push(Entry { flow: uuid::Uuid::nil(), body, part: Part::Extra });
        }
        Ok(())
    }

    /// Records that another configuration is in force: the hashes of the old one and the new one.
    pub fn note_reload(&self, old: &str, new: &str) {
        let shared = &self.handle.shared;
        let happened = Happened::Reload { old: old.to_owned(), new: new.to_owned() };
        let body = system::body(&shared.site, &shared.region, &happened);
        shared.push(Entry::system(body));
    }

    /// Records what happened to a tunnel.
    pub fn note_tunnel(&self, facts: &TunnelFacts<'_>) {
        let shared = &self.handle.shared;
        let happened = match *facts {
            TunnelFacts::Changed { interface, from, to, why, lasted } => {
                let lasted_ms = u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX);
                Happened::Tunnel { interface, from, to, why, lasted_ms }
            }
            TunnelFacts::Preferred(interface) => Happened::Preferred { interface },
        };
        let body = system::body(&shared.site, &shared.region, &happened);
        shared.push(Entry::system(body));
    }

    /// Records what the leak canary found.
    pub fn note_canary(&self, facts: &CanaryFacts) {
        let shared = &self.handle.shared;
        let CanaryFacts { tried, answered, leaks, closing } = facts;
        let happened =
            Happened::Canary { tried: *tried, answered: *answered, leaks, gate: *closing };
        let body = system::body(&shared.site, &shared.region, &happened);
        shared.push(Entry::system(body));
    }

    /// Keeps so much from now on.
    pub fn set_retention(&self, retention: Retention) {
        self.handle.shared.keeper.set_retention(retention);
    }

    /// How the log is doing.
    pub fn status(&self) -> AuditStatus {
        self.handle.shared.status()
    }

    /// Writes what waits, makes it durable and ends the writer thread. Flows whose records end later
    /// get their end at the next start.
    pub fn close(self) {
        self.handle.finish();
    }
}

/// Ends the writer thread when nobody can queue anything any more.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Handle {
    fn start(&self, name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    fn finish(&self) {
        self.shared.keeper.close();
        self.shared.begin_close();
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if thread.join().is_err() {
                tracing::error!(thread = name, "A thread of the audit log ended with a panic.");
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.finish();
    }
}

/// A segment is at most this part of the quota.
const SEGMENTS_AT_LEAST: u64 = 16;
