//! The live flows of one data thread, and the way to reach them.
//!
//! A flow is registered before it is judged, so that a change of policy in between cannot miss it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use time::OffsetDateTime;
use tokio::sync::Notify;

use super::Rules;
use crate::config::InterfaceName;
use crate::intern::Interner;
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
    flows: RefCell<Places>,
    permits: Interner<Permit>,
    empty: Notify,
}

/// Flows by their place; the place of one that has ended is taken by the next.
#[derive(Debug, Default)]
struct Places {
    flows: Vec<Option<Rc<Tracked>>>,
    free: Vec<usize>,
}

/// What the tracker knows of a flow; as small as can be, because every idle flow has one.
#[derive(Debug)]
pub(super) struct Tracked {
    cut: Cell<Option<Cut>>,
    waker: RefCell<Option<Waker>>,
    asking: Cell<Option<Asking>>,
    permit: RefCell<Option<Rc<Permit>>>,
}

/// What a flow lives by; flows of one name share it.
#[derive(Clone, Debug)]
struct Permit {
    grant: Grant,
    /// The ENI's address and the tunnel, once connected.
    by: Option<(IpAddr, InterfaceName)>,
}

/// A flow's registration; leaving it behind ends it.
#[derive(Debug)]
pub(super) struct Registered {
    tracker: Rc<Tracker>,
    place: usize,
    tracked: Rc<Tracked>,
}

impl Tracker {
    pub(super) fn register(self: &Rc<Self>) -> Registered {
        let tracked = Rc::new(Tracked {
            cut: Cell::new(None),
            waker: RefCell::new(None),
            asking: Cell::new(None),
            permit: RefCell::new(None),
        });
        let place = self.flows.borrow_mut().take(Rc::clone(&tracked));
        Registered { tracker: Rc::clone(self), place, tracked }
    }

    /// Cuts every flow.
    pub(super) fn cut_all(&self, cut: Cut) {
        self.flows.borrow().all().for_each(|flow| flow.cut(cut));
    }

    /// Cuts the flows that may not live on under these rules at this moment.
    pub(super) fn cut_withdrawn(&self, rules: &Rules, now: OffsetDateTime) -> usize {
        let mut count = 0;
        for flow in self.flows.borrow().all() {
            if flow.held_by(rules, now) == Some(Held::No) {
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
            if self.flows.borrow().flows.is_empty() {
                return;
            }
            empty.await;
        }
    }
}

impl Places {
    fn take(&mut self, flow: Rc<Tracked>) -> usize {
        let place = self.free.pop().unwrap_or(self.flows.len());
        match self.flows.get_mut(place) {
            Some(empty) => *empty = Some(flow),
            None => self.flows.push(Some(flow)),
        }
        place
    }

    /// Gives a place back, and says whether any flow is left.
    fn leave(&mut self, place: usize) -> Left {
        if let Some(left) = self.flows.get_mut(place) {
            *left = None;
            self.free.push(place);
        }
        if self.free.len() < self.flows.len() {
            return Left::Some;
        }
        // A storm must not keep its places for ever.
        *self = Self::default();
        Left::None
    }

    fn all(&self) -> impl Iterator<Item = &Rc<Tracked>> {
        self.flows.iter().flatten()
    }
}

/// Whether flows are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Some,
    None,
}

/// Whether rules let a flow live on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Yes,
    No,
}

impl Registered {
    /// Notes what the flow lives by.
    pub(super) fn granted(&self, asking: Asking, grant: &Grant) {
        self.tracked.asking.set(Some(asking));
        let permit = Permit { grant: grant.clone(), by: None };
        *self.tracked.permit.borrow_mut() = Some(Rc::new(permit));
    }

    /// Notes where the flow was connected to.
    pub(super) fn connected(&self, address: IpAddr, interface: &InterfaceName) {
        let mut permit = self.tracked.permit.borrow_mut();
        let by = Some((address, interface.clone()));
        *permit = permit.take().map(|permit| {
            self.tracker.permits.intern(Rc::new(Permit { by, grant: permit.grant.clone() }))
        });
    }

    /// Whether the flow may live on under these rules.
    pub(super) fn held_by(&self, rules: &Rules, now: OffsetDateTime) -> bool {
        self.tracked.held_by(rules, now) == Some(Held::Yes)
    }

    /// Resolves when the flow is to be cut.
    pub(super) async fn cut(&self) -> Cut {
        poll_fn(|cx| self.poll_cut(cx)).await
    }

    /// Whether the flow is to be cut; if not, the task that asked last is woken when it is.
    pub(super) fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<Cut> {
        if let Some(cut) = self.tracked.cut.get() {
            return Poll::Ready(cut);
        }
        match &mut *self.tracked.waker.borrow_mut() {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let left = self.tracker.flows.borrow_mut().leave(self.place);
        if left == Left::None {
            self.tracker.empty.notify_waiters();
        }
    }
}

impl Tracked {
    fn cut(&self, cut: Cut) {
        self.cut.set(Some(cut));
        let waker = self.waker.borrow_mut().take();
        waker.into_iter().for_each(Waker::wake);
    }

    /// `None` for a flow that was not granted anything yet.
    fn held_by(&self, rules: &Rules, now: OffsetDateTime) -> Option<Held> {
        let (asking, permit) = (self.asking.get()?, self.permit.borrow());
        let permit = permit.as_ref()?;
        let held = rules.hold(asking, &permit.grant, permit.by.as_ref(), now);
        Some(if held { Held::Yes } else { Held::No })
    }
}

impl PartialEq for Permit {
    fn eq(&self, other: &Self) -> bool {
        let (one, two) = (&self.grant, &other.grant);
        self.by == other.by
            && (one.name(), one.port(), one.rule()) == (two.name(), two.port(), two.rule())
            && Arc::ptr_eq(one.endpoint(), two.endpoint())
            && one.would_be() == two.would_be()
    }
}

impl Eq for Permit {}

impl Hash for Permit {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.grant.name(), self.grant.port(), &self.by).hash(state);
    }
}
