//! What a question is answered with.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use super::cookie::Cookies;
use super::forward::{Forwarder, Relayed};
use super::ledger::{Ledger, Told, Transaction};
use super::message::{self, Content, Extended, Question, Read, Reply, Transport};
use super::rates::{Pace, Rates};
use super::stats::{DnsStats, count};
use crate::config::{LanDns, OtherNames};
use crate::name::{ServerName, Underscore};
use crate::net::addr::canonical;
use crate::net::neighbour::{Lookup, Neighbours};
use crate::policy::{Asking, Denial, Grant, Identity};
use crate::proxy::{Rules, RulesInForce};
use crate::reason::Reason;
use crate::resolve::{Endpoints, Refused};

/// Answers devices; one per thread.
#[derive(Debug)]
pub(super) struct Handler {
    rules: RulesInForce,
    neighbours: Arc<Neighbours>,
    lookup: Option<Lookup>,
    cookies: Cookies,
    forwarder: Forwarder,
    rates: RefCell<Rates>,
    pub(super) ledger: RefCell<Ledger>,
    pub(super) stats: Arc<DnsStats>,
    /// Which address of an answer comes first.
    turn: Cell<usize>,
}

/// A message and how it came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'b> {
    pub(super) bytes: &'b [u8],
    pub(super) from: SocketAddr,
    /// The resolver that the device believes to ask.
    pub(super) to: IpAddr,
    pub(super) transport: Transport,
}

/// What becomes of a message.
#[derive(Debug)]
pub(super) enum Outcome {
    /// These bytes go back.
    Answer(Vec<u8>),
    /// Nothing does.
    Silence,
}

impl Handler {
    pub(super) fn new(
        rules: RulesInForce,
        neighbours: Arc<Neighbours>,
        cookies: Cookies,
        stats: Arc<DnsStats>,
    ) -> Self {
        Self {
            rules,
            neighbours,
            lookup: Lookup::open().ok(),
            cookies,
            forwarder: Forwarder::new(),
            rates: RefCell::new(Rates::new()),
            ledger: RefCell::default(),
            stats,
            turn: Cell::new(0),
        }
    }

    /// Answers one message. Waits only for a name that has never been resolved, and for servers of the
    /// plant's own; never longer than a device does.
    pub(super) async fn handle(&self, message: Message<'_>) -> Outcome {
        let began = SystemTime::now();
        let device = canonical(message.from).ip();
        let rules = self.rules.now();
        let Some(lan) = rules.site.dns.lan() else { return Outcome::Silence };
        let pace = self.rates.borrow_mut().ask(device, lan.queries_per_second, Instant::now());
        if pace == Pace::Beyond {
            count(&self.stats.limited);
            self.note_limited(&rules, device, &message, began);
            return Outcome::Silence;
        }
        let question = match message::read(message.bytes) {
            Read::Question(question) => question,
            Read::Fault(bytes) => {
                count(&self.stats.malformed);
                return Outcome::Answer(bytes);
            }
            Read::Silence => {
                count(&self.stats.malformed);
                return Outcome::Silence;
            }
        };
        let asking = rules.recognised.asking(device, &self.neighbours, self.lookup.as_ref());
        let text = shown(&question);
        let decided = match asking {
            Ok(asking) => self.decide(&rules, lan, &question, asking, &text).await,
            Err(_) => Decided::refused(lan, Reason::DeviceUnknown, Told::default()),
        };
        count(match (decided.reason, decided.reply.code) {
            (Some(_), ResponseCode::ServFail) => &self.stats.failed,
            (Some(_), _) => &self.stats.refused,
            (None, _) if decided.forwarded => &self.stats.forwarded,
            (None, _) => &self.stats.answered,
        });
        let cookie = question.cookie.map(|cookie| self.cookies.answer(cookie, device));
        let bytes = question.encode(&decided.reply, cookie, message.transport);
        self.note(&rules, (device, asking.ok()), &question, &message, (text, decided), began);
        Outcome::Answer(bytes)
    }

