//! How many connections to one endpoint may be set up at once, and in which order.
//!
//! After a power cut every device comes back within a second. An endpoint that does not answer must
//! then not pile up half-open sockets, and one that counts connections (the CONNECT quota of AWS IoT)
//! must not refuse half of them. So each endpoint has a queue, first come, first served, shared by all
//! data threads and touched twice per flow, never for bytes. Who would wait too long for its turn is
//! told so at once: a device that is refused early retries in order, one that gives up does not.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::limits::TooMany;
use crate::config::Site;
use crate::reason::Reason;

/// The queues of all endpoints.
#[derive(Debug)]
pub struct Dials {
    inner: Mutex<Inner>,
}

/// How the dials to one endpoint are, for `status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct DialsStatus {
    /// Connections that are being set up now.
    pub dialling: usize,
    /// Flows that wait for their turn now.
    pub queued: usize,
    /// Flows that had to wait, since the start.
    pub queued_total: u64,
    /// Flows that were refused because their turn would not have come in time.
    pub refused_total: u64,
}

#[derive(Debug)]
struct Inner {
    at_once: usize,
    paces: HashMap<Arc<str>, u32>,
    queues: HashMap<Arc<str>, Queue<oneshot::Sender<Instant>>>,
}

/// A flow's place: waiting, or dialling. Leaving it behind makes room for the next one.
#[derive(Debug)]
pub(super) struct Place {
    dials: Arc<Dials>,
    endpoint: Arc<str>,
    ticket: Ticket,
    told: oneshot::Receiver<Instant>,
    until: Instant,
    /// When its turn came.
    began: Option<Instant>,
}

impl Dials {
    /// Queues as the site wants them.
    pub fn new(site: &Site) -> Arc<Self> {
        let inner = Inner { at_once: 1, paces: HashMap::new(), queues: HashMap::new() };
        let dials = Self { inner: Mutex::new(inner) };
        dials.set(site);
        Arc::new(dials)
    }

    /// Takes in a new configuration; who waits goes on waiting, by the new terms.
    pub fn set(&self, site: &Site) {
        let mut inner = self.inner();
        inner.at_once = usize::try_from(site.limits.endpoint_dials).unwrap_or(usize::MAX);
        let paced = site.endpoints.iter().filter_map(|endpoint| {
            endpoint.connects_per_second.map(|pace| (Arc::clone(&endpoint.id), pace))
        });
        inner.paces = paced.collect();
        let now = Instant::now();
        let Inner { at_once, paces, queues } = &mut *inner;
        for (endpoint, queue) in queues {
            queue.set(Terms::new(*at_once, paces.get(endpoint).copied()), now);
        }
    }

    /// How the dials are, by endpoint.
    pub fn status(&self) -> BTreeMap<Arc<str>, DialsStatus> {
        let inner = self.inner();
        let status = |queue: &Queue<_>| DialsStatus {
            dialling: queue.dialling,
            queued: queue.waiting.len(),
            ..queue.status
        };
        inner.queues.iter().map(|(id, queue)| (Arc::clone(id), status(queue))).collect()
    }

