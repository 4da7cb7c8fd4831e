//! The address book: names resolved ahead, kept fresh, and remembered while resolvers are away.
//!
//! Names that are allowed exactly have an entry from the start; others (any bucket of a region) get
//! one when a device asks. Each entry is kept by one task, so a storm of flows for one name causes
//! one query. A flow reads the book without waiting unless the name has never been resolved.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::guard::{Endpoints, Offered, Refused, admit, check};
use super::upstream::{Answer, ResolverStatus, Upstream, UpstreamError};
use crate::config::{Site, Zone};
use crate::name::ServerName;
use crate::policy::{ExactName, Grant};
use crate::reason::Reason;

/// What the book follows from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookOptions {
    /// `resolver.inbound`.
    pub inbound: Vec<SocketAddr>,
    /// `resolver.last-good`.
    pub last_good: Duration,
    /// `vpc.networks`.
    pub vpc: Vec<Ipv4Net>,
}

impl BookOptions {
    /// The options of a site.
    pub fn new(site: &Site) -> Self {
        Self {
            inbound: site.resolver.inbound.clone(),
            last_good: site.resolver.last_good,
            vpc: site.vpc.networks.clone(),
        }
    }
}

/// The address book of a site; shared by all threads.
#[derive(Debug)]
pub struct Book {
    options: BookOptions,
    upstream: Arc<Upstream>,
    entries: RwLock<HashMap<ServerName, Arc<Entry>>>,
    runtime: Handle,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// One name, for `status`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct NameStatus {
    /// The name.
    pub name: ServerName,
    /// Its addresses.
    pub addresses: Vec<Ipv4Addr>,
    /// Seconds since they were learnt.
    pub age_seconds: Option<u64>,
    /// The addresses are past their TTL and used because no resolver answers.
    pub last_good: bool,
    /// What went wrong with the last question.
    pub error: Option<String>,
}

/// What a search found, and the answer behind it: for people who ask why.
#[derive(Clone, Debug)]
pub struct Explained {
    /// The last answer, where there is one, also when it was refused.
    pub last: Option<LastAnswer>,
    /// What a flow gets.
    pub outcome: Result<Endpoints, Refused>,
}

/// The last answer for a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastAnswer {
    /// Its addresses.
    pub addresses: Vec<Ipv4Addr>,
    /// Who gave it.
    pub resolver: SocketAddr,
    /// How long it is valid.
    pub ttl: Duration,
    /// How old it is.
    pub age: Duration,
    /// What went wrong with a later question.
    pub error: Option<String>,
}

#[derive(Debug)]
struct Entry {
    known: watch::Sender<Known>,
    again: Notify,
    kept: Kept,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Ahead,
    OnDemand,
}

#[derive(Clone, Debug, Default)]
struct Known {
    answer: Option<(Answer, Instant)>,
    error: Option<UpstreamError>,
}

impl Known {
    fn last(&self) -> Option<LastAnswer> {
        let (answer, learnt) = self.answer.as_ref()?;
        Some(LastAnswer {
            addresses: answer.addresses.clone(),
            resolver: answer.resolver,
            ttl: answer.ttl,
            age: learnt.elapsed(),
            error: self.error.as_ref().map(ToString::to_string),
        })
    }
}

