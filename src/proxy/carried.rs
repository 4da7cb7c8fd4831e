//! A flow that is connected: all that it keeps until it ends.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;

use super::handshake::Handshake;
use super::limits::Admitted;
use super::stats::Counted;
use super::thread::Shared;
use super::tracker::{Cut, LOOK_AGAIN, Registered};
use crate::audit::{FlowEnd, FlowRecord, TrafficFacts};
use crate::net::pulse::{Pulse, Pulses};
use crate::net::socket::{probe_as_usual, probe_soon, reset_on_close};
use crate::relay::{End, FlowBytes, Key, Legs, Onlookers, Owner, RelayEnd};

/// What a connected flow has beside its relay; the endpoint has the hello. A hundred thousand of these
/// wait: see the test that bounds their size.
#[derive(Debug)]
pub(super) struct Carried {
    bytes: FlowBytes,
    handshake: Rc<Handshake>,
    record: FlowRecord,
    /// Registration, share and count; given back when the flow ends.
    kept: Kept,
}

type Kept = (Registered, Admitted, Counted);

/// How suspicious a look is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// The device has opened another flow to the same name.
    First,
    /// It was probed [`LOOK_AGAIN`] ago.
    Again,
}

/// Cuts flows that are relayed.
pub(super) fn cut(shared: &Shared, flows: Vec<Key>, cut: Cut) {
    let end = match cut {
        Cut::Withdrawn => FlowEnd::PolicyWithdrawn,
        Cut::Drained => FlowEnd::Drained,
        Cut::Returned => FlowEnd::DeviceReturned,
        Cut::TunnelLost => FlowEnd::TunnelLost,
    };
    for (legs, carried) in flows.into_iter().filter_map(|key| shared.reactor.part(key)) {
        carried.broken_off(&legs, end);
    }
}

/// Has a flow see whether its device is still there; one that finds it gone ends.
pub(super) fn look(shared: &Shared, key: Key, look: Look) {
    let Some(pulses) = &shared.pulses else { return };
    let gone = shared.reactor.with(key, |_, legs| is_gone(&legs.device, pulses, look));
    if gone == Some(true) {
        cut(shared, vec![key], Cut::Returned);
    }
}

impl Carried {
    /// `told` bytes of the device went to the endpoint before the relay.
    pub(super) fn new(
        told: usize,
        handshake: Rc<Handshake>,
        record: FlowRecord,
        kept: Kept,
    ) -> Self {
        let bytes = FlowBytes::default();
        bytes.up.copied.set(told as u64);
        Self { bytes, handshake, record, kept }
    }

    /// Counts the flow as allowed and hands it to the thread's reactor.
    pub(super) fn begin(
        self,
        shared: &Shared,
        [device, endpoint]: [TcpStream; 2],
        onlookers: Onlookers,
    ) {
        shared.stats.allowed();
        self.kept.0.opened();
        let legs = match (unregistered(device), unregistered(endpoint)) {
            (Ok(device), Ok(endpoint)) => Legs { device, endpoint },
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(%error, "a flow could not be taken from the runtime");
                return self.finish(FlowEnd::InternalError);
            }
        };
        match shared.reactor.carry(legs, onlookers, self) {
            Ok(key) => {
                shared.reactor.with(key, |carried, _| carried.kept.0.relayed(key));
            }
            Err(refused) => {
                tracing::error!(error = %refused.error, "a flow could not be watched");
                refused.owner.broken_off(&refused.legs, FlowEnd::InternalError);
            }
        }
    }

    /// Ends a flow in the middle: bytes may be under way in a pipe; a reset says so, a FIN would not.
    fn broken_off(self, legs: &Legs, end: FlowEnd) {
        reset_on_close(&legs.device);
        reset_on_close(&legs.endpoint);
        self.finish(end);
    }

    fn finish(self, end: FlowEnd) {
        let traffic = self.traffic();
        let Self { bytes, handshake, mut record, kept: (registered, _, counted) } = self;
        counted.stats().moved(&bytes);
        registered.ended(traffic.up.saturating_add(traffic.down));
        record.set_handshake(handshake.facts());
        record.close(end, traffic);
    }

    /// Records what the flow has moved so far.
    pub(super) fn report(&self) {
        self.record.report(self.traffic());
    }

    fn traffic(&self) -> TrafficFacts {
        let FlowBytes { up, down } = &self.bytes;
        TrafficFacts {
            up: up.copied.get() + up.spliced.get(),
            down: down.copied.get() + down.spliced.get(),
            spliced: up.spliced.get() + down.spliced.get(),
        }
    }
}

