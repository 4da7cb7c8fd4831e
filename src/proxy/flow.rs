//! One flow: hello, verdict, resolution, record, dial, relay, end.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::net::SendFlags;
use time::OffsetDateTime;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Rules;
use super::carried::Carried;
use super::dial::{Dialed, dial};
use super::fingerprints::{Seen, Shown};
use super::handshake::Handshake;
use super::inferred::infer;
use super::latency::SetUpStep;
use super::limits::{Admitted, TooMany};
use super::sightings::SeenRefusal;
use super::stats::Counted;
use super::thread::Shared;
use super::tracker::{By, Cut, Registered};
use crate::audit::{
    DeviceFacts, DialFacts, DnsFacts, FlowRecord, LearntFacts, NoteFacts, RuleFacts, Slot,
};
use crate::hello::alert::{Alert, alert_for};
use crate::hello::{Hello, HelloReader, Ja4, Progress, Refusal, Stopped};
use crate::intercept::Intercepted;
use crate::net::socket::reset_on_close;
use crate::policy::{Asking, Denial, Grant, catalogue};
use crate::reason::Reason;
use crate::relay::Onlookers;
use crate::resolve::{Endpoints, Refused};

/// Takes on an accepted connection: reserves its record and starts its task.
pub(super) fn begin(shared: &Rc<Shared>, intercepted: Intercepted) {
    let share = shared.limits.admit(intercepted.device.0.ip(), std::time::Instant::now());
    start(shared, intercepted, share);
}

/// Takes on a connection that was accepted too late.
pub(super) fn turn_away(shared: &Rc<Shared>, intercepted: Intercepted) {
    let detail = "the connection came while the box was shutting down".to_owned();
    start(shared, intercepted, Err(TooMany { reason: Reason::ShuttingDown, detail }));
}

fn start(shared: &Rc<Shared>, intercepted: Intercepted, share: Result<Admitted, TooMany>) {
    let Ok(slot) = shared.audit.reserve() else {
        // What cannot be recorded is not allowed. The log counts these and says how many they were
        // once it can be written again.
        shared.audit.count_unrecorded();
        shared.stats.denied(Reason::AuditUnavailable);
        reset_on_close(&intercepted.stream);
        return;
    };
    let registered = shared.tracker.register();
    tokio::task::spawn_local(live(Rc::clone(shared), intercepted, slot, share, registered));
}

/// A flow that was not connected.
struct Stop {
    reason: Reason,
    detail: Option<String>,
    remedy: Option<String>,
    alert: Option<Alert>,
}

/// What a flow begins with.
struct Asked<'a> {
    from: IpAddr,
    dialled: SocketAddr,
    share: &'a mut Result<Admitted, TooMany>,
}

/// A hello that names a server.
struct Heard {
    hello: Hello,
    ja4: Ja4,
    /// Every byte received.
    raw: Vec<u8>,
}

/// A flow that is connected; the endpoint has the hello.
struct Ready {
    endpoint: TcpStream,
    /// Bytes that the endpoint has.
    told: usize,
    handshake: Rc<Handshake>,
    onlookers: Onlookers,
}

/// The flow up to its relay; a flow that is refused ends here.
async fn live(
    shared: Rc<Shared>,
    intercepted: Intercepted,
    slot: Slot,
    mut share: Result<Admitted, TooMany>,
    registered: Registered,
) {
    let counted = Counted::live(&shared.stats);
    let Intercepted { stream: device, device: from, dialled } = intercepted;
    let mut record = slot
        .begin(DeviceFacts { address: from.0, mac: None, name: None, identity: "none" }, dialled.0);
    let asked = Asked { from: from.0.ip(), dialled: dialled.0, share: &mut share };
    match set_up(&shared, &device, asked, &mut record, &registered).await {
        Ok(Ready { endpoint, told, handshake, onlookers }) => {
            let Ok(share) = share else { return };
            record.share(&shared.common);
            let carried = Carried::new(told, handshake, record, (registered, share, counted));
            carried.begin(&shared, [device, endpoint], onlookers);
        }
        Err(stop) => {
            let asking = Asking { address: from.0.ip(), mac: record.mac() };
            let refusal = SeenRefusal {
                detail: stop.detail.as_deref(),
                remedy: stop.remedy.clone(),
                ..SeenRefusal::of(asking, stop.reason, record.server_name(), dialled.0.port())
            };
            shared.tracker.sightings(|seen| seen.refused(&refusal));
            refuse(&shared, device, record, stop).await;
        }
    }
}

