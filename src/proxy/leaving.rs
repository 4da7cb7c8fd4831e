//! Flows that leave a tunnel: one after the other, so that their devices do not come back all at once.

use std::rc::Weak;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::tracker::{By, Cut, Look, Tracker};
use crate::config::InterfaceName;

/// Which flows are to leave a tunnel.
#[derive(Clone, Debug)]
pub enum Leaving {
    /// All on the interface with this index, which was deleted: nothing can move by it.
    Deleted(u32),
    /// Those that nothing comes to by this tunnel, while others can carry them.
    Silent {
        /// The tunnel.
        interface: InterfaceName,
        /// For how long it has been silent, in seconds.
        seconds: u16,
        /// It carries again.
        stop: CancellationToken,
    },
}

impl Leaving {
    fn concerns(&self, by: &By) -> bool {
        match self {
            Self::Deleted(link) => by.link == *link,
            Self::Silent { interface, .. } => by.interface == *interface,
        }
    }
}

impl Tracker {
    /// Has flows leave a tunnel, one after the other, so that their devices do not come back all at
    /// once: those for which nothing comes through it any more.
    pub(super) fn leave(&self, leaving: Leaving) {
        let affected = self.connected_by(|by| leaving.concerns(by));
        tokio::task::spawn_local(async move {
            let at_once = affected.len().div_ceil(LEAVE_STEPS).max(LEAVE_AT_ONCE);
            for some in affected.chunks(at_once) {
                for flow in some.iter().filter_map(Weak::upgrade) {
                    match &leaving {
                        Leaving::Deleted(_) => flow.cut(Cut::TunnelLost),
                        Leaving::Silent { stop, .. } if stop.is_cancelled() => return,
                        Leaving::Silent { seconds, .. } => flow.look(Look::Stranded(*seconds)),
                    }
                }
                tokio::time::sleep(LEAVE_STEP).await;
            }
        });
    }
}

/// How many steps the flows of a tunnel leave it in, at most.
const LEAVE_STEPS: usize = 100;
const LEAVE_STEP: Duration = Duration::from_millis(100);
/// How many go in one step, at least.
const LEAVE_AT_ONCE: usize = 4;