    /// Takes a place in an endpoint's queue, or says at once that the turn would come too late.
    pub(super) fn enter(
        self: &Arc<Self>,
        endpoint: &Arc<str>,
        device: IpAddr,
    ) -> Result<Place, TooMany> {
        let now = Instant::now();
        let (waker, told) = oneshot::channel();
        let mut inner = self.inner();
        let Inner { at_once, paces, queues } = &mut *inner;
        let queue = queues
            .entry(Arc::clone(endpoint))
            .or_insert_with(|| Queue::new(Terms::new(*at_once, paces.get(endpoint).copied()), now));
        let ticket = queue.enter(device, waker, now).map_err(|wait| TooMany {
            reason: Reason::EndpointLimit,
            detail: format!(
                "{} connections are being set up and {} flows wait; the turn would come in {} ms",
                queue.dialling,
                queue.waiting.len(),
                wait.as_millis()
            ),
        })?;
        drop(inner);
        let (dials, endpoint) = (Arc::clone(self), Arc::clone(endpoint));
        Ok(Place { dials, endpoint, ticket, told, until: now + PATIENCE, began: None })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Resolves when it is the flow's turn.
    pub(super) async fn turn(&mut self) -> Result<(), TooMany> {
        let too_late = || TooMany {
            reason: Reason::EndpointLimit,
            detail: format!("the turn did not come within {} ms", PATIENCE.as_millis()),
        };
        match tokio::time::timeout_at(self.until, &mut self.told).await {
            Ok(Ok(start)) => {
                // The runtime's timers have a grain of a millisecond, also for what is due already.
                if start > Instant::now() {
                    tokio::time::sleep_until(start).await;
                }
                self.began = Some(start);
                Ok(())
            }
            // A queue drops nobody; without one there is nobody to wait for.
            Ok(Err(_)) | Err(_) => Err(too_late()),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(queue) = self.dials.inner().queues.get_mut(&self.endpoint) {
            queue.leave(self.ticket, self.began, Instant::now());
        }
    }
}

/// What an endpoint bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Terms {
    at_once: usize,
    /// The least time between two starts.
    gap: Duration,
}

impl Terms {
    fn new(at_once: usize, pace: Option<u32>) -> Self {
        let gap = pace.and_then(|pace| Duration::from_secs(1).checked_div(pace));
        Self { at_once, gap: gap.unwrap_or_default() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticket {
    number: u64,
    device: IpAddr,
}

/// Somebody who can be told when to start.
trait Waker {
    fn start(self, at: Instant);
}

impl Waker for oneshot::Sender<Instant> {
    fn start(self, at: Instant) {
        // Who has left meanwhile gives its place back by itself.
        let _ = self.send(at);
    }
}

/// One endpoint's queue: pure, the time comes from the caller.
#[derive(Debug)]
struct Queue<W> {
    terms: Terms,
    dialling: usize,
    waiting: VecDeque<(Ticket, W)>,
    /// How many places each device has here, waiting or dialling.
    devices: HashMap<IpAddr, u32>,
    next_ticket: u64,
    /// When the pace allows the next start.
    next_start: Instant,
    /// How long a dial takes, a moving average.
    held: Duration,
    /// When a place was last given or given back.
    moved: Instant,
    status: DialsStatus,
}

impl<W: Waker> Queue<W> {
    fn new(terms: Terms, now: Instant) -> Self {
        Self {
            terms,
            dialling: 0,
            waiting: VecDeque::new(),
            devices: HashMap::new(),
            next_ticket: 0,
            next_start: now,
            held: USUAL,
            moved: now,
            status: DialsStatus::default(),
        }
    }

    fn set(&mut self, terms: Terms, now: Instant) {
        self.terms = terms;
        self.start_waiting(now);
    }

    /// A place at the end, unless it would wait longer than anybody should: then how long that is.
    fn enter(&mut self, device: IpAddr, waker: W, now: Instant) -> Result<Ticket, Duration> {
        let wait = self.expected_wait(now);
        let own = self.devices.get(&device).copied().unwrap_or_default();
        // The last part of the queue is for devices that have few places in it.
        let most = if own < FEW { PATIENCE } else { PATIENCE / 2 };
        if wait > most {
            self.status.refused_total += 1;
            return Err(wait);
        }
        let ticket = Ticket { number: self.next_ticket, device };
        self.next_ticket = self.next_ticket.wrapping_add(1);
        *self.devices.entry(device).or_default() += 1;
        self.waiting.push_back((ticket, waker));
        self.start_waiting(now);
        if !self.waiting.is_empty() {
            self.status.queued_total += 1;
        }
        Ok(ticket)
    }

    /// The flow needs its place no longer, or gave up waiting for it.
    fn leave(&mut self, ticket: Ticket, began: Option<Instant>, now: Instant) {
        if let Some(own) = self.devices.get_mut(&ticket.device) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                self.devices.remove(&ticket.device);
            }
        }
        // Tickets wait in the order of their numbers.
        let place = self.waiting.binary_search_by_key(&ticket.number, |(other, _)| other.number);
        if let Ok(place) = place {
            self.waiting.remove(place);
            return;
        }
        self.dialling = self.dialling.saturating_sub(1);
        if let Some(began) = began {
            let held = now.saturating_duration_since(began);
            self.held = (self.held * (SMOOTH - 1) + held) / SMOOTH;
        }
        self.moved = now;
        self.start_waiting(now);
    }

    fn start_waiting(&mut self, now: Instant) {
        while self.dialling < self.terms.at_once {
            let Some((_, waker)) = self.waiting.pop_front() else { return };
            self.dialling += 1;
            self.moved = now;
            let start = self.next_start.max(now);
            self.next_start = start + self.terms.gap;
            waker.start(start);
        }
    }

    /// How long who comes now would wait: for the pace, and for those before it.
    fn expected_wait(&self, now: Instant) -> Duration {
        let ahead = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
        let paced = self.next_start.saturating_duration_since(now);
        let paced = paced.saturating_add(self.terms.gap.saturating_mul(ahead));
        if self.dialling < self.terms.at_once {
            return paced;
        }
        // While nothing moves, a place is held at least for as long as that has lasted.
        let held = self.held.max(now.saturating_duration_since(self.moved));
        let at_once = u32::try_from(self.terms.at_once).unwrap_or(u32::MAX).max(1);
        let places = held.saturating_mul(ahead.saturating_add(1)) / at_once;
        paced.max(places)
    }
}

/// How long a flow may wait for its turn. With the dial behind it, it must stay below the 3 s after
/// which a Greengrass core gives up.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// What a dial takes before the first one has shown it.
const USUAL: Duration = Duration::from_millis(50);
/// A device with fewer places than this may use the whole queue.
const FEW: u32 = 4;
/// The weight of the past in the moving average.
const SMOOTH: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes who was told to start, and when.
    type Told = std::rc::Rc<std::cell::RefCell<Vec<(u8, Instant)>>>;

