//! The live flows of one data thread, and the way to reach them.
//!
//! A flow is registered before it is judged, so that a change of policy in between cannot miss it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::future::poll_fn;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Rules;
use super::returns::{Earlier, Origin, Returns};
use super::sightings::Sightings;
use crate::config::InterfaceName;
use crate::intern::Interner;
use crate::policy::{Asking, DeviceKey, Grant};
use crate::relay::Key;

/// Why a flow is cut from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Its permission is withdrawn.
    Withdrawn,
    /// The box shuts down.
    Drained,
    /// Its device is gone and has come back with another flow.
    Returned,
    /// Its tunnel carries nothing any more.
    TunnelLost,
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
    /// Devices connected to data endpoints of AWS IoT Core, by `[endpoint.*]` table.
    #[serde(skip)]
    pub iot_devices: HashMap<Arc<str>, HashSet<DeviceKey>>,
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
        for (table, devices) in &other.iot_devices {
            self.iot_devices.entry(Arc::clone(table)).or_default().extend(devices);
        }
    }
}

/// The live flows of a thread.
#[derive(Debug)]
pub(super) struct Tracker {
    flows: RefCell<Places>,
    /// The places of flows that were granted something, by device and name.
    origins: RefCell<BTreeSet<(Origin, usize)>>,
    permits: Interner<Permit>,
    /// What [`Tracked::quiet_until`] counts from.
    began: Instant,
    empty: Notify,
    returns: Arc<Returns>,
    sightings: RefCell<Sightings>,
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
    origin: Cell<Origin>,
    cut: Cell<Option<Cut>>,
    /// Where it is once it is relayed.
    relayed: Cell<Option<Key>>,
    /// Nobody has to look at it before, in seconds since the tracker began.
    quiet_until: Cell<u32>,
    waker: RefCell<Option<Waker>>,
    asking: Cell<Option<Asking>>,
    permit: RefCell<Option<Rc<Permit>>>,
}

/// What a flow lives by; flows of one name share it.
#[derive(Clone, Debug)]
struct Permit {
    grant: Grant,
    /// Once connected.
    by: Option<By>,
}

/// What a flow is connected by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct By {
    /// The ENI's address.
    pub(super) address: IpAddr,
    /// The tunnel.
    pub(super) interface: InterfaceName,
    /// The interface's index.
    pub(super) link: u32,
}

/// A flow's registration; leaving it behind ends it.
#[derive(Debug)]
pub(super) struct Registered {
    tracker: Rc<Tracker>,
    place: usize,
    tracked: Rc<Tracked>,
}

impl Tracker {
    pub(super) fn new(returns: Arc<Returns>) -> Rc<Self> {
        Rc::new(Self {
            flows: RefCell::default(),
            origins: RefCell::default(),
            permits: Interner::default(),
            began: Instant::now(),
            empty: Notify::new(),
            returns,
            sightings: RefCell::default(),
        })
    }

    /// Tells or asks what was seen lately.
    pub(super) fn sightings<T>(&self, job: impl FnOnce(&mut Sightings) -> T) -> T {
        job(&mut self.sightings.borrow_mut())
    }

    pub(super) fn register(self: &Rc<Self>) -> Registered {
        let tracked = Rc::new(Tracked {
            origin: Cell::new(Origin::UNKNOWN),
            cut: Cell::new(None),
            relayed: Cell::new(None),
            quiet_until: Cell::new(0),
            waker: RefCell::new(None),
            asking: Cell::new(None),
            permit: RefCell::new(None),
        });
        let place = self.flows.borrow_mut().take(Rc::clone(&tracked));
        Registered { tracker: Rc::clone(self), place, tracked }
    }

    /// Cuts every flow that is being set up; those that are relayed are the caller's to cut.
    pub(super) fn cut_all(&self, cut: Cut) -> Vec<Key> {
        self.flows.borrow().all().filter_map(|flow| flow.cut(cut)).collect()
    }

    /// The same with the flows that may not live on under these rules at this moment; says how many
    /// they are.
    pub(super) fn cut_withdrawn(&self, rules: &Rules, now: OffsetDateTime) -> (usize, Vec<Key>) {
        let flows = self.flows.borrow();
        let withdrawn = flows.all().filter(|flow| flow.held_by(rules, now) == Some(Held::No));
        let cut: Vec<_> = withdrawn.map(|flow| flow.cut(Cut::Withdrawn)).collect();
        (cut.len(), cut.into_iter().flatten().collect())
    }

    /// The flows of one device and name that are to look after it, unless they did a moment ago.
    pub(super) fn device_returned(&self, origin: Origin) -> Vec<Key> {
        let now = self.began.elapsed();
        let until = (now + LOOK_AGAIN * 2).as_secs().saturating_add(1);
        let until = u32::try_from(until).unwrap_or(u32::MAX);
        let flows = self.flows.borrow();
        let origins = self.origins.borrow();
        let places = origins.range((origin, 0)..=(origin, usize::MAX));
        let all = places.filter_map(|(_, place)| flows.at(*place));
        all.filter(|flow| u64::from(flow.quiet_until.get()) <= now.as_secs())
            .filter_map(|flow| {
                let relayed = flow.relayed.get()?;
                flow.quiet_until.set(until);
                Some(relayed)
            })
            .take(MOST_LOOKS)
            .collect()
    }