    async fn decide(
        &self,
        rules: &Rules,
        lan: &LanDns,
        question: &Question,
        asking: Asking,
        text: &str,
    ) -> Decided {
        let zone_transfer = matches!(question.kind(), RecordType::AXFR | RecordType::IXFR);
        if !question.is_internet() || zone_transfer {
            return Decided::refused(lan, Reason::DnsNameRefused, Told::default());
        }
        let name = ServerName::parse(text.as_bytes(), Underscore::Refuse).map(|parsed| parsed.name);
        let known = name.as_ref().is_ok_and(|name| rules.policy.endpoint_of(name).is_ok());
        let forward = lan.forwards.iter().find(|forward| forward.holds(text));
        if let (false, Some(forward)) = (known, forward) {
            return Decided::relayed(self.forwarder.ask(&question.query, &forward.servers).await);
        }
        let Ok(name) = name else {
            return Decided::refused(lan, Reason::DnsNameRefused, Told::default());
        };
        match rules.policy.judge_name(asking, &name).outcome {
            Err(denial) => Decided::denied(lan, &denial),
            Ok(grant) if !matches!(question.kind(), RecordType::A | RecordType::ANY) => {
                // IPv4 addresses are all that flows are let to, so there is nothing else to tell. HTTPS
                // and SVCB could lead elsewhere.
                Decided::allowed(Reply::no_data(LONGEST_TTL), &grant)
            }
            Ok(grant) => {
                let found = rules.book.find(&grant, &rules.site.vpc.zones).await;
                let turn = self.turn.get();
                self.turn.set(turn.wrapping_add(1));
                let decided = Decided::resolved(&grant, found, turn);
                let table = rules.synthetic.as_ref();
                let table = table.filter(|_| rules.policy.may_omit_sni(asking));
                match table.and_then(|table| table.address_of(&name)) {
                    Some(address) => decided.standing_in(address),
                    None => decided,
                }
            }
        }
    }

    fn note(
        &self,
        rules: &Rules,
        (device, asking): (IpAddr, Option<Asking>),
        question: &Question,
        message: &Message<'_>,
        (name, decided): (String, Decided),
        began: SystemTime,
    ) {
        let asking = asking.unwrap_or(Asking { address: device, mac: None });
        self.ledger.borrow_mut().add(
            Transaction {
                asking,
                name: Some(name),
                kind: question.kind(),
                code: decided.reply.code,
                reason: decided.reason,
                told: decided.told,
                to: message.to,
                transport: message.transport,
                began,
                ended: SystemTime::now(),
            },
            || who(rules, asking),
        );
    }

    fn note_limited(&self, rules: &Rules, device: IpAddr, message: &Message<'_>, now: SystemTime) {
        // Not asked of the kernel: under a flood that would be the dearest part.
        let asking = Asking { address: device, mac: self.neighbours.heard(device) };
        self.ledger.borrow_mut().add(
            Transaction {
                asking,
                name: None,
                kind: RecordType::ANY,
                code: ResponseCode::Refused,
                reason: Some(Reason::LimitDeviceQueries),
                told: Told::default(),
                to: message.to,
                transport: message.transport,
                began: now,
                ended: now,
            },
            || who(rules, asking),
        );
    }
}

/// A reply, and what is recorded of it.
#[derive(Debug)]
struct Decided {
    reply: Reply,
    /// Why it is no answer.
    reason: Option<Reason>,
    forwarded: bool,
    told: Told,
}

impl Decided {
    fn refused(lan: &LanDns, reason: Reason, told: Told) -> Self {
        let error = Extended { code: BLOCKED, text: reason.code() };
        let reply = match lan.other_names {
            OtherNames::Refuse => Reply::error(ResponseCode::Refused, Some(error)),
            OtherNames::Nxdomain => Reply {
                code: ResponseCode::NXDomain,
                content: Content::NoData(LONGEST_TTL),
                error: Some(error),
            },
        };
        Self { reply, reason: Some(reason), forwarded: false, told }
    }

    fn denied(lan: &LanDns, denial: &Denial) -> Self {
        let told = Told {
            why: Some(denial.reason),
            remedy: denial.remedy(),
            rule: Some(denial.rule()),
            endpoint: denial.endpoint(),
            service: denial.service(),
            ..Told::default()
        };
        let mut decided = Self::refused(lan, Reason::DnsNameRefused, told);
        decided.reply.error = Some(Extended { code: PROHIBITED, text: denial.reason.code() });
        decided
    }

