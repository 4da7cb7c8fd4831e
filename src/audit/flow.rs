//! The record of one flow: filled by the rooms it passes, finished exactly once.
//!
//! Everything but the record's place in the chain is serialised here, on the flow's own thread, so
//! that the writer only hashes and writes.

use std::cell::Cell;
use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use uuid::Uuid;

use super::chain::Hex;
use super::common::{Answer, CommonFacts, Packed, Path, Told};
use super::community::community_id;
use super::event::Event;
use super::inbox::{Entry, Part, Shared};
use super::kind::{self, Kind};
use super::record::{self, Record};
use super::tls::MAX_LIST;
use super::{
    AuditUnavailable, DeviceFacts, DialFacts, DnsFacts, FlowEnd, Handle, HandshakeFacts,
    LearntFacts, NoteFacts, RuleFacts, TrafficFacts, clock, uid,
};
use crate::config::MacAddr;
use crate::hello::{HelloFacts, Ja4};
use crate::name::ServerName;
use crate::reason::Reason;

/// Room for one flow's records. Dropping it gives the room back.
#[derive(Debug)]
pub struct Slot {
    handle: Arc<Handle>,
    /// A queued end takes the slot with it; the writer gives it back once the end is durable.
    spent: bool,
}

impl Slot {
    pub(super) fn take(handle: &Arc<Handle>) -> Result<Self, AuditUnavailable> {
        handle.shared.take_slot()?;
        Ok(Self { handle: Arc::clone(handle), spent: false })
    }

    /// Begins the record of a flow.
    pub fn begin(self, device: DeviceFacts, dialled: SocketAddr) -> FlowRecord {
        FlowRecord {
            slot: self,
            uid: uid::fresh(),
            state: State::Fresh,
            started: clock::unix_ms(),
            since: Instant::now(),
            device: device.address.into(),
            mac: device.mac,
            name: device.name,
            dialled: dialled.into(),
            told: Rc::new(Told { identity: device.identity, ..Told::default() }),
            answer_age_ms: 0,
            local_port: 0,
            connect_us: 0,
            heard: 0,
            reported: Cell::default(),
            handshake: HandshakeFacts::default(),
        }
    }

    fn shared(&self) -> &Shared {
        &self.handle.shared
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.spent {
            self.shared().free_slots(1);
        }
    }
}

/// The record of one flow, filled while it lives. Dropping it unfinished records an end by itself:
/// a refusal with `shutting_down` when nothing was opened, else `internal_error`.
pub struct FlowRecord {
    slot: Slot,
    uid: Uuid,
    state: State,
    /// Wall time of the accept, in ms.
    started: u64,
    since: Instant,
    device: Packed,
    mac: Option<MacAddr>,
    name: Option<Arc<str>>,
    dialled: Packed,
    /// Of its own until [`FlowRecord::share`].
    told: Rc<Told>,
    answer_age_ms: u32,
    local_port: u16,
    connect_us: u32,
    /// Bytes that were read from the device before the flow was connected.
    heard: u32,
    /// What records of intervals have said.
    reported: Cell<TrafficFacts>,
    /// Known late, and then not worth sharing.
    handshake: HandshakeFacts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fresh,
    /// The Open is queued; whether it became durable is the writer's business.
    Opened,
    Ended,
}

impl FlowRecord {
    /// The flow's id (`connection_info.uid`, `metadata.correlation_uid`), a UUIDv7.
    pub fn uid(&self) -> Uuid {
        self.uid
    }

    /// The device's hardware address, as far as it is known.
    pub fn mac(&self) -> Option<MacAddr> {
        self.mac
    }

    /// The name that the device asked for, as far as it is known.
    pub fn server_name(&self) -> Option<&ServerName> {
        self.told.tls.name()
    }

    /// Adds the device's hardware address, where it is known.
    pub fn set_mac(&mut self, mac: Option<MacAddr>) {
        self.mac = mac;
    }

    /// Adds who the device is, once policy has recognised it.
    pub fn set_identity(&mut self, name: Option<Arc<str>>, identity: &'static str) {
        self.name = name;
        self.told().identity = identity;
    }

    /// Adds what the hello said, and its fingerprint.
    pub fn set_hello(&mut self, name: Option<&ServerName>, facts: &HelloFacts, ja4: Ja4) {
        self.told().tls.set_hello(name, facts, ja4);
    }

