//! The flow audit log: one durable OCSF line per event, in a hash chain.
//!
//! Owns the record format and the spool. A flow reserves room for its records before anything else
//! ([`Audit::reserve`]); its Open record is on disk before a byte goes upstream
//! ([`FlowRecord::open`]); its end is recorded exactly once, also when its task panics or is dropped.
//!
//! A record is serialised on its flow's thread (`flow`, `record`), queued (`inbox`), linked and
//! written by one thread (`spool`), and read back by anybody (`read`, `chain`). What a crash left is
//! put in order at the next start (`recover`, `crash`).

mod chain;
mod clock;
mod community;
mod count;
mod crash;
mod event;
mod facts;
mod flow;
mod inbox;
mod journal;
mod keys;
mod kind;
mod packets;
pub mod read;
mod record;
mod recover;
mod sign;
mod spool;
mod storage;
mod system;
#[cfg(test)]
mod tests;
mod tls;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

pub use chain::{ChainError, ChainReport, verify_chain};
pub use facts::{
    AlertFacts, AlertFrom, DeviceFacts, DialFacts, DnsFacts, FlowEnd, HandshakeFacts, LearntFacts,
    NoteFacts, RuleFacts, TrafficFacts,
};
pub use flow::{FlowRecord, Slot};
pub use keys::pinned_key;
pub use packets::{PacketDestination, PacketDevice, PacketFacts};
pub use sign::{KeyId, NoPublicKey, PublicKey};

use crate::config::OnFull;
use inbox::{Entry, Part, Shared};
use journal::Journal;
use keys::{KeyPlace, Keyring};
use spool::{Segment, Tuning, Writer};
use storage::{Disk, Storage};
use system::Happened;

/// How the log is set up.
#[derive(Clone, Debug)]
pub struct AuditOptions {
    /// Where segments are kept; made if missing, mode 0750.
    pub directory: PathBuf,
    /// What happens when the disk is full.
    pub on_full: OnFull,
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
    /// New flows are refused because there is no room.
    pub full: bool,
    /// Why the log cannot be written, where it cannot.
    pub failure: Option<String>,
    /// Where it is.
    pub directory: PathBuf,
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
        tuning: Tuning,
    ) -> Result<Self, AuditUnavailable> {
        let directory = options.directory.display();
        let refuse = |what: &str, error: &io::Error| {
            AuditUnavailable(format!(
                "{what} {directory}: {error}; check that the directory is on a working disk and \
                 belongs to the daemon's user"
            ))
        };
        if options.on_full == OnFull::Overwrite {
            tracing::warn!(
                "audit.on-full = \"overwrite\" is not available yet: when the disk is \
                full, new flows are refused."
            );
        }
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
        let thread = std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run())
            .map_err(|e| refuse("cannot start the writer of the audit log in", &e))?;
        let thread = Mutex::new(Some(thread));
        Ok(Self { handle: Arc::new(Handle { shared, thread }) })
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
            Some((path, len, age)) => {
                let file = storage
                    .append_to(&path)
                    .map_err(|e| refuse("cannot continue the audit log in", &e))?;
                let since = Instant::now();
                let since = since.checked_sub(age).unwrap_or(since);
                Some(Segment { file, path, len, since })
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
        for flow in &found.open {
            let body = crash::end(&shared, flow)
                .map_err(|e| refuse("cannot read the audit log in", &e))?;
            first.push(Entry { flow: flow.flow, body, part: Part::Extra });
        }
        let chain = format!("{}/{:04}", options.site, found.epoch);
        let mut writer =
            Writer::new(shared, storage, tuning, chain, journal, found.head, segment, lock);
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
        let shared = &self.handle.shared;
        if shared.is_failing() {
            return Err(shared.unavailable());
        }
        for facts in facts {
            let body = packets::body(shared, facts);
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
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Handle {
    fn finish(&self) {
        self.shared.begin_close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("The writer of the audit log ended with a panic.");
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.finish();
    }
}