    fn allowed(reply: Reply, grant: &Grant) -> Self {
        let told = Told {
            rule: Some(Arc::clone(grant.rule())),
            endpoint: Some(Arc::clone(&grant.endpoint().id)),
            service: Some(Arc::clone(&grant.endpoint().service)),
            ..Told::default()
        };
        Self { reply, reason: None, forwarded: false, told }
    }

    fn resolved(grant: &Grant, found: Result<Endpoints, Refused>, turn: usize) -> Self {
        match found {
            Ok(endpoints) => {
                let seconds = seconds_left(&endpoints);
                let addresses = rotated(&endpoints, turn);
                let stale = Extended { code: STALE, text: "last good answer" };
                let reply = Reply {
                    code: ResponseCode::NoError,
                    content: Content::Addresses(addresses.clone(), seconds),
                    error: endpoints.last_good.then_some(stale),
                };
                let mut decided = Self::allowed(reply, grant);
                decided.told.addresses = addresses;
                decided.told.seconds = seconds;
                decided
            }
            Err(Refused { reason, detail }) => {
                let code = match reason {
                    Reason::ResolveFailed | Reason::ResolveTimeout => UNREACHABLE,
                    _ => OTHER,
                };
                let error = Some(Extended { code, text: reason.code() });
                let mut decided = Self::allowed(Reply::error(ResponseCode::ServFail, error), grant);
                decided.reason = Some(reason);
                decided.told.detail = Some(detail);
                decided
            }
        }
    }

    /// Names the address that stands for the name instead of its own, where it has some.
    fn standing_in(mut self, address: Ipv4Addr) -> Self {
        if let Content::Addresses(addresses, _) = &mut self.reply.content {
            *addresses = vec![address];
            self.told.addresses = vec![address];
        }
        self
    }

    fn relayed(relayed: Relayed) -> Self {
        let told = Told { forwarded_to: relayed.server, ..Told::default() };
        let failed = relayed.reply.code == ResponseCode::ServFail && relayed.server.is_none();
        let reason = failed.then_some(Reason::ResolveTimeout);
        Self { reply: relayed.reply, reason, forwarded: true, told }
    }
}

fn who(rules: &Rules, asking: Asking) -> (Identity, Arc<str>) {
    (rules.policy.identify(asking), Arc::clone(rules.policy.hash()))
}

/// The name as records show it: lower case, without the last dot, what no host name has escaped.
fn shown(question: &Question) -> String {
    match question.name_bytes() {
        Some(bytes) if bytes.iter().all(u8::is_ascii_graphic) => {
            let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
            if text.is_empty() { ".".to_owned() } else { text }
        }
        _ => question.query.name().to_ascii().to_ascii_lowercase(),
    }
}

/// For how long a device may use an answer.
fn seconds_left(endpoints: &Endpoints) -> u32 {
    let left = if endpoints.last_good {
        LAST_GOOD_TTL
    } else {
        endpoints.ttl.saturating_sub(endpoints.age)
    };
    u32::try_from(left.as_secs()).unwrap_or(LONGEST_TTL).min(LONGEST_TTL)
}

/// All addresses, each first in its turn: most devices take the first.
fn rotated(endpoints: &Endpoints, turn: usize) -> Vec<Ipv4Addr> {
    let mut addresses: Vec<Ipv4Addr> = endpoints
        .list()
        .iter()
        .filter_map(|endpoint| match endpoint.address().ip() {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        })
        .collect();
    let by = turn.checked_rem(addresses.len()).unwrap_or_default();
    addresses.rotate_left(by);
    addresses
}

/// Seconds. Longer, and devices would not hear of a change of the endpoint.
const LONGEST_TTL: u32 = 60;
/// As RFC 8767 section 4 recommends.
const LAST_GOOD_TTL: Duration = Duration::from_secs(30);
/// Extended errors (RFC 8914 section 4).
const OTHER: u16 = 0;
const STALE: u16 = 3;
const BLOCKED: u16 = 15;
const PROHIBITED: u16 = 18;
const UNREACHABLE: u16 = 22;