impl Book {
    /// An empty book, whose entries are kept by tasks of the calling runtime.
    pub fn new(options: BookOptions, upstream: Upstream) -> Arc<Self> {
        Arc::new(Self {
            options,
            upstream: Arc::new(upstream),
            entries: RwLock::default(),
            runtime: Handle::current(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        })
    }

    /// What it was made from.
    pub fn options(&self) -> &BookOptions {
        &self.options
    }

    /// Says which names to keep resolved ahead. Entries that are no longer among them are dropped.
    pub fn keep(self: &Arc<Self>, names: &[ExactName]) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|name, entry| {
            entry.kept == Kept::OnDemand || names.iter().any(|exact| exact.name == *name)
        });
        for exact in names {
            let known = match entries.get(&exact.name) {
                Some(entry) if entry.kept == Kept::Ahead => continue,
                Some(entry) => entry.known.borrow().clone(),
                None => Known::default(),
            };
            let entry = self.start(&exact.name, Kept::Ahead, known);
            entries.insert(exact.name.clone(), entry);
        }
    }

    /// Takes over what another book has learnt, so that a reload while no resolver answers forgets
    /// nothing. Addresses are judged by this book's networks when they are used.
    pub fn inherit(self: &Arc<Self>, other: &Self) {
        let learnt = other.entries.read().unwrap_or_else(PoisonError::into_inner);
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        for (name, entry) in learnt.iter().filter(|(_, entry)| entry.kept == Kept::Ahead) {
            let known = entry.known.borrow().clone();
            entries.insert(name.clone(), self.start(name, Kept::Ahead, known));
        }
    }

    /// The endpoints of a grant. Waits only for a name that has never been resolved.
    ///
    /// # Errors
    /// Why the flow must be refused.
    pub async fn find(
        self: &Arc<Self>,
        grant: &Grant,
        zones: &[Zone],
    ) -> Result<Endpoints, Refused> {
        let entry = self.entry(grant.name())?;
        let mut known = entry.known.subscribe();
        let settled = known.wait_for(|known| known.answer.is_some() || known.error.is_some());
        let known = match tokio::time::timeout(FIRST_ANSWER, settled).await {
            Ok(Ok(known)) => known.clone(),
            Ok(Err(_)) | Err(_) => {
                return Err(Refused {
                    reason: Reason::ResolveTimeout,
                    detail: format!("no answer for {} yet", grant.name()),
                });
            }
        };
        self.judge(&known, grant, zones)
    }

    /// The endpoints of a grant as [`Book::find`] finds them, with the answer behind them.
    pub async fn explain(self: &Arc<Self>, grant: &Grant, zones: &[Zone]) -> Explained {
        let outcome = self.find(grant, zones).await;
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let last = entries.get(grant.name()).and_then(|entry| entry.known.borrow().last());
        Explained { last, outcome }
    }

    /// Asks again for a name soon: its addresses did not answer.
    pub fn doubt(&self, name: &ServerName) {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get(name) {
            entry.again.notify_one();
        }
    }

    /// Asks again for every name soon: a way to the resolvers has come up.
    pub fn doubt_all(&self) {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.values().for_each(|entry| entry.again.notify_one());
    }

    /// The addresses of names that the guard lets pass, for what is not a flow: the gate's own look at
    /// tunnels and endpoints.
    pub fn guarded<'n>(&self, names: &'n [ExactName]) -> Vec<(&'n ExactName, Ipv4Addr)> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let mut guarded = Vec::new();
        for exact in names {
            let Some(entry) = entries.get(&exact.name) else { continue };
            let known = entry.known.borrow();
            let Some((answer, _)) = &known.answer else { continue };
            if check(&answer.addresses, &exact.endpoint.networks, &self.options.vpc).is_ok() {
                guarded.extend(answer.addresses.iter().map(|address| (exact, *address)));
            }
        }
        guarded
    }

    /// The resolvers' state.
    pub fn resolvers(&self) -> Vec<ResolverStatus> {
        self.upstream.status()
    }

    /// The names' state, by name.
    pub fn names(&self) -> Vec<NameStatus> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<_> =
            entries.iter().map(|(name, entry)| name_status(name, &entry.known.borrow())).collect();
        names.sort_by(|a, b| a.name.cmp(&b.name));
        names
    }

    /// Ends all tasks of the book.
    pub fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
    }

    fn entry(self: &Arc<Self>, name: &ServerName) -> Result<Arc<Entry>, Refused> {
        if let Some(entry) = self.entries.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(Arc::clone(entry));
        }
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get(name) {
            return Ok(Arc::clone(entry));
        }
        if entries.len() >= MOST_ENTRIES {
            // A device that asks for ever new buckets must not fill the box's memory.
            return Err(Refused {
                reason: Reason::ResolveFailed,
                detail: format!("{MOST_ENTRIES} names are being resolved already"),
            });
        }
        let entry = self.start(name, Kept::OnDemand, Known::default());
        entries.insert(name.clone(), Arc::clone(&entry));
        Ok(entry)
    }

    fn start(self: &Arc<Self>, name: &ServerName, kept: Kept, known: Known) -> Arc<Entry> {
        let entry =
            Arc::new(Entry { known: watch::Sender::new(known), again: Notify::new(), kept });
        let keeping = keep_fresh(Arc::clone(self), name.clone(), Arc::downgrade(&entry));
        let stopped = self.stop.clone();
        self.tasks.spawn_on(
            async move {
                tokio::select! {
                    () = stopped.cancelled() => {}
                    () = keeping => {}
                }
            },
            &self.runtime,
        );
        entry
    }

    fn judge(&self, known: &Known, grant: &Grant, zones: &[Zone]) -> Result<Endpoints, Refused> {
        let Some((answer, learnt)) = &known.answer else {
            let detail = known.error.as_ref().map_or_else(String::new, ToString::to_string);
            let reason = match known.error {
                Some(UpstreamError::Timeout) | None => Reason::ResolveTimeout,
                Some(_) => Reason::ResolveFailed,
            };
            return Err(Refused { reason, detail });
        };
        let age = learnt.elapsed();
        // Past its TTL an answer serves only while nobody answers: a resolver that answers
        // differently has already replaced it.
        let last_good = known.error.is_some() && age > answer.ttl;
        if last_good && age > self.options.last_good {
            let detail = format!("the last answer for {} is {} s old", grant.name(), age.as_secs());
            return Err(Refused { reason: Reason::ResolveFailed, detail });
        }
        let offered = Offered {
            addresses: &answer.addresses,
            resolver: answer.resolver,
            ttl: answer.ttl,
            age,
            last_good,
        };
        admit(grant, offered, &self.options.vpc, zones)
    }

    /// Removes an entry, unless another has taken its place.
    fn forget(&self, name: &ServerName, entry: &Arc<Entry>) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if entries.get(name).is_some_and(|present| Arc::ptr_eq(present, entry)) {
            entries.remove(name);
        }
    }
}

