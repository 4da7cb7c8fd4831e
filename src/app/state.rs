//! What the control loop changes and `status` reads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use crate::audit::PacketFacts;
use crate::policy::Asking;
use crate::proxy::{RefusalBook, SeenRefusal};

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
    /// Who sent the packets that the rules refused lately.
    refused_packets: Mutex<RefusalBook>,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            loaded: Mutex::new(SystemTime::now()),
            restored: AtomicU64::new(0),
            intact: AtomicBool::new(true),
            routing_intact: AtomicBool::new(true),
            refused_reload: Mutex::new(None),
            refused_packets: Mutex::default(),
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

    pub(super) fn note_reload(&self, refused: Option<String>) {
        if refused.is_none() {
            *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) = SystemTime::now();
        }
        *self.refused_reload.lock().unwrap_or_else(PoisonError::into_inner) = refused;
    }
}
