//! The flow audit log: one durable OCSF line per event, in a hash chain.
//!
//! Owns the record format and the spool. A flow reserves room for its records before anything else
//! ([`Audit::reserve`]); its Open record is on disk before a byte goes upstream
//! ([`FlowRecord::open`]); its end is recorded exactly once, also when its task panics or is dropped.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::config::{InterfaceName, MacAddr, OnFull};
use crate::hello::HelloFacts;
use crate::name::ServerName;
use crate::reason::Reason;

/// Who opened the flow.
#[derive(Clone, Debug)]
pub struct DeviceFacts {
    /// Its address and port.
    pub address: SocketAddr,
    /// Its hardware address, where known.
    pub mac: Option<MacAddr>,
    /// Its name in the configuration, where it has one.
    pub name: Option<Arc<str>>,
    /// What it was recognised by: `mac`, `address`, `network` or `none`.
    pub identity: &'static str,
}

/// What the policy said.
#[derive(Clone, Debug)]
pub struct RuleFacts {
    /// The configuration's hash.
    pub policy: Arc<str>,
    /// The rule: `device press-3`, `policy.default`, or what refused.
    pub rule: Arc<str>,
    /// The `[endpoint.*]` table, where one matched.
    pub endpoint: Option<Arc<str>>,
    /// The AWS service, where known.
    pub service: Option<Arc<str>>,
}

/// What private resolution said.
#[derive(Clone, Debug)]
pub struct DnsFacts {
    /// The resolver that answered.
    pub resolver: SocketAddr,
    /// TTL of the answer, in seconds.
    pub ttl: u32,
    /// Age of the answer when it was used.
    pub age: Duration,
    /// The answer was past its TTL and used because no resolver answered.
    pub last_good: bool,
    /// All addresses it held.
    pub addresses: Vec<IpAddr>,
}

/// The connection through the tunnel.
#[derive(Clone, Debug)]
pub struct DialFacts {
    /// The ENI's address and port.
    pub endpoint: SocketAddr,
    /// Its availability zone, where configured.
    pub zone: Option<Arc<str>>,
    /// The box's own address and port on the tunnel side.
    pub local: SocketAddr,
    /// The tunnel interface.
    pub interface: InterfaceName,
    /// How long the connect took.
    pub connect: Duration,
}

/// Bytes moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrafficFacts {
    /// Device to endpoint.
    pub up: u64,
    /// Endpoint to device.
    pub down: u64,
    /// Of all these bytes, how many were spliced.
    pub spliced: u64,
}

/// How an allowed flow that was connected ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowEnd {
    /// `closed_by_device`
    ClosedByDevice,
    /// `closed_by_endpoint`
    ClosedByEndpoint,
    /// `idle`
    Idle,
    /// `drained`: the box shut down.
    Drained,
    /// `reset_by_device`
    ResetByDevice,
    /// `reset_by_endpoint`
    ResetByEndpoint,
    /// `policy_withdrawn`
    PolicyWithdrawn,
    /// `internal_error`: the flow's task ended without saying how.
    InternalError,
}

/// How the log is set up.
#[derive(Clone, Debug)]
pub struct AuditOptions {
    /// Where segments are kept; made if missing, mode 0750.
    pub directory: PathBuf,
    /// What happens when the disk is full.
    pub on_full: OnFull,
    /// `site.name`: the box in records.
    pub site: String,
    /// `site.region`.
    pub region: String,
    /// How many flows may have reserved room at once.
    pub slots: usize,
}

/// A handle on the log; cheap to clone, used by every thread.
#[derive(Clone, Debug)]
pub struct Audit {}

/// No room for another flow's records, or the log cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AuditUnavailable(pub String);

/// What `status` says of the log.
#[derive(Clone, Debug, serde::Serialize)]
pub struct AuditStatus {
    /// Sequence number of the last durable record.
    pub seq: u64,
    /// SHA-256 of the last durable line, hex.
    pub head: String,
    /// Records that no sink has taken yet.
    pub unshipped: u64,
    /// New flows are refused because there is no room.
    pub full: bool,
    /// Why the log cannot be written, where it cannot.
    pub failure: Option<String>,
    /// Where it is.
    pub directory: PathBuf,
}