async fn set_up(
    shared: &Shared,
    device: &TcpStream,
    asked: Asked<'_>,
    record: &mut FlowRecord,
    registered: &Registered,
) -> Result<Ready, Stop> {
    let Asked { from, dialled, share } = asked;
    let share = share.as_mut().map_err(|too_many| Stop::from(too_many.clone()))?;
    record.set_mac(shared.neighbours.heard(from));
    let began = Instant::now();
    let heard =
        until_cut(registered, read_hello(shared, device, (from, dialled.ip()), record)).await??;
    shared.stats.latencies.took(SetUpStep::Hello, began.elapsed());
    share.heard();
    let version = Some(heard.hello.facts.legacy_version);
    let deadline = Instant::now() + SET_UP;
    let asking = recognise(shared, from, record).map_err(|stop| stop.with_alert(version))?;
    let rules = shared.rules.now();
    let grant = judge(shared, &rules, asking, &heard, dialled.port(), record)
        .map_err(|stop| stop.with_alert(version))?;
    registered.granted(asking, &grant);
    let connecting = connect(shared, &rules, (asking.address, &grant), record, deadline);
    let dialed = until_cut(registered, connecting)
        .await
        .and_then(|connected| connected)
        .map_err(|stop| stop.with_alert(version))?;
    registered.connected(By {
        address: dialed.endpoint.address().ip(),
        interface: dialed.way.interface.clone(),
        link: dialed.way.index,
    });
    // Its interface may have been deleted since then, before anybody knew of the flow.
    if !rules.tunnels.still_has(&dialed.way) {
        return Err(Stop::new(Reason::TunnelDown).with_alert(version));
    }
    // The rules may have changed while the flow was being connected by the old ones.
    if !registered.held_by(&shared.rules.now(), OffsetDateTime::now_utc()) {
        return Err(Stop::new(Reason::DeviceNotAllowed).with_alert(version));
    }
    let mut endpoint = dialed.stream;
    let handing_over = tokio::time::timeout(HAND_OVER, endpoint.write_all(&heard.raw));
    let failed = match until_cut(registered, handing_over).await? {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("the endpoint closed before it had the hello: {error}")),
        Err(_) => Some("the endpoint did not take the hello in time".to_owned()),
    };
    if let Some(detail) = failed {
        reset_on_close(&endpoint);
        return Err(Stop { detail: Some(detail), ..Stop::new(Reason::EndpointUnreachable) });
    }
    let handshake = Rc::new(Handshake::default());
    let behind_hello = heard.raw.get(heard.hello.facts.bytes..).unwrap_or_default();
    let onlookers = handshake.onlookers(behind_hello);
    Ok(Ready { endpoint, told: heard.raw.len(), handshake, onlookers })
}

/// Who asks; a device that cannot be told is refused.
fn recognise(shared: &Shared, from: IpAddr, record: &mut FlowRecord) -> Result<Asking, Stop> {
    let recognised = shared.rules.now().recognised;
    let asking = recognised.asking(from, &shared.neighbours, shared.lookup.as_ref());
    let asking = asking.map_err(|error| Stop {
        detail: Some(error.to_string()),
        ..Stop::new(Reason::DeviceUnknown)
    })?;
    record.set_mac(asking.mac);
    Ok(asking)
}

