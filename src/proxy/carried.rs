//! A flow that is connected: all that it keeps until it ends.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use tokio::net::TcpStream;

use super::limits::Admitted;
use super::stats::Counted;
use super::thread::Shared;
use super::tracker::{Cut, Registered};
use crate::audit::{FlowEnd, FlowRecord, Traffic, TrafficFacts};
use crate::net::socket::reset_on_close;
use crate::relay::{FlowBytes, RelayEnd, relay};

/// The rest of a connected flow's life.
pub(super) type Carrying = Pin<Box<dyn Future<Output = ()>>>;

/// A connected flow; the endpoint has the hello. A hundred thousand of these wait in a box: see the
/// test that bounds their size.
#[derive(Debug)]
pub(super) struct Carried {
    shared: Rc<Shared>,
    device: TcpStream,
    endpoint: TcpStream,
    bytes: Rc<FlowBytes>,
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
        bytes: Rc<FlowBytes>,
        mut record: FlowRecord,
        kept: Kept,
    ) -> Carrying {
        shared.stats.allowed();
        record.watch_traffic(Rc::clone(&bytes) as Rc<dyn Traffic>);
        Box::pin(Self { shared, device, endpoint, bytes, record, kept }.carry())
    }

    /// Relays until the flow ends or is cut, and records how.
    #[expect(clippy::manual_async_fn, reason = "an async fn keeps its arguments twice")]
    fn carry(self) -> impl Future<Output = ()> {
        async move {
            let end = {
                let (registered, ..) = &self.kept;
                let mut moving =
                    relay(&self.device, &self.endpoint, &self.shared.pool, &self.bytes);
                poll_fn(|cx| match registered.poll_cut(cx) {
                    Poll::Ready(cut) => Poll::Ready(Err(cut)),
                    Poll::Pending => Pin::new(&mut moving).poll(cx).map(Ok),
                })
                .await
            };
            self.ended(end);
        }
    }

    fn ended(self, end: Result<RelayEnd, Cut>) {
        let end = match end {
            Ok(RelayEnd::ClosedByDevice) => FlowEnd::ClosedByDevice,
            Ok(RelayEnd::ClosedByEndpoint) => FlowEnd::ClosedByEndpoint,
            Ok(RelayEnd::Idle) => FlowEnd::Idle,
            Ok(RelayEnd::ResetByDevice) => FlowEnd::ResetByDevice,
            Ok(RelayEnd::ResetByEndpoint) => FlowEnd::ResetByEndpoint,
            Err(cut) => {
                // Bytes may be under way in a pipe; a reset says so, a FIN would not.
                reset_on_close(&self.device);
                reset_on_close(&self.endpoint);
                match cut {
                    Cut::Withdrawn => FlowEnd::PolicyWithdrawn,
                    Cut::Drained => FlowEnd::Drained,
                }
            }
        };
        let traffic = self.bytes.traffic();
        self.shared.stats.moved(traffic.up, traffic.down, traffic.spliced);
        self.record.close(end, traffic);
    }
}

impl Traffic for FlowBytes {
    fn traffic(&self) -> TrafficFacts {
        let (up, down) = (&self.up, &self.down);
        TrafficFacts {
            up: up.copied.get() + up.spliced.get(),
            down: down.copied.get() + down.spliced.get(),
            spliced: up.spliced.get() + down.spliced.get(),
        }
    }
}

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
