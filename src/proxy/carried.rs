//! A flow that is connected: all that it keeps until it ends.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::TcpStream;

use super::handshake::{Onlookers, Watched};
use super::limits::Admitted;
use super::stats::Counted;
use super::thread::Shared;
use super::tracker::{Cut, LOOK_AGAIN, Look, Order, Registered};
use crate::audit::{FlowEnd, FlowRecord, Traffic};
use crate::net::socket::{probe_as_usual, probe_soon, reset_on_close};
use crate::relay::{RelayEnd, relay};

/// The rest of a connected flow's life.
pub(super) type Carrying = Pin<Box<dyn Future<Output = ()>>>;

/// A connected flow; the endpoint has the hello. A hundred thousand of these wait in a box: see the
/// test that bounds their size.
#[derive(Debug)]
pub(super) struct Carried {
    shared: Rc<Shared>,
    device: TcpStream,
    endpoint: TcpStream,
    watched: Rc<Watched>,
    /// Until the relay has them.
    onlookers: Onlookers,
    record: FlowRecord,
    /// Registration, share and count; given back when the flow ends.
    kept: Kept,
}

type Kept = (Registered, Admitted, Counted);

impl Carried {
    /// Counts the flow as allowed; from now on its record can tell by itself what was moved.
    pub(super) fn begin(
        shared: Rc<Shared>,
        [device, endpoint]: [TcpStream; 2],
        (watched, onlookers): (Rc<Watched>, Onlookers),
        mut record: FlowRecord,
        kept: Kept,
    ) -> Carrying {
        shared.stats.allowed();
        record.watch_traffic(Rc::clone(&watched) as Rc<dyn Traffic>);
        Box::pin(Self { shared, device, endpoint, watched, onlookers, record, kept }.carry())
    }

    /// Relays until the flow ends or is cut, and records how.
    #[expect(clippy::manual_async_fn, reason = "an async fn keeps its arguments twice")]
    fn carry(mut self) -> impl Future<Output = ()> {
        async move {
            let Onlookers { up, down } = self.onlookers.take();
            let end = {
                let mut moving =
                    relay(&self.device, &self.endpoint, &self.shared.pool, &self.watched.bytes)
                        .shown_to(up, down);
                poll_fn(|cx| match self.poll_cut(cx) {
                    Poll::Ready(cut) => Poll::Ready(Err(cut)),
                    Poll::Pending => Pin::new(&mut moving).poll(cx).map(Ok),
                })
                .await
            };
            self.ended(end);
        }
    }

    /// Whether the flow is to end, by order or because its device is no longer there.
    fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<Cut> {
        let (registered, ..) = &self.kept;
        loop {
            match registered.poll_order(cx) {
                Poll::Ready(Order::Cut(cut)) => return Poll::Ready(cut),
                Poll::Ready(Order::Look(Look::Stranded(seconds))) => {
                    if self.is_stranded(Duration::from_secs(seconds.into())) {
                        return Poll::Ready(Cut::TunnelLost);
                    }
                }
                Poll::Ready(Order::Look(look)) if self.is_gone(look) => {
                    return Poll::Ready(Cut::Returned);
                }
                Poll::Ready(Order::Look(_)) => {}
                Poll::Ready(Order::Report) => self.record.report(self.watched.traffic()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Whether nothing has come from the endpoint since its tunnel fell silent.
    fn is_stranded(&self, silent: Duration) -> bool {
        let (registered, ..) = &self.kept;
        let (endpoint, Some(pulses)) = (&self.endpoint, &self.shared.pulses) else { return false };
        let addresses = (endpoint.local_addr(), endpoint.peer_addr());
        let (Ok(local), Ok(peer)) = addresses else { return false };
        let pulse = pulses.of(local, peer, registered.link());
        matches!(pulse, Ok(Some(pulse)) if pulse.last_heard.min(pulse.last_data) >= silent)
    }

    /// Whether the device, which is there, is no longer at the other end of this flow. A flow
    /// without anything unanswered is never taken for dead: it is probed, and a device that was
    /// restarted resets it.
    fn is_gone(&self, look: Look) -> bool {
        let (device, Some(pulses)) = (&self.device, &self.shared.pulses) else { return false };
        if look == Look::Again {
            probe_as_usual(device);
        }
        let (Ok(local), Ok(peer)) = (device.local_addr(), device.peer_addr()) else { return false };
        let Ok(Some(pulse)) = pulses.of(local, peer, 0) else { return false };
        let unanswered = pulse.last_heard >= LOOK_AGAIN.mul_f32(0.9);
        if pulse.unacked > 0 {
            return pulse.retransmits >= MOST_RETRANSMITS;
        }
        match look {
            Look::First if pulse.probes >= MOST_PROBES => return true,
            Look::First if unanswered => probe_soon(device),
            Look::First => {}
            Look::Stranded(_) => {}
            Look::Again => return pulse.probes > 0 && unanswered,
        }
        false
    }

    fn ended(self, end: Result<RelayEnd, Cut>) {
        let Self { shared, device, endpoint, watched, mut record, .. } = self;
        let end = match end {
            Ok(RelayEnd::ClosedByDevice) => FlowEnd::ClosedByDevice,
            Ok(RelayEnd::ClosedByEndpoint) => FlowEnd::ClosedByEndpoint,
            Ok(RelayEnd::Idle) => FlowEnd::Idle,
            Ok(RelayEnd::ResetByDevice) => FlowEnd::ResetByDevice,
            Ok(RelayEnd::ResetByEndpoint) => FlowEnd::ResetByEndpoint,
            Err(cut) => {
                // Bytes may be under way in a pipe; a reset says so, a FIN would not.
                reset_on_close(&device);
                reset_on_close(&endpoint);
                match cut {
                    Cut::Withdrawn => FlowEnd::PolicyWithdrawn,
                    Cut::Drained => FlowEnd::Drained,
                    Cut::Returned => FlowEnd::DeviceReturned,
                    Cut::TunnelLost => FlowEnd::TunnelLost,
                }
            }
        };
        shared.stats.moved(&watched.bytes);
        record.set_handshake(watched.handshake());
        record.close(end, watched.traffic());
    }
}

/// Unanswered retransmissions of the same segment after which a device is gone; one can be lost on a
/// bad radio.
const MOST_RETRANSMITS: u8 = 2;
/// The same of keepalive probes, which are 20 s apart.
const MOST_PROBES: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    /// What the runtime itself keeps is not in here: 256 bytes for each socket, and 128 for the task.
    #[test]
    fn an_idle_flow_is_small() {
        fn size_of_output<F: Future>(_: impl FnOnce(Carried) -> F) -> usize {
            size_of::<F>()
        }
        let (kept, all) = (size_of::<Carried>(), size_of_output(Carried::carry));
        assert!(all <= 480, "a connected flow takes {all} bytes, {kept} of them beside the relay");
    }
}