/// Keeps one entry until it is dropped from the book.
async fn keep_fresh(book: Arc<Book>, name: ServerName, entry: std::sync::Weak<Entry>) {
    let mut failures = 0_u32;
    loop {
        let outcome = book.upstream.ask(&name).await;
        let Some(entry) = entry.upgrade() else { return };
        let pause = match &outcome {
            Ok(answer) => {
                failures = 0;
                (answer.ttl.mul_f32(REFRESH_AT)).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
            }
            Err(_) => {
                failures = failures.saturating_add(1);
                SHORTEST_PAUSE.saturating_mul(failures).min(FAILED_PAUSE)
            }
        };
        let found = matches!(&outcome, Ok(answer) if !answer.addresses.is_empty());
        entry.known.send_modify(|known| match outcome {
            Ok(answer) => *known = Known { answer: Some((answer, Instant::now())), error: None },
            Err(error) => known.error = Some(error),
        });
        if entry.kept == Kept::OnDemand && (!found || entry.known.receiver_count() == 0) {
            // Nobody waits for it now; the next device that asks starts it again.
            tokio::time::sleep(pause).await;
            book.forget(&name, &entry);
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = entry.again.notified() => tokio::time::sleep(DOUBT_PAUSE).await,
        }
    }
}

fn name_status(name: &ServerName, known: &Known) -> NameStatus {
    let age = known.answer.as_ref().map(|(_, learnt)| learnt.elapsed());
    let ttl = known.answer.as_ref().map(|(answer, _)| answer.ttl);
    NameStatus {
        name: name.clone(),
        addresses: known.answer.as_ref().map(|(a, _)| a.addresses.clone()).unwrap_or_default(),
        age_seconds: age.map(|age| age.as_secs()),
        last_good: known.error.is_some() && age > ttl,
        error: known.error.as_ref().map(ToString::to_string),
    }
}

/// A flow's wait for the first answer of a name; beyond `Upstream`'s own deadline.
const FIRST_ANSWER: Duration = Duration::from_millis(1_700);
/// The part of the TTL after which an answer is renewed.
const REFRESH_AT: f32 = 0.8;
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
const FAILED_PAUSE: Duration = Duration::from_secs(5);
/// Many flows doubt a name at the same time; one question answers them all.
const DOUBT_PAUSE: Duration = Duration::from_millis(100);
const MOST_ENTRIES: usize = 4_096;
