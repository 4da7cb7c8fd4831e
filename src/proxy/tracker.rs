//! The live flows of one data thread, and the way to reach them.
//!
//! A flow is registered before it is judged, so that a change of policy in between cannot miss it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

use time::OffsetDateTime;
use tokio::sync::Notify;

use super::Rules;
use crate::config::InterfaceName;
use crate::policy::{Asking, Grant};

/// Why a flow is cut from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Its permission is withdrawn.
    Withdrawn,
    /// The box shuts down.
    Drained,
}

/// The live flows of a thread.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    flows: RefCell<HashMap<u64, Rc<Tracked>>>,
    next: Cell<u64>,
    empty: Notify,
}

/// What the tracker knows of a flow.
#[derive(Debug)]
pub(super) struct Tracked {
    cut: Cell<Option<Cut>>,
    wake: Notify,
    grant: RefCell<Option<(Asking, Grant)>>,
    /// The ENI's address and the tunnel, once connected.
    by: RefCell<Option<(IpAddr, InterfaceName)>>,
}

/// A flow's registration; leaving it behind ends it.
#[derive(Debug)]
pub(super) struct Registered {
    tracker: Rc<Tracker>,
    id: u64,
    tracked: Rc<Tracked>,
}

impl Tracker {
    pub(super) fn register(self: &Rc<Self>) -> Registered {
        let id = self.next.get();
        self.next.set(id.wrapping_add(1));
        let tracked = Rc::new(Tracked {
            cut: Cell::new(None),
            wake: Notify::new(),
            grant: RefCell::new(None),
            by: RefCell::new(None),
        });
        self.flows.borrow_mut().insert(id, Rc::clone(&tracked));
        Registered { tracker: Rc::clone(self), id, tracked }
    }

    pub(super) fn len(&self) -> usize {
        self.flows.borrow().len()
    }

    /// Cuts every flow.
    pub(super) fn cut_all(&self, cut: Cut) {
        self.flows.borrow().values().for_each(|flow| flow.cut(cut));
    }

    /// Cuts the flows that may not live on under these rules at this moment.
    pub(super) fn cut_withdrawn(&self, rules: &Rules, now: OffsetDateTime) -> usize {
        let mut count = 0;
        for flow in self.flows.borrow().values() {
            let by = flow.by.borrow();
            let withdrawn = flow
                .grant
                .borrow()
                .as_ref()
                .is_some_and(|(asking, grant)| !rules.hold(*asking, grant, by.as_ref(), now));
            if withdrawn {
                flow.cut(Cut::Withdrawn);
                count += 1;
            }
        }
        count
    }

    /// Resolves when no flow lives.
    pub(super) async fn emptied(&self) {
        loop {
            let empty = self.empty.notified();
            if self.len() == 0 {
                return;
            }
            empty.await;
        }
    }
}

impl Registered {
    /// Notes what the flow lives by.
    pub(super) fn granted(&self, asking: Asking, grant: &Grant) {
        *self.tracked.grant.borrow_mut() = Some((asking, grant.clone()));
    }

    /// Notes where the flow was connected to.
    pub(super) fn connected(&self, address: IpAddr, interface: &InterfaceName) {
        *self.tracked.by.borrow_mut() = Some((address, interface.clone()));
    }

    /// Whether the flow may live on under these rules.
    pub(super) fn held_by(&self, rules: &Rules, now: OffsetDateTime) -> bool {
        let (grant, by) = (self.tracked.grant.borrow(), self.tracked.by.borrow());
        let held = |(asking, grant): &(Asking, Grant)| rules.hold(*asking, grant, by.as_ref(), now);
        grant.as_ref().is_some_and(held)
    }

    /// Resolves when the flow is to be cut.
    pub(super) async fn cut(&self) -> Cut {
        loop {
            let wake = self.tracked.wake.notified();
            if let Some(cut) = self.tracked.cut.get() {
                return cut;
            }
            wake.await;
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut flows = self.tracker.flows.borrow_mut();
        flows.remove(&self.id);
        if flows.is_empty() {
            self.tracker.empty.notify_waiters();
        }
    }
}

impl Tracked {
    fn cut(&self, cut: Cut) {
        self.cut.set(Some(cut));
        self.wake.notify_waiters();
    }
}