    struct Noting(u8, Told);

    impl Waker for Noting {
        fn start(self, at: Instant) {
            self.1.borrow_mut().push((self.0, at));
        }
    }

    struct Stand {
        queue: Queue<Noting>,
        told: Told,
        now: Instant,
    }

    impl Stand {
        fn new(at_once: usize, pace: Option<u32>) -> Self {
            let now = Instant::now();
            let queue = Queue::new(Terms::new(at_once, pace), now);
            Self { queue, told: Told::default(), now }
        }

        fn enter(&mut self, device: u8) -> Result<Ticket, Duration> {
            let waker = Noting(device, Told::clone(&self.told));
            self.queue.enter(IpAddr::from([10, 10, 0, device]), waker, self.now)
        }

        fn leave(&mut self, ticket: Ticket, began: Instant) {
            self.queue.leave(ticket, Some(began), self.now);
        }

        fn started(&self) -> Vec<u8> {
            self.told.borrow().iter().map(|(device, _)| *device).collect()
        }
    }

    #[test]
    fn only_so_many_dial_at_once_and_the_rest_in_order() {
        let mut stand = Stand::new(2, None);
        let tickets: Vec<_> = (0..6).map(|device| stand.enter(device).expect("room")).collect();
        assert_eq!(stand.started(), [0, 1]);
        // One gives up in the middle; nobody is passed over for it.
        stand.queue.leave(tickets[3], None, stand.now);
        for ticket in [0, 1, 2, 4] {
            stand.now += Duration::from_millis(10);
            stand.leave(tickets[ticket], stand.now);
            assert!(stand.queue.dialling <= 2);
        }
        assert_eq!(stand.started(), [0, 1, 2, 4, 5]);
        stand.leave(tickets[5], stand.now);
        assert_eq!(stand.queue.dialling, 0);
        assert!(stand.queue.devices.is_empty(), "{:?}", stand.queue.devices);
    }