impl Audit {
    /// Opens or continues the log of a directory and starts its writer thread.
    ///
    /// # Errors
    /// What stands in the way, in one sentence with the path and what to do.
    pub fn start(options: AuditOptions) -> Result<Self, AuditUnavailable> {
        let _ = options;
        todo!()
    }

    /// Reserves room for all records of one flow: its Open and its end, or its refusal.
    ///
    /// # Errors
    /// There is no room, or the log cannot be written: the flow must be refused.
    pub fn reserve(&self) -> Result<Slot, AuditUnavailable> {
        todo!()
    }

    /// Counts.
    pub fn count_unrecorded(&self) {}

    /// How the log is doing.
    pub fn status(&self) -> AuditStatus {
        todo!()
    }

    /// Writes what waits, makes it durable and ends the writer thread.
    pub fn close(self) {}
}

/// Room for one flow's records.
#[derive(Debug)]
pub struct Slot {}

impl Slot {
    /// Begins the record of a flow.
    pub fn begin(self, device: DeviceFacts, dialled: SocketAddr) -> FlowRecord {
        let _ = (device, dialled);
        todo!()
    }
}

/// The record of one flow, filled while it lives. Dropping it unfinished records an end by itself:
/// a refusal with `shutting_down` when nothing was opened, else `internal_error`.
#[derive(Debug)]
pub struct FlowRecord {}

impl FlowRecord {
    /// The flow's id (`connection_info.uid`, `metadata.correlation_uid`), a UUIDv7.
    pub fn uid(&self) -> Uuid {
        todo!()
    }

    /// Adds.
    pub fn set_mac(&mut self, _mac: Option<MacAddr>) {}

    /// Adds who the device is, once policy has recognised it.
    pub fn set_identity(&mut self, name: Option<Arc<str>>, identity: &'static str) {
        let _ = (name, identity);
    }

    /// Adds what the hello said.
    pub fn set_hello(&mut self, name: Option<&ServerName>, facts: &HelloFacts) {
        let _ = (name, facts);
    }

    /// Adds the first bytes of what was not TLS, at most 16.
    pub fn set_first_bytes(&mut self, bytes: &[u8]) {
        let _ = bytes;
    }

    /// Adds what the policy said.
    pub fn set_rule(&mut self, rule: RuleFacts) {
        let _ = rule;
    }

    /// Adds what resolution said.
    pub fn set_dns(&mut self, dns: DnsFacts) {
        let _ = dns;
    }

    /// Adds the connection through the tunnel.
    pub fn set_dial(&mut self, dial: DialFacts) {
        let _ = dial;
    }

    /// Says where the flow's byte counts can be read when the record ends by itself.
    pub fn watch_traffic(&mut self, traffic: Rc<dyn Fn() -> TrafficFacts>) {
        let _ = traffic;
    }

    /// Records that the flow is allowed. The future resolves when the record is on disk; nothing may
    /// go upstream before.
    ///
    /// # Errors
    /// The record could not be made durable: the flow must be refused.
    pub fn open(&mut self) -> impl Future<Output = Result<(), AuditUnavailable>> + 'static {
        async { todo!() }
    }

    /// Records a refusal: nothing was opened.
    pub fn refuse(
        self,
        reason: Reason,
        detail: Option<&str>,
        remedy: Option<&str>,
        alert: Option<u8>,
    ) {
        let _ = (reason, detail, remedy, alert);
    }

    /// Records that an opened flow could not be connected.
    pub fn fail(self, reason: Reason, detail: Option<&str>) {
        let _ = (reason, detail);
    }

    /// Records the end of a flow that was connected.
    pub fn close(self, end: FlowEnd, traffic: TrafficFacts) {
        let _ = (end, traffic);
    }
}
