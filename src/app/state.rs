//! What the control loop changes and `status` reads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use crate::audit::PacketFacts;
use crate::canary::{CanaryResult, Leak};
use crate::intercept::Passage;
use crate::policy::Asking;
use crate::proxy::{RefusalBook, SeenRefusal};

use crate::doctor::Finding;

/// What the control loop changes and `status` reads.
#[derive(Debug)]
pub struct State {
    /// When the rules in force were loaded.
    loaded: Mutex<SystemTime>,
    /// How often somebody's damage to the table or the routing was repaired.
    restored: AtomicU64,
    /// The kernel's table is as it should be, as far as is known.
    intact: AtomicBool,
    /// The same of its routing rules and routes.
    routing_intact: AtomicBool,
    /// Why the last reload was refused, while it is the last.
    refused_reload: Mutex<Option<String>>,
    canary: Mutex<Watched>,
    /// What the last look at the box has found.
    findings: Mutex<Vec<Finding>>,
    /// Who sent the packets that the rules refused lately.
    refused_packets: Mutex<RefusalBook>,
}

/// What is known of the leak canary.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Its last result.
    pub last: Option<CanaryResult>,
    /// When it came; without one, since when one is waited for.
    pub since: Instant,
    /// What the gate was closed for, where it is.
    pub closed_by: Option<Vec<Leak>>,
}

/// Whether a result says what the last one said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    Same,
    Different,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            loaded: Mutex::new(SystemTime::now()),
            restored: AtomicU64::new(0),
            intact: AtomicBool::new(true),
            routing_intact: AtomicBool::new(true),
            refused_reload: Mutex::new(None),
            canary: Mutex::new(Watched { last: None, since: Instant::now(), closed_by: None }),
            refused_packets: Mutex::default(),
            findings: Mutex::default(),
        }
    }

    /// When the rules in force were loaded.
    pub fn loaded(&self) -> SystemTime {
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often rules or routing were repaired.
    pub fn restored(&self) -> u64 {
        self.restored.load(Ordering::Relaxed)
    }

    /// Whether the kernel's table and routing are as they should be.
    pub fn is_intact(&self) -> bool {
        self.intact.load(Ordering::Relaxed) && self.routing_intact.load(Ordering::Relaxed)
    }

    pub(super) fn set_intact(&self, intact: bool) {
        self.intact.store(intact, Ordering::Relaxed);
    }

    pub(super) fn set_routing_intact(&self, intact: bool) {
        self.routing_intact.store(intact, Ordering::Relaxed);
    }

    pub(super) fn count_restored(&self) {
        self.restored.fetch_add(1, Ordering::Relaxed);
    }

    /// Why the last reload was refused.
    pub fn refused_reload(&self) -> Option<String> {
        self.refused_reload.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Who sent the packets that the rules refused lately.
    pub fn refused_packets(&self) -> RefusalBook {
        self.refused_packets.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn note_packets(&self, packets: &[PacketFacts]) {
        let mut book = self.refused_packets.lock().unwrap_or_else(PoisonError::into_inner);
        for of in packets {
            // Those of several devices together are in the log and among the counters.
            let Some(device) = &of.device else { continue };
            let asking = Asking { address: device.address, mac: Some(device.mac) };
            let seen = SeenRefusal::packets(asking, of.reason, &of.to);
            book.note(&seen, of.packets, of.until);
        }
    }

    /// What the last look at the box has found.
    pub fn findings(&self) -> Vec<Finding> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_findings(&self, findings: Vec<Finding>) {
        *self.findings.lock().unwrap_or_else(PoisonError::into_inner) = findings;
    }

    pub(super) fn note_reload(&self, refused: Option<String>) {
        if refused.is_none() {
            *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) = SystemTime::now();
        }
        *self.refused_reload.lock().unwrap_or_else(PoisonError::into_inner) = refused;
    }

    /// What is known of the leak canary.
    pub fn canary(&self) -> Watched {
        self.watched().clone()
    }

    /// Whether the gate lets anything of devices' in.
    pub fn passage(&self) -> Passage {
        if self.watched().closed_by.is_some() { Passage::Closed } else { Passage::Open }
    }

    pub(super) fn await_canary(&self) {
        self.watched().since = Instant::now();
    }

    pub(super) fn note_canary(&self, result: CanaryResult) -> News {
        let mut watched = self.watched();
        watched.since = Instant::now();
        let before = watched.last.replace(result);
        let leaks = |result: &Option<CanaryResult>| result.as_ref().map(|last| last.leaks.clone());
        if leaks(&before) == leaks(&watched.last) { News::Same } else { News::Different }
    }

    pub(super) fn close(&self, leaks: &[Leak]) {
        self.watched().closed_by.get_or_insert_with(|| leaks.to_vec());
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.canary.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