    #[test]
    fn the_pace_spreads_starts_and_refuses_whose_turn_would_be_too_late() {
        let mut stand = Stand::new(1_000, Some(10));
        let outcomes: Vec<_> = (0..30).map(|device| stand.enter(device)).collect();
        let accepted = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        // At once, and then every 100 ms up to the end of the patience.
        assert_eq!(accepted, 16);
        assert!(outcomes[16..].iter().all(Result::is_err), "early, not late");
        let told = stand.told.borrow();
        for (number, (device, at)) in told.iter().enumerate() {
            assert_eq!(usize::from(*device), number);
            let waits = at.saturating_duration_since(stand.now);
            assert_eq!(waits, Duration::from_millis(100) * u32::from(*device));
        }
        drop(told);
        stand.now += Duration::from_secs(10);
        stand.enter(99).expect("the pace has caught up");
        assert_eq!(stand.told.borrow().last(), Some(&(99, stand.now)), "and nobody waits for it");
    }

    #[test]
    fn an_endpoint_that_does_not_answer_is_noticed_before_the_first_dial_ends() {
        let mut stand = Stand::new(2, None);
        for device in 0..4 {
            stand.enter(device).expect("nothing is known yet");
        }
        stand.now += Duration::from_millis(1_400);
        let wait = stand.enter(9).expect_err("two before it, and nothing moves");
        assert_eq!(wait, Duration::from_millis(1_400) * 3 / 2);
    }

    #[test]
    fn slow_dials_are_remembered_until_they_are_fast_again() {
        let mut stand = Stand::new(1, None);
        for _ in 0..64 {
            let ticket = stand.enter(0).expect("it is free");
            let began = stand.now;
            stand.now += Duration::from_millis(2_500);
            stand.leave(ticket, began);
        }
        let running = stand.enter(0).expect("who finds a free place never waits");
        assert!(stand.enter(1).expect_err("the next would") > Duration::from_secs(2));
        stand.leave(running, stand.now);
        for _ in 0..64 {
            let ticket = stand.enter(0).expect("it is free");
            stand.leave(ticket, stand.now);
        }
        let _running = stand.enter(0).expect("it is free");
        stand.enter(1).expect("dials are fast again");
    }

    #[test]
    fn a_greedy_device_leaves_half_of_the_queue_to_others() {
        let mut stand = Stand::new(1_000, Some(100));
        let greedy = (0..500).filter(|_| stand.enter(1).is_ok()).count();
        assert_eq!(greedy, 76, "750 ms of the pace");
        stand.enter(2).expect("another device");
        let greedy = (0..500).filter(|_| stand.enter(1).is_ok()).count();
        assert_eq!(greedy, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_does_not_come_is_a_refusal_and_gives_the_place_back() {
        let inner = Inner { at_once: 1, paces: HashMap::new(), queues: HashMap::new() };
        let dials = Arc::new(Dials { inner: Mutex::new(inner) });
        let (endpoint, device): (Arc<str>, _) = ("iot-data".into(), IpAddr::from([10, 10, 0, 1]));
        let mut first = dials.enter(&endpoint, device).expect("the first");
        first.turn().await.expect("it is free");
        let mut second = dials.enter(&endpoint, device).expect("the second");
        let began = Instant::now();
        let refused = second.turn().await.expect_err("the first does not end");
        assert_eq!((refused.reason, began.elapsed()), (Reason::EndpointLimit, PATIENCE));
        drop(second);
        tokio::time::advance(Duration::from_millis(1)).await;
        let third = dials.enter(&endpoint, device).expect_err("nothing moves");
        assert_eq!(third.reason, Reason::EndpointLimit);
        drop(first);
        let mut next = dials.enter(&endpoint, device).expect("the place is free");
        next.turn().await.expect("the place is free");
        drop(next);
        let status = dials.status()[&endpoint];
        assert_eq!((status.dialling, status.queued), (0, 0));
        assert_eq!((status.queued_total, status.refused_total), (1, 1));
    }
}