impl Owner for Carried {
    fn bytes(&self) -> &FlowBytes {
        &self.bytes
    }

    fn ended(self, _legs: Legs, end: End) {
        self.finish(match end {
            End::Relayed(RelayEnd::ClosedByDevice) => FlowEnd::ClosedByDevice,
            End::Relayed(RelayEnd::ClosedByEndpoint) => FlowEnd::ClosedByEndpoint,
            End::Relayed(RelayEnd::Idle) => FlowEnd::Idle,
            End::Relayed(RelayEnd::ResetByDevice) => FlowEnd::ResetByDevice,
            End::Relayed(RelayEnd::ResetByEndpoint) => FlowEnd::ResetByEndpoint,
            End::BrokenOff => FlowEnd::InternalError,
        });
    }
}

/// Takes a socket from the runtime.
fn unregistered(socket: TcpStream) -> io::Result<OwnedFd> {
    Ok(socket.into_std()?.into())
}

/// Whether the device, which is there, is no longer at the other end of this flow. A flow
/// without anything unanswered is never taken for dead: it is probed, and a device that was
/// restarted resets it.
fn is_gone(device: &OwnedFd, pulses: &Pulses, look: Look) -> bool {
    if look == Look::Again {
        probe_as_usual(device);
    }
    let Some(pulse) = pulse(device, pulses, 0) else { return false };
    let unanswered = pulse.last_heard >= LOOK_AGAIN.mul_f32(0.9);
    if pulse.unacked > 0 {
        return pulse.retransmits >= MOST_RETRANSMITS;
    }
    match look {
        Look::First if pulse.probes >= MOST_PROBES => return true,
        Look::First if unanswered => probe_soon(device),
        Look::First => {}
        Look::Again => return pulse.probes > 0 && unanswered,
    }
    false
}

/// Whether nothing has come from a flow's endpoint since its tunnel fell silent.
pub(super) fn is_stranded(shared: &Shared, key: Key, silent: Duration) -> bool {
    let Some(pulses) = &shared.pulses else { return false };
    let pulse = shared.reactor.with(key, |carried, legs| {
        let (registered, ..) = &carried.kept;
        pulse(&legs.endpoint, pulses, registered.link())
    });
    pulse.flatten().is_some_and(|pulse| pulse.last_heard.min(pulse.last_data) >= silent)
}

/// What the kernel knows of a socket's other end, by the interface with this index (0: by any).
fn pulse(socket: &OwnedFd, pulses: &Pulses, link: u32) -> Option<Pulse> {
    let socket = SockRef::from(socket);
    let local = socket.local_addr().ok()?.as_socket()?;
    let peer = socket.peer_addr().ok()?.as_socket()?;
    pulses.of(local, peer, link).ok()?
}

/// Unanswered retransmissions of the same segment after which a device is gone; one can be lost on a
/// bad radio.
const MOST_RETRANSMITS: u8 = 2;
/// The same of keepalive probes, which are 20 s apart.
const MOST_PROBES: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::Reactor;

    /// Beside this a flow has what its pipes and chunks hold, and that is nothing while it is idle.
    #[test]
    fn an_idle_flow_is_small() {
        let (kept, all) = (size_of::<Carried>(), Reactor::<Carried>::FLOW_SIZE);
        assert!(all <= 448, "a connected flow takes {all} bytes, {kept} of them beside the relay");
    }
}
