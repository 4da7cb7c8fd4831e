//! What the writer, the keeper and whoever asks for the log's state tell each other.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::sign::SigningKey;
use crate::config::Retention;

/// What is shared.
#[derive(Debug)]
pub(super) struct Errands {
    state: Mutex<State>,
    wake: Condvar,
    /// Held while a line of the manifest is written, so that none is signed with a key that is no
    /// longer in force.
    signer: Mutex<Option<Arc<SigningKey>>>,
}

#[derive(Debug)]
struct State {
    retention: Retention,
    /// First sequence number of the segment that is written; 0 while nothing was written.
    current: u64,
    /// The disk has no room left for the writer.
    room_wanted: bool,
    awake: bool,
    closing: bool,
    usage: Usage,
}

/// What the log's directory holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Bytes on the disk.
    pub(super) bytes: u64,
    /// When the oldest record was written, Unix time in ms.
    pub(super) oldest: Option<u64>,
}

impl Errands {
    pub(super) fn new(retention: Retention) -> Self {
        let state = State {
            retention,
            current: 0,
            room_wanted: false,
            awake: false,
            closing: false,
            usage: Usage::default(),
        };
        Self { state: Mutex::new(state), wake: Condvar::new(), signer: Mutex::default() }
    }

    pub(super) fn retention(&self) -> Retention {
        self.lock().retention
    }

    pub(super) fn set_retention(&self, retention: Retention) {
        self.tell(|state| state.retention = retention);
    }

    pub(super) fn usage(&self) -> Usage {
        self.lock().usage
    }

    pub(super) fn set_usage(&self, usage: Usage) {
        self.lock().usage = usage;
    }

    /// Segments before this one are no longer written.
    pub(super) fn current(&self) -> u64 {
        self.lock().current
    }

    /// Something is durable in the segment that begins with this sequence number.
    pub(super) fn set_current(&self, first: u64) {
        if self.lock().current != first {
            self.tell(|state| state.current = first);
        }
    }

    /// The disk is full: something has to go.
    pub(super) fn want_room(&self) {
        self.tell(|state| state.room_wanted = true);
    }

    /// Whether something has to go; asked once for each time it was wanted.
    pub(super) fn take_room_wanted(&self) -> bool {
        std::mem::take(&mut self.lock().room_wanted)
    }

    /// The key that signs from now on.
    pub(super) fn set_signer(&self, key: Arc<SigningKey>) {
        *self.signer.lock().unwrap_or_else(PoisonError::into_inner) = Some(key);
    }

    /// Does something with the key in force, which stays in force meanwhile.
    pub(super) fn with_signer<T>(&self, sign: impl FnOnce(&SigningKey) -> T) -> Option<T> {
        let signer = self.signer.lock().unwrap_or_else(PoisonError::into_inner);
        signer.as_deref().map(sign)
    }

    /// The log is being closed.
    pub(super) fn close(&self) {
        self.tell(|state| state.closing = true);
    }

    pub(super) fn is_closing(&self) -> bool {
        self.lock().closing
    }

    /// Waits until there is something to do, or `at_most`; whether to go on.
    pub(super) fn wait(&self, at_most: Duration) -> bool {
        let until = Instant::now() + at_most;
        let mut state = self.lock();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if state.closing {
                return false;
            }
            if state.awake || left.is_zero() {
                state.awake = false;
                return true;
            }
            let waited = self.wake.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn tell(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        state.awake = true;
        drop(state);
        self.wake.notify_one();
    }

    /// A panic of another thread leaves plain data behind, which stays usable.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