    /// The flows that are connected by what is asked for.
    pub(super) fn connected_by(&self, wanted: impl Fn(&By) -> bool) -> Vec<Weak<Tracked>> {
        let is_wanted = |flow: &&Rc<Tracked>| {
            let permit = flow.permit.borrow();
            permit.as_ref().and_then(|permit| permit.by.as_ref()).is_some_and(&wanted)
        };
        self.flows.borrow().all().filter(is_wanted).map(Rc::downgrade).collect()
    }

    /// Counts how the flows are.
    pub(super) fn count(&self, counted: &mut FlowStates) {
        for flow in self.flows.borrow().all() {
            match flow.permit.borrow().as_deref() {
                None => counted.hello += 1,
                Some(Permit { by: None, .. }) => counted.dial += 1,
                Some(Permit { by: Some(By { address, .. }), grant }) => {
                    counted.relay += 1;
                    *counted.by_address.entry((*address, grant.port()).into()).or_default() += 1;
                    let (endpoint, asking) = (grant.endpoint(), flow.asking.get());
                    if let Some(asking) = asking.filter(|_| endpoint.is_iot_data()) {
                        let table = counted.iot_devices.entry(Arc::clone(&endpoint.id));
                        table.or_default().insert(asking.into());
                    }
                }
            }
        }
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

    fn at(&self, place: usize) -> Option<&Rc<Tracked>> {
        self.flows.get(place)?.as_ref()
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
    /// Notes what the flow lives by, and has older flows of the same device to the same name look
    /// after it.
    pub(super) fn granted(&self, asking: Asking, grant: &Grant) {
        self.tracked.asking.set(Some(asking));
        let permit = Permit { grant: grant.clone(), by: None };
        *self.tracked.permit.borrow_mut() = Some(Rc::new(permit));
        let returns = &self.tracker.returns;
        let origin = returns.origin(asking, grant.name());
        if returns.enter(origin) == Earlier::Perhaps {
            returns.announce(origin);
        }
        self.tracker.origins.borrow_mut().insert((origin, self.place));
        self.tracked.origin.set(origin);
    }

    /// Notes where the flow was connected to.
    pub(super) fn connected(&self, by: By) {
        let mut permit = self.tracked.permit.borrow_mut();
        let by = Some(by);
        *permit = permit.take().map(|permit| {
            self.tracker.permits.intern(Rc::new(Permit { by, grant: permit.grant.clone() }))
        });
    }

    /// The index of the tunnel interface that the flow goes by; 0 before it is connected.
    pub(super) fn link(&self) -> u32 {
        let permit = self.tracked.permit.borrow();
        permit.as_ref().and_then(|permit| permit.by.as_ref()).map_or(0, |by| by.link)
    }

    /// Whether the flow may live on under these rules.
    pub(super) fn held_by(&self, rules: &Rules, now: OffsetDateTime) -> bool {
        self.tracked.held_by(rules, now) == Some(Held::Yes)
    }

    /// Notes that the flow is relayed, and where: from now on [`Self::cut`] tells nothing.
    pub(super) fn relayed(&self, key: Key) {
        self.tracked.relayed.set(Some(key));
        self.tracked.waker.take();
    }

    /// Notes for those who look at the gate that the flow is connected.
    pub(super) fn opened(&self) {
        self.seen(|seen, asking, grant| seen.opened(asking, grant.name()));
    }

    /// Notes that it has ended, and what it moved in both directions.
    pub(super) fn ended(&self, bytes: u64) {
        self.seen(|seen, asking, grant| seen.ended(asking, grant.name(), bytes));
    }

    fn seen(&self, job: impl FnOnce(&mut Sightings, Asking, &Grant)) {
        let permit = self.tracked.permit.borrow();
        if let (Some(asking), Some(permit)) = (self.tracked.asking.get(), permit.as_deref()) {
            self.tracker.sightings(|seen| job(seen, asking, &permit.grant));
        }
    }

    /// Resolves when the flow is to be cut.
    pub(super) async fn cut(&self) -> Cut {
        poll_fn(|cx| {
            if let Some(cut) = self.tracked.cut.get() {
                return Poll::Ready(cut);
            }
            match &mut *self.tracked.waker.borrow_mut() {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            Poll::Pending
        })
        .await
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let origin = self.tracked.origin.get();
        self.tracker.returns.leave(origin);
        self.tracker.origins.borrow_mut().remove(&(origin, self.place));
        let left = self.tracker.flows.borrow_mut().leave(self.place);
        if left == Left::None {
            self.tracker.empty.notify_waiters();
        }
    }
}

impl Tracked {
    /// Cuts a flow that is being set up, or says where it is relayed.
    pub(super) fn cut(&self, cut: Cut) -> Option<Key> {
        let relayed = self.relayed.get();
        if relayed.is_none() {
            self.cut.set(Some(cut));
            let waker = self.waker.borrow_mut().take();
            waker.into_iter().for_each(Waker::wake);
        }
        relayed
    }

    /// Where it is, once it is relayed.
    pub(super) fn relayed(&self) -> Option<Key> {
        self.relayed.get()
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
            && one.would_refuse() == two.would_refuse()
    }
}

impl Eq for Permit {}

impl Hash for Permit {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.grant.name(), self.grant.port(), &self.by).hash(state);
    }
}

/// Between a probe and the look at what came of it.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Flows of one device to one name that look after it when it opens another.
const MOST_LOOKS: usize = 8;