async fn read_hello(
    shared: &Shared,
    device: &TcpStream,
    (from, dialled): (IpAddr, IpAddr),
    record: &mut FlowRecord,
) -> Result<Heard, Stop> {
    let deadline = Instant::now() + HELLO_DEADLINE;
    let mut reader = HelloReader::new();
    let mut heard = 0_usize;
    loop {
        let stopped = match tokio::time::timeout_at(deadline, device.readable()).await {
            Err(_) => Some(Stopped::Deadline),
            Ok(Err(_)) => Some(Stopped::Closed),
            Ok(Ok(())) => None,
        };
        if let Some(stopped) = stopped {
            let version = reader.record_version();
            return Err(refused_hello(shared, reader.stop(stopped), version, record));
        }
        let progress = {
            let mut scratch = shared.scratch.borrow_mut();
            match device.try_read(&mut scratch) {
                Ok(0) => None,
                Ok(count) => {
                    heard = heard.saturating_add(count);
                    record.set_heard(heard);
                    scratch.get(..count).map(|bytes| reader.push(bytes))
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(_) => None,
            }
        };
        match progress {
            None => {
                let version = reader.record_version();
                let refusal = reader.stop(Stopped::Closed);
                return Err(refused_hello(shared, refusal, version, record));
            }
            Some(Progress::Incomplete) => {}
            Some(Progress::Refused(refusal)) => {
                match infer(shared, &shared.rules.now(), from, dialled, refusal) {
                    Ok(hello) => {
                        let ja4 = shared.ja4.borrow_mut().ja4(&hello.facts.traits);
                        record.set_inferred(&hello.name, &hello.facts, ja4);
                        return Ok(Heard { hello, ja4, raw: reader.into_raw() });
                    }
                    Err(refusal) => {
                        let version = reader.record_version();
                        return Err(refused_hello(shared, refusal, version, record));
                    }
                }
            }
            Some(Progress::Hello(hello)) => {
                let ja4 = shared.ja4.borrow_mut().ja4(&hello.facts.traits);
                record.set_hello(Some(&hello.name), &hello.facts, ja4);
                return Ok(Heard { hello, ja4, raw: reader.into_raw() });
            }
        }
    }
}

fn refused_hello(
    shared: &Shared,
    refusal: Refusal,
    heard: Option<u16>,
    record: &mut FlowRecord,
) -> Stop {
    if let Some(facts) = &refusal.facts {
        let ja4 = shared.ja4.borrow_mut().ja4(&facts.traits);
        record.set_hello(None, facts, ja4);
    }
    if !refusal.first_bytes.is_empty() {
        record.set_first_bytes(&refusal.first_bytes);
    }
    let version = refusal.facts.as_ref().map(|facts| facts.legacy_version).or(heard);
    let detail = (!refusal.detail.is_empty()).then_some(refusal.detail);
    Stop { detail, ..Stop::new(refusal.reason) }.with_alert(version)
}

fn judge(
    shared: &Shared,
    rules: &Rules,
    asking: Asking,
    heard: &Heard,
    port: u16,
    record: &mut FlowRecord,
) -> Result<Grant, Stop> {
    let verdict = rules.policy.judge_at(asking, &heard.hello.name, port, OffsetDateTime::now_utc());
    record.set_identity(verdict.identity.name.clone(), verdict.identity.by);
    record.set_outlook(outlook(&heard.hello));
    let shown = Shown::by(asking, verdict.identity.name.as_ref());
    if shared.fingerprints.note(&shown, heard.ja4) == Seen::New {
        record.note_new_ja4();
    }
    let policy = Arc::clone(rules.policy.hash());
    match verdict.outcome {
        Ok(grant) => {
            record.set_rule(granted(policy, &grant));
            if let Some(denial) = grant.would_be() {
                let learnt = SeenRefusal::learnt(asking, denial, &heard.hello.name, port);
                shared.stats.learnt();
                shared.tracker.sightings(|seen| seen.refusals.note(&learnt, 1, SystemTime::now()));
                let (reason, remedy) = (denial.reason, denial.remedy());
                record.set_learnt(LearntFacts { reason, remedy });
            }
            Ok(grant)
        }
        Err(denial) => {
            record.set_rule(RuleFacts {
                policy,
                rule: denial.rule(),
                endpoint: denial.endpoint(),
                service: denial.service(),
            });
            Err(Stop { remedy: denial.remedy(), ..Stop::new(denial.reason) })
        }
    }
}

/// What AWS's endpoint will have against the hello; of other endpoints nothing is known.
fn outlook(hello: &Hello) -> Vec<NoteFacts> {
    let Some(known) = catalogue::classify(&hello.name) else { return Vec::new() };
    let objections = catalogue::objections(Some(&known), &hello.facts).into_iter();
    objections.map(|said| NoteFacts { code: said.code, sentence: said.sentence }).collect()
}

fn granted(policy: Arc<str>, grant: &Grant) -> RuleFacts {
    let (rule, endpoint) = (Arc::clone(grant.rule()), grant.endpoint());
    match grant.would_be() {
        // What learn mode allows belongs to no table of the file.
        Some(denial) => RuleFacts { policy, rule, endpoint: None, service: denial.service() },
        None => RuleFacts {
            policy,
            rule,
            endpoint: Some(Arc::clone(&endpoint.id)),
            service: Some(Arc::clone(&endpoint.service)),
        },
    }
}

/// A name of learn mode with a public address has no zone to mend: what policy says of it helps.
fn unresolved(grant: &Grant, refused: Refused) -> Stop {
    let learnt = grant.would_be().filter(|_| refused.reason == Reason::AddressPublic);
    let remedy = learnt.and_then(Denial::remedy);
    Stop { detail: Some(refused.detail), remedy, ..Stop::new(refused.reason) }
}

/// Resolution and the turn to dial, then the Open record and the connect side by side: nothing goes
/// upstream before the record is on disk, and the wait for the disk hides behind the wait for the
/// network.
async fn connect(
    shared: &Shared,
    rules: &Rules,
    (device, grant): (IpAddr, &Grant),
    record: &mut FlowRecord,
    deadline: Instant,
) -> Result<Dialed, Stop> {
    let latencies = &shared.stats.latencies;
    let began = Instant::now();
    let found = rules.book.find(grant, &rules.site.vpc.zones).await;
    latencies.took(SetUpStep::Resolve, began.elapsed());
    let endpoints = found.map_err(|refused| unresolved(grant, refused))?;
    record.set_dns(dns_facts(&endpoints));
    let mut place = shared.dials.enter(&grant.endpoint().id, device)?;
    place.turn().await?;
    let turn = shared.turn.get();
    shared.turn.set(turn.wrapping_add(1));
    let began = Instant::now();
    let opened = record.open();
    let committed = async {
        let committed = tokio::time::timeout_at(deadline, opened).await;
        latencies.took(SetUpStep::Audit, began.elapsed());
        committed
    };
    let dialing = dial(&endpoints, rules, &shared.memory, turn, deadline);
    let (committed, dialed) = tokio::join!(committed, dialing);
    let unavailable = match committed {
        Ok(Ok(())) => None,
        Ok(Err(unavailable)) => Some(unavailable.to_string()),
        Err(_) => Some("the record was not on disk in time".to_owned()),
    };
    if let Some(detail) = unavailable {
        let detail = Some(detail);
        return Err(Stop { detail, ..Stop::new(Reason::AuditUnavailable) });
    }
    match dialed {
        Ok(dialed) => {
            latencies.took(SetUpStep::Dial, dialed.took);
            record.set_dial(DialFacts {
                endpoint: dialed.endpoint.address(),
                zone: dialed.endpoint.zone().cloned(),
                local: dialed.local,
                interface: dialed.way.interface.clone(),
                connect: dialed.took,
            });
            Ok(dialed)
        }
        Err(failed) => {
            rules.book.doubt(grant.name());
            let detail = Some(failed.detail);
            Err(Stop { detail, ..Stop::new(failed.reason) })
        }
    }
}

async fn refuse(shared: &Shared, device: TcpStream, record: FlowRecord, stop: Stop) {
    shared.stats.denied(stop.reason);
    // A flow whose Open is written already is recorded as failed instead: the record knows.
    let description = stop.alert.map(|alert| alert.description);
    record.refuse(stop.reason, stop.detail.as_deref(), stop.remedy.as_deref(), description);
    if let Some(alert) = stop.alert {
        say_goodbye(&device, &alert.record).await;
    }
    reset_on_close(&device);
}

/// Sends the alert and lets the device take it: a reset right behind it could overtake it.
async fn say_goodbye(device: &TcpStream, alert: &[u8]) {
    // `MORE`: the alert waits for the FIN, and both go in one packet.
    let sent = rustix::net::send(device, alert, SendFlags::NOSIGNAL | SendFlags::MORE);
    if sent.is_err() {
        return;
    }
    if rustix::net::shutdown(device, rustix::net::Shutdown::Write).is_err() {
        return;
    }
    let mut sink = [0; 512];
    let until_closed = async {
        while device.readable().await.is_ok() {
            match device.try_read(&mut sink) {
                Ok(0) => return,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                _ => {}
            }
        }
    };
    // At most so long; a device that stays is reset.
    let _ = tokio::time::timeout(GOODBYE, until_closed).await;
}

/// A step of the set-up, unless the flow is cut meanwhile.
async fn until_cut<T>(registered: &Registered, step: impl Future<Output = T>) -> Result<T, Stop> {
    tokio::select! {
        biased;
        cut = registered.cut() => Err(Stop::new(match cut {
            Cut::Drained => Reason::ShuttingDown,
            Cut::TunnelLost => Reason::TunnelDown,
            Cut::Withdrawn | Cut::Returned => Reason::DeviceNotAllowed,
        })),
        done = step => Ok(done),
    }
}

fn dns_facts(endpoints: &Endpoints) -> DnsFacts {
    DnsFacts {
        resolver: endpoints.resolver,
        ttl: u32::try_from(endpoints.ttl.as_secs()).unwrap_or(u32::MAX),
        age: endpoints.age,
        last_good: endpoints.last_good,
        addresses: endpoints.list().iter().map(|endpoint| endpoint.address().ip()).collect(),
    }
}

impl From<TooMany> for Stop {
    fn from(TooMany { reason, detail }: TooMany) -> Self {
        Self { detail: Some(detail), ..Self::new(reason) }
    }
}

impl Stop {
    fn new(reason: Reason) -> Self {
        Self { reason, detail: None, remedy: None, alert: None }
    }

    fn with_alert(mut self, version: Option<u16>) -> Self {
        self.alert = alert_for(self.reason, version);
        self
    }
}

/// From the complete hello to the connected endpoint: below the 3 s after which a Greengrass core
/// gives up, whatever takes its time.
const SET_UP: Duration = Duration::from_millis(2_800);
/// A hello can be larger than a new socket's buffer; an endpoint that takes none of it is gone.
const HAND_OVER: Duration = Duration::from_millis(2_500);
/// From the accepted connection to the complete hello.
const HELLO_DEADLINE: Duration = Duration::from_secs(5);
const GOODBYE: Duration = Duration::from_secs(1);