    /// Adds a hello without a name, and the name for which the dialled address stands.
    pub fn set_inferred(&mut self, name: &ServerName, facts: &HelloFacts, ja4: Ja4) {
        self.told().tls.set_inferred(name, facts, ja4);
    }

    /// Adds what the endpoint will have against the hello.
    pub fn set_outlook(&mut self, notes: Vec<NoteFacts>) {
        self.told().tls.outlook = notes.into();
    }

    /// Adds what the plaintext part of the handshake with the endpoint said.
    pub fn set_handshake(&mut self, handshake: HandshakeFacts) {
        self.handshake = handshake;
    }

    /// Says how many bytes were read from the device so far, before the flow was connected.
    pub fn set_heard(&mut self, bytes: usize) {
        self.heard = u32::try_from(bytes).unwrap_or(u32::MAX);
    }

    /// Adds the first bytes of what was not TLS, at most 16.
    pub fn set_first_bytes(&mut self, bytes: &[u8]) {
        let first = bytes.get(..MAX_FIRST_BYTES).unwrap_or(bytes);
        self.told().first_bytes = Hex(first).to_string();
    }

    /// Adds what the policy said.
    pub fn set_rule(&mut self, rule: RuleFacts) {
        self.told().rule = Some(rule);
    }

    /// Says that only learn mode lets the flow through.
    pub fn set_learnt(&mut self, learnt: LearntFacts) {
        self.told().learnt = Some(learnt);
    }

    /// Notes that the device has shown other JA4 fingerprints before, and this one never.
    pub fn note_new_ja4(&mut self) {
        self.told().ja4_new = true;
    }

    /// Adds what resolution said.
    pub fn set_dns(&mut self, dns: DnsFacts) {
        let DnsFacts { resolver, ttl, age, last_good, addresses } = dns;
        self.answer_age_ms = u32::try_from(millis(age)).unwrap_or(u32::MAX);
        self.told().dns = Some(Answer { resolver, ttl, last_good, addresses });
    }

    /// Adds the connection through the tunnel.
    pub fn set_dial(&mut self, dial: DialFacts) {
        let DialFacts { endpoint, zone, local, interface, connect } = dial;
        self.local_port = local.port();
        self.connect_us = u32::try_from(micros(connect)).unwrap_or(u32::MAX);
        self.told().dial = Some(Path { endpoint, zone, local: local.ip(), interface });
    }

    /// Keeps what other flows' records say alike only once. For a flow that will live; what is set
    /// later is the flow's own again until the next call.
    pub fn share(&mut self, common: &CommonFacts) {
        self.told = common.0.intern(Rc::clone(&self.told));
    }

    fn told(&mut self) -> &mut Told {
        Rc::make_mut(&mut self.told)
    }

