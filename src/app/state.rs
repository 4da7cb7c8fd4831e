//! What the control loop changes and `status` reads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

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
    /// What the last look at the box has found.
    findings: Mutex<Vec<Finding>>,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            loaded: Mutex::new(SystemTime::now()),
            restored: AtomicU64::new(0),
            intact: AtomicBool::new(true),
            routing_intact: AtomicBool::new(true),
            refused_reload: Mutex::new(None),
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
}
