//! The live flows of one data thread, and the way to reach them.
//!
//! A flow is registered before it is judged, so that a change of policy in between cannot miss it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Rules;
use super::returns::{Earlier, Origin, Returns};
use crate::config::InterfaceName;
use crate::policy::{Asking, Grant};

/// Why a flow is cut from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Its permission is withdrawn.
    Withdrawn,
    /// The box shuts down.
    Drained,
    /// Its device is gone and has come back with another flow.
    Returned,
}

/// What a flow is told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// To end.
    Cut(Cut),
    /// To see whether its device is still there.
    Look(Look),
}

/// How suspicious a look is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// The device has opened another flow to the same name.
    First,
    /// It was probed [`LOOK_AGAIN`] ago.
    Again,
}

/// Flows by what they are at.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct FlowStates {
    /// Up to the verdict: their hello is read.
    pub hello: u64,
    /// Allowed, and not connected yet.
    pub dial: u64,
    /// Connected.
    pub relay: u64,
    /// Of those that are connected, how many have one direction over.
    pub half_closed: u64,
    /// Connected ones by the endpoint's address.
    #[serde(skip)]
    pub by_address: HashMap<SocketAddr, u64>,
}

impl FlowStates {
    /// Adds another thread's.
    pub fn add(&mut self, other: &Self) {
        self.hello += other.hello;
        self.dial += other.dial;
        self.relay += other.relay;
        self.half_closed += other.half_closed;
        for (address, flows) in &other.by_address {
            *self.by_address.entry(*address).or_default() += flows;
        }
    }
}

/// The live flows of a thread.
#[derive(Debug)]
pub(super) struct Tracker {
    /// By device and name, then in the order in which they came.
    flows: RefCell<BTreeMap<(Origin, u64), Rc<Tracked>>>,
    next: Cell<u64>,
    empty: Notify,
    returns: Arc<Returns>,
}

/// What the tracker knows of a flow.
#[derive(Debug)]
pub(super) struct Tracked {
    origin: Cell<Origin>,
    cut: Cell<Option<Cut>>,
    look: Cell<Option<Look>>,
    /// Nobody has to look at it before.
    quiet_until: Cell<Option<Instant>>,
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
    pub(super) fn new(returns: Arc<Returns>) -> Rc<Self> {
        Rc::new(Self {
            flows: RefCell::default(),
            next: Cell::new(0),
            empty: Notify::new(),
            returns,
        })
    }

    pub(super) fn register(self: &Rc<Self>) -> Registered {
        let id = self.next.get();
        self.next.set(id.wrapping_add(1));
        let tracked = Rc::new(Tracked {
            origin: Cell::new(Origin::UNKNOWN),
            cut: Cell::new(None),
            look: Cell::new(None),
            quiet_until: Cell::new(None),
            wake: Notify::new(),
            grant: RefCell::new(None),
            by: RefCell::new(None),
        });
        self.flows.borrow_mut().insert((Origin::UNKNOWN, id), Rc::clone(&tracked));
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

    /// Has the oldest flows of one device and name look after it.
    pub(super) fn device_returned(self: &Rc<Self>, origin: Origin) {
        let now = Instant::now();
        let flows = self.flows.borrow();
        for (&(_, id), flow) in flows.range((origin, 0)..=(origin, u64::MAX)).take(MOST_LOOKS) {
            let connected = flow.by.borrow().is_some();
            if connected && flow.quiet_until.get().is_none_or(|until| until <= now) {
                flow.quiet_until.set(Some(now + LOOK_AGAIN * 2));
                flow.look(Look::First);
                self.look_again(origin, id);
            }
        }
    }

    fn look_again(self: &Rc<Self>, origin: Origin, id: u64) {
        let tracker = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            tokio::time::sleep(LOOK_AGAIN).await;
            let Some(tracker) = tracker.upgrade() else { return };
            if let Some(flow) = tracker.flows.borrow().get(&(origin, id)) {
                flow.look(Look::Again);
            }
        });
    }

    /// Counts how the flows are.
    pub(super) fn count(&self, counted: &mut FlowStates) {
        for flow in self.flows.borrow().values() {
            match (&*flow.grant.borrow(), &*flow.by.borrow()) {
                (None, _) => counted.hello += 1,
                (Some(_), None) => counted.dial += 1,
                (Some((_, grant)), Some((address, _))) => {
                    counted.relay += 1;
                    *counted.by_address.entry((*address, grant.port()).into()).or_default() += 1;
                }
            }
        }
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
    /// Notes what the flow lives by, and has older flows of the same device to the same name look
    /// after it.
    pub(super) fn granted(&self, asking: Asking, grant: &Grant) {
        *self.tracked.grant.borrow_mut() = Some((asking, grant.clone()));
        let returns = &self.tracker.returns;
        let origin = returns.origin(asking, grant.name());
        if returns.enter(origin) == Earlier::Perhaps {
            returns.announce(origin);
        }
        let mut flows = self.tracker.flows.borrow_mut();
        if let Some(tracked) = flows.remove(&(self.tracked.origin.get(), self.id)) {
            flows.insert((origin, self.id), tracked);
        }
        self.tracked.origin.set(origin);
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
            if let Order::Cut(cut) = self.order().await {
                return cut;
            }
        }
    }

    /// Resolves when the flow is told something.
    pub(super) async fn order(&self) -> Order {
        loop {
            let wake = self.tracked.wake.notified();
            if let Some(cut) = self.tracked.cut.get() {
                return Order::Cut(cut);
            }
            if let Some(look) = self.tracked.look.take() {
                return Order::Look(look);
            }
            wake.await;
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let origin = self.tracked.origin.get();
        self.tracker.returns.leave(origin);
        let mut flows = self.tracker.flows.borrow_mut();
        flows.remove(&(origin, self.id));
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

    fn look(&self, look: Look) {
        self.look.set(Some(look));
        self.wake.notify_waiters();
    }
}

/// Between a probe and the look at what came of it.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Flows of one device to one name that look after it when it opens another.
const MOST_LOOKS: usize = 8;