    /// Records that the flow is allowed. The future resolves when the record is on disk; nothing may
    /// go upstream before. Dropping the future does not take the record back.
    ///
    /// # Errors
    /// The record could not be made durable: the flow must be refused. Its Open is then void, unless
    /// the flow ends with anything but a refusal for `audit_unavailable`.
    pub fn open(&mut self) -> impl Future<Output = Result<(), AuditUnavailable>> + 'static {
        let waits = (self.state == State::Fresh).then(|| {
            let (waiter, waits) = oneshot::channel();
            let body = self.opened();
            self.state = State::Opened;
            self.push(body, Part::Open(waiter));
            waits
        });
        let handle = Arc::clone(&self.slot.handle);
        async move {
            let Some(waits) = waits else {
                return Err(AuditUnavailable("the flow's record was opened before".to_owned()));
            };
            waits.await.unwrap_or_else(|_| Err(handle.shared.unavailable()))
        }
    }

    /// Records a refusal: nothing was opened.
    ///
    /// A flow that was opened is recorded as failed with this reason instead, unless the reason is
    /// that its Open could not be made durable.
    pub fn refuse(
        mut self,
        reason: Reason,
        detail: Option<&str>,
        remedy: Option<&str>,
        alert: Option<u8>,
    ) {
        let kind = match (self.state, reason) {
            (_, Reason::AuditUnavailable) => &kind::UNRECORDED,
            (State::Opened, _) => &kind::FAILED,
            _ => &kind::REFUSED,
        };
        let detail = detail.filter(|detail| !detail.is_empty());
        self.end(&Event { detail, remedy, alert, ..self.refusal(kind, reason) });
    }

    /// Records that an opened flow could not be connected.
    pub fn fail(self, reason: Reason, detail: Option<&str>) {
        self.refuse(reason, detail, None, None);
    }

    /// Records what an opened flow has moved since its Open or the last such record, where records are
    /// taken now; else the next one says it. Nothing waits for it, and it takes no room from the
    /// flow's end.
    pub fn report(&self, total: TrafficFacts) {
        if self.state != State::Opened || self.slot.shared().is_refusing() {
            return;
        }
        let reported = self.reported.replace(total);
        self.push(self.body(&Event::interval(total, reported)), Part::Extra);
    }

    /// Records the end of a flow that was connected.
    pub fn close(mut self, end: FlowEnd, traffic: TrafficFacts) {
        match self.state {
            State::Opened => self.end(&Event::end(end, traffic)),
            _ => self.end_unopened("ended as if it were open, but nothing was opened"),
        }
    }

    fn opened(&self) -> Vec<u8> {
        let Some(learnt) = &self.told.learnt else {
            return self.body(&Event::new(&kind::OPENED, kind::CODE_OPEN));
        };
        let code = format!("{}{}", kind::CODE_WOULD_REFUSE, learnt.reason);
        let remedy = Some(learnt.remedy.as_deref().unwrap_or(learnt.reason.remedy()));
        self.body(&Event { remedy, ..Event::new(&kind::LEARNT, &code) })
    }

    fn end_unopened(&mut self, detail: &str) {
        let refusal = self.refusal(&kind::REFUSED, Reason::ShuttingDown);
        self.end(&Event { detail: Some(detail), ..refusal });
    }

    fn refusal<'a>(&self, kind: &'static Kind, reason: Reason) -> Event<'a> {
        let state = match reason {
            _ if self.told.dial.is_some() => kind::STATE_CONNECTED,
            Reason::EndpointRefused => kind::STATE_REJECTED,
            _ => kind::STATE_TRIED,
        };
        let opened = self.state == State::Opened;
        let event = Event::refusal(kind, reason, self.heard.into());
        Event { state: opened.then_some(state), ..event }
    }

    fn end(&mut self, event: &Event<'_>) {
        let refusal = event.kind.activity == kind::REFUSED.activity;
        let body = self.body(event);
        self.state = State::Ended;
        self.slot.spent = true;
        self.push(body, if refusal { Part::Refusal } else { Part::End });
    }

    fn push(&self, body: Vec<u8>, part: Part) {
        self.slot.shared().push(Entry { flow: self.uid, body, part });
    }

    fn body(&self, event: &Event<'_>) -> Vec<u8> {
        let shared = self.slot.shared();
        let refused = event.kind.activity == kind::REFUSED.activity;
        let profiles = if refused { kind::PROFILES_REFUSED } else { kind::PROFILES_ALLOWED };
        let alive = [kind::OPENED.activity, kind::INTERVAL.activity];
        let ended = !alive.contains(&event.kind.activity);
        // A wall clock that was set back must not let a flow end before it began.
        let now = clock::unix_ms().max(self.started);
        let flags = self.flag_history(event);
        let community = community_id(self.device.into(), self.dialled.into());
        let rule = self.told.rule.as_ref();
        record::body(&Record {
            metadata: record::Metadata::new(&shared.site, profiles, Some(self.uid)),
            class: event.kind.into(),
            time: now,
            start_time: Some(self.started),
            end_time: ended.then_some(now),
            duration: (event.kind.activity != kind::OPENED.activity)
                .then(|| millis(self.since.elapsed())),
            count: None,
            status_code: event.code,
            status_detail: event.reason.map(Reason::sentence),
            policy: rule.map(|rule| record::Policy::applied(&shared.site, &rule.policy)),
            firewall_rule: rule.map(|rule| record::FirewallRule::new(&rule.rule, "tls.sni")),
            app_protocol_name: self.told.tls.application(),
            src_endpoint: self.source(),
            dst_endpoint: Some(self.destination()),
            connection_info: Some(record::ConnectionInfo {
                uid: Some(record::Uid(self.uid)),
                direction_id: kind::OUTBOUND,
                protocol_num: kind::PROTOCOL_TCP,
                protocol_name: Some("tcp"),
                protocol_ver_id: Some(kind::ip_version(self.device.ip())),
                boundary_id: (!refused).then_some(kind::BOUNDARY_VPN),
                community_uid: Some(&community),
                flag_history: Some(&flags),
            }),
            proxy_endpoint: self.told.dial.as_ref().map(|dial| record::ProxyEndpoint {
                ip: dial.local.to_canonical(),
                port: self.local_port,
                interface_name: Some(dial.interface.as_str()),
                zone: None,
            }),
            traffic: event.traffic.map(Into::into),
            cumulative_traffic: event.total.map(Into::into),
            tls: self.told.tls.object(self.handshake, event),
            ja4_fingerprint_list: self.told.tls.fingerprint(),
            device: record::Device::new(&shared.site, &shared.region),
            unmapped: record::Unmapped { egress: self.egress(event) },
        })
    }

    fn source(&self) -> record::SrcEndpoint<'_> {
        let name = self.name.as_deref();
        record::SrcEndpoint {
            uid: name,
            name,
            ip: Some(self.device.ip()),
            port: Some(self.device.port()),
            mac: self.mac.map(record::Text),
            type_id: kind::TYPE_IOT,
        }
    }

    fn destination(&self) -> record::DstEndpoint<'_> {
        record::DstEndpoint {
            hostname: self.told.tls.name().map(ServerName::as_str),
            ip: self.dialled.ip(),
            port: Some(self.dialled.port()),
            svc_name: self.told.rule.as_ref().and_then(|rule| rule.service.as_deref()),
            proxy_endpoint: self.told.dial.as_ref().map(|dial| record::ProxyEndpoint {
                ip: dial.endpoint.ip().to_canonical(),
                port: dial.endpoint.port(),
                interface_name: None,
                zone: dial.zone.as_deref(),
            }),
        }
    }

    fn egress<'a>(&'a self, event: &Event<'a>) -> record::Egress<'a> {
        let refused = event.kind.activity == kind::REFUSED.activity;
        let dialled = self.dialled.ip();
        let dns = self.told.dns.as_ref();
        let addresses = |dns: &'a Answer| dns.addresses.get(..MAX_LIST).unwrap_or(&dns.addresses);
        let mut egress = record::Egress {
            v: kind::EGRESS_VERSION,
            reason: event.reason.map(Reason::code),
            stage: event.reason.map(|reason| reason.stage().as_str()),
            detail: event.detail,
            remedy: event.remedy.or(event.reason.map(Reason::remedy)),
            identity: Some(self.told.identity),
            endpoint: self.told.rule.as_ref().and_then(|rule| rule.endpoint.as_deref()),
            ja4_new: self.told.ja4_new.then_some(true),
            would_refuse: self.told.learnt.as_ref().map(|learnt| learnt.reason.code()),
            first_bytes: Some(self.told.first_bytes.as_str()).filter(|bytes| !bytes.is_empty()),
            dns: dns.map(|dns| record::DnsPart {
                resolver: dns.resolver,
                ttl: dns.ttl,
                age_ms: self.answer_age_ms.into(),
                last_good: dns.last_good,
                addresses: addresses(dns),
            }),
            connect_us: self.told.dial.as_ref().map(|_| self.connect_us.into()),
            destination_match: dns.map(|dns| dns.addresses.contains(&dialled)),
            conn_state: event.state,
            spliced: event.traffic.map(|traffic| traffic.spliced).filter(|_| !refused),
            clock: self.slot.shared().clock(),
            mono_ns: clock::mono_ns(),
            ..record::Egress::default()
        };
        self.told.tls.add_to(&mut egress, self.handshake, event);
        egress
    }

    /// Zeek's history letters, of what the gate itself saw: the device's handshake with it, data
    /// both ways, and how the ends ended.
    fn flag_history(&self, event: &Event<'_>) -> String {
        let mut flags = String::from("ShA");
        let traffic = event.traffic.unwrap_or_default();
        if self.told.tls.heard() || !self.told.first_bytes.is_empty() || traffic.up > 0 {
            flags.push('D');
        }
        if traffic.down > 0 || event.alert.is_some() {
            flags.push('d');
        }
        flags.push_str(event.flags);
        flags
    }
}

impl Drop for FlowRecord {
    fn drop(&mut self) {
        match self.state {
            State::Ended => {}
            State::Fresh => self.end_unopened("the flow's task ended without a verdict"),
            State::Opened => {
                let nothing = TrafficFacts::default();
                self.end(&Event::end(FlowEnd::InternalError, nothing));
            }
        }
    }
}

impl fmt::Debug for FlowRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowRecord")
            .field("uid", &self.uid)
            .field("state", &self.state)
            .field("device", &self.device)
            .field("dialled", &self.dialled)
            .finish_non_exhaustive()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

const MAX_FIRST_BYTES: usize = 16;
