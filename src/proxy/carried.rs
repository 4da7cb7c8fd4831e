//! A flow that is connected: all that it keeps until it ends.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use tokio::net::TcpStream;

use super::limits::Admitted;
use super::thread::Shared;
use super::tracker::{Cut, Registered};
use crate::audit::{FlowEnd, FlowRecord, Traffic, TrafficFacts};
use crate::net::socket::reset_on_close;
use crate::relay::{FlowBytes, RelayEnd, relay};

/// A connected flow; the endpoint has the hello. A hundred thousand of these wait in a box: see the
/// test that bounds their size.
#[derive(Debug)]
pub(super) struct Carried {
    shared: Rc<Shared>,
    device: TcpStream,
    endpoint: TcpStream,
    bytes: Rc<FlowBytes>,
    record: FlowRecord,
    registered: Registered,
    /// Given back when the flow ends.
    _share: Admitted,
}

impl Carried {
    /// Counts the flow as allowed; from now on its record can tell by itself what was moved.
    pub(super) fn new(
        shared: Rc<Shared>,
        [device, endpoint]: [TcpStream; 2],
        bytes: Rc<FlowBytes>,
        mut record: FlowRecord,
        (registered, share): (Registered, Admitted),
    ) -> Box<Self> {
        shared.stats.allowed();
        record.watch_traffic(Rc::clone(&bytes) as Rc<dyn Traffic>);
        Box::new(Self { shared, device, endpoint, bytes, record, registered, _share: share })
    }

    /// Relays until the flow ends or is cut, and records how.
    pub(super) async fn carry(self: Box<Self>) {
        let end = {
            let mut moving = relay(&self.device, &self.endpoint, &self.shared.pool, &self.bytes);
            poll_fn(|cx| match self.registered.poll_cut(cx) {
                Poll::Ready(cut) => Poll::Ready(Err(cut)),
                Poll::Pending => Pin::new(&mut moving).poll(cx).map(Ok),
            })
            .await
        };
        self.ended(end);
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

    #[test]
    fn an_idle_flow_is_small() {
        fn size_of_output<F: Future>(_: impl FnOnce(Box<Carried>) -> F) -> usize {
            size_of::<F>()
        }
        let (kept, task) = (size_of::<Carried>(), size_of_output(Carried::carry));
        assert!(kept <= 336, "a flow keeps {kept} bytes");
        assert!(task <= 160, "its task takes {task} bytes");
    }
}
