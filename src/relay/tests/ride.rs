//! One flow of a reactor as a future.

use std::cell::Cell;
use std::future::Future;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::{End, FlowBytes, Key, Legs, Onlookers, Owner, Reactor, RelayEnd, RelayPool};

/// Resolves when the flow is over; dropping it ends the flow.
pub(crate) struct Ride {
    reactor: Rc<Reactor<Rider>>,
    drives: Drives,
    /// Until it is polled for the first time.
    pub(crate) begins: Option<(Legs, Onlookers, Rider)>,
    key: Option<Key>,
    told: Rc<Told>,
}

/// Who a flow belongs to.
pub(crate) struct Rider {
    bytes: Rc<FlowBytes>,
    told: Rc<Told>,
}

#[derive(Default)]
struct Told {
    end: Cell<Option<RelayEnd>>,
    waker: Cell<Option<Waker>>,
}

/// Who polls the reactor.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Drives {
    Itself,
    Another,
}

/// A flow with a reactor of its own, which moves while it is polled. The caller keeps the sockets.
pub(crate) fn relay(
    device: &impl AsFd,
    endpoint: &impl AsFd,
    pool: &Rc<RelayPool>,
    bytes: &Rc<FlowBytes>,
) -> Ride {
    let [device, endpoint] =
        [device.as_fd(), endpoint.as_fd()].map(|fd| fd.try_clone_to_owned().unwrap());
    let reactor = Reactor::new(Rc::clone(pool)).unwrap();
    let mut ride = Ride::of(&reactor, Legs { device, endpoint }, bytes);
    ride.drives = Drives::Itself;
    ride
}

impl Ride {
    /// A flow of a reactor that somebody else runs.
    pub(crate) fn of(reactor: &Rc<Reactor<Rider>>, legs: Legs, bytes: &Rc<FlowBytes>) -> Self {
        let told = Rc::<Told>::default();
        let rider = Rider { bytes: Rc::clone(bytes), told: Rc::clone(&told) };
        let begins = Some((legs, Onlookers::default(), rider));
        Self { reactor: Rc::clone(reactor), drives: Drives::Another, begins, key: None, told }
    }

    /// Takes the flow out before its end.
    pub(crate) fn part(&mut self) -> Option<Legs> {
        let (legs, _) = self.reactor.part(self.key?)?;
        Some(legs)
    }
}

impl Future for Ride {
    type Output = RelayEnd;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<RelayEnd> {
        if let Some((legs, onlookers, rider)) = self.begins.take() {
            let key = self.reactor.carry(legs, onlookers, rider);
            self.key = Some(key.unwrap_or_else(|refused| panic!("{}", refused.error)));
        }
        if self.drives == Drives::Itself {
            match self.reactor.poll_round(cx) {
                Poll::Ready(more) => {
                    more.unwrap();
                    cx.waker().wake_by_ref();
                }
                Poll::Pending => {}
            }
        }
        match self.told.end.take() {
            Some(end) => Poll::Ready(end),
            None => {
                self.told.waker.set(Some(cx.waker().clone()));
                Poll::Pending
            }
        }
    }
}

impl Drop for Ride {
    fn drop(&mut self) {
        drop(self.part());
    }
}

impl Owner for Rider {
    fn bytes(&self) -> &FlowBytes {
        &self.bytes
    }

    fn ended(self, _legs: Legs, end: End) {
        let End::Relayed(end) = end else { panic!("{end:?}") };
        self.told.end.set(Some(end));
        self.told.waker.take().into_iter().for_each(Waker::wake);
    }
}
