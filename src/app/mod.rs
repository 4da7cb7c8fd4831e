//! The composition root: binds everything that can fail, then starts; reloads; ends.
//!
//! [`Running`] is the whole gate. Its control loop is the only place that reacts to the kernel's
//! changes (links, rules, nftables) and to signals.

mod canary;
mod glances;
mod refused;
mod reload;
mod start;
mod state;
mod watchdog;
mod ways;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::Instant;

use crate::admin::{AdminHttp, Control, Explainer, Reporter, Sources, Tidings};
use crate::audit::Audit;
use crate::dns::DnsThread;
use crate::intercept::nft::{self, Verified};
use crate::intercept::watch::Watch;
use crate::intercept::{self, Passage};
use crate::net::neighbour::Neighbours;
use crate::net::netlink::{self, Change, Found, Netlink, NetlinkError};
use crate::proxy::{Command, DataThread, Dials, Limits, Rules, RulesInForce};
use crate::tunnel::{Concerned, Event};

use refused::Refused;
pub use start::{StartError, build};
pub use state::{State, Watched};
use watchdog::Watchdog;
use ways::Departures;

/// A gate that runs.
pub struct Running {
    path: PathBuf,
    rules: RulesInForce,
    audit: Audit,
    threads: Vec<DataThread>,
    /// `None` where `dns.listen` is `off`.
    dns: Option<DnsThread>,
    control: Control,
    admin: AdminHttp,
    neighbours: Arc<Neighbours>,
    limits: Arc<Limits>,
    dials: Arc<Dials>,
    state: Arc<State>,
    tunnels: TunnelEvents,
}

/// What the tunnels tell: those of these rules, and those of later ones.
struct TunnelEvents {
    teller: UnboundedSender<Event>,
    told: UnboundedReceiver<Event>,
}

/// What has ended by itself.
#[derive(Clone, Copy, Debug)]
struct Lost {
    /// Every data thread.
    data: bool,
    /// The DNS thread.
    dns: bool,
}

impl Running {
    /// Works until SIGTERM or SIGINT, then drains.
    ///
    /// # Errors
    /// The system refuses signals, or every data thread has ended by itself. It has drained then, too.
    pub async fn serve(mut self) -> Result<(), StartError> {
        let system = |action: &str| {
            let action = action.to_owned();
            move |source| StartError::System { action, source }
        };
        let changes = Some(netlink::changes()?);
        let watch = Some(Watch::open().map_err(system("cannot watch nftables"))?);
        let signals = system("cannot catch signals");
        let mut hangup = signal(SignalKind::hangup()).map_err(signals)?;
        let mut end = Ending::new().map_err(system("cannot catch signals"))?;
        let reporter = Arc::new(Reporter::new(Sources {
            rules: self.rules.clone(),
            audit: self.audit.clone(),
            threads: self.threads.iter().map(DataThread::link).collect(),
            dns: self.dns.as_ref().map(|dns| Arc::clone(dns.stats())),
            dials: Arc::clone(&self.dials),
            limits: Arc::clone(&self.limits),
            state: Arc::clone(&self.state),
            pipes: start::PIPES,
            admin: self.admin.status(),
        }));
        let explainer = Explainer::new(
            self.rules.clone(),
            Arc::clone(&self.neighbours),
            Arc::clone(&self.state),
        );
        let (teller, canary) = mpsc::channel(1);
        self.control.serve(Arc::clone(&reporter), Arc::new(explainer), teller);
        self.admin.serve(reporter).map_err(system("cannot start the admin thread"))?;
        // The kernel may have changed between the first look and the subscription.
        self.take_stock().await;
        self.lead_out().await;
        self.repair().await;
        ways::watch(&self.rules.now(), &self.rules);
        ways::watch_endpoints(&self.rules);
        glances::watch(&self.rules, &self.state);
        let mut refused = Refused::default();
        self.record_refused(&mut refused).await;
        tracing::info!("the gate is ready");
        tell_manager(vec![NotifyState::Ready]).await;
        let told = (changes, watch, canary);
        let outcome = self.work(&mut end, &mut hangup, &mut refused, told).await;
        self.drain(end, refused).await;
        outcome
    }

    /// The control loop.
    async fn work(
        &mut self,
        end: &mut Ending,
        hangup: &mut Signal,
        refused: &mut Refused,
        (mut changes, mut watch, mut canary): (
            Option<BoxStream<'static, Change>>,
            Option<Watch>,
            mpsc::Receiver<Tidings>,
        ),
    ) -> Result<(), StartError> {
        let mut rounds = every(ROUND);
        let mut harvests = every(refused::EVERY);
        let mut looks = every(ways::LOOK_ROUND);
        let mut departures = Departures::default();
        let mut watchdog = Watchdog::new(self.threads.iter().map(DataThread::link).collect());
        // Routes come many at a time.
        let mut routes_changed: Option<Instant> = None;
        loop {
            tokio::select! {
                () = end.asked() => return Ok(()),
                _ = harvests.tick() => self.record_refused(refused).await,
                _ = hangup.recv() => self.reload().await,
                () = watchdog.due() => watchdog.tell().await,
                Some(event) = self.tunnels.told.recv() => {
                    self.tunnel_event(&event, &mut departures);
                }
                Some(tidings) = canary.recv() => self.canary_told(tidings).await,
                _ = looks.tick() => self.evacuate(&mut departures),
                () = at(routes_changed) => {
                    routes_changed = None;
                    self.lead_out().await;
                }
                change = next(&mut changes) => match change {
                    Some(change) => {
                        if self.changed(change).await == Concerned::Yes {
                            routes_changed.get_or_insert_with(|| Instant::now() + SETTLED);
                        }
                    }
                    None => {
                        tracing::error!("the kernel tells no more changes; listening anew");
                        tokio::time::sleep(PAUSE).await;
                        changes = listen_anew();
                        routes_changed.get_or_insert_with(Instant::now);
                        self.changed(Change::Missed).await;
                    }
                },
                _ = rounds.tick() => {
                    self.lost().check(self.state.passage())?;
                    if changes.is_none() {
                        changes = listen_anew();
                        self.changed(Change::Missed).await;
                    }
                    watch = watch.or_else(watch_anew);
                    self.repair().await;
                    self.restore_routing(&self.rules.now()).await;
                    self.lead_out().await;
                }
                changed = changed(&mut watch) => {
                    if let Err(error) = changed {
                        tracing::error!(%error, "can no longer watch nftables");
                        watch = watch_anew();
                    }
                    self.repair().await;
                }
            }
        }
    }

    fn lost(&self) -> Lost {
        Lost {
            data: self.threads.iter().all(DataThread::has_ended),
            dns: self.dns.as_ref().is_some_and(DnsThread::has_ended),
        }
    }

    /// Records the packets that the rules have refused.
    async fn record_refused(&self, refused: &mut Refused) {
        if refused.is_due().await {
            // Counting goes on in rules that are written anew: damage to them must not be lost.
            self.repair().await;
            refused.record(&self.audit, &self.rules.now().policy, &self.state).await;
        }
    }

    /// Reads everything that events tell about, for the time before them.
    async fn take_stock(&self) {
        let stock = async {
            let netlink = Netlink::open()?;
            Ok::<_, NetlinkError>((netlink.links().await?, netlink.neighbours().await?))
        };
        match stock.await {
            Ok((links, neighbours)) => {
                let rules = self.rules.now();
                self.neighbours.replace(&rules.site.devices.interfaces, links.values(), neighbours);
                rules.tunnels.links_listed(&links);
            }
            Err(error) => tracing::warn!(%error, "cannot read the network's state"),
        }
    }

    /// Takes in a change; says whether the tunnels' routes may need another look.
    async fn changed(&self, change: Change) -> Concerned {
        match change {
            Change::Link(link) => self.link_changed(&link).await,
            Change::LinkGone(index) => {
                self.neighbours.link_gone(index);
                let concerned = self.rules.now().tunnels.link_gone(index);
                if concerned == Concerned::Yes {
                    self.link_deleted(index);
                }
                concerned
            }
            Change::Neighbour(neighbour) => {
                self.neighbours.changed(neighbour);
                Concerned::No
            }
            Change::Routes(links) => {
                let rules = self.rules.now();
                let mut known = rules.tunnels.indices().into_iter();
                let ours = known.any(|(_, index)| links.contains(&index));
                if ours { Concerned::Yes } else { Concerned::No }
            }
            Change::RoutingLost => {
                self.restore_routing(&self.rules.now()).await;
                Concerned::Yes
            }
            Change::Missed => {
                self.take_stock().await;
                self.restore_routing(&self.rules.now()).await;
                Concerned::Yes
            }
        }
    }

    async fn link_changed(&self, link: &netlink::Link) -> Concerned {
        self.neighbours.link_changed(link);
        let rules = self.rules.now();
        let names = rules.tunnels.first_names();
        let concerned = rules.tunnels.link_changed(link);
        if rules.tunnels.first_names() != names {
            self.rename().await;
        }
        concerned
    }

    async fn restore_routing(&self, rules: &Rules) {
        let plan = self.plan(rules);
        let restored = match Netlink::open() {
            Ok(netlink) => netlink.add_interception(plan.families(), &plan.device_interfaces).await,
            Err(error) => Err(error),
        };
        match restored {
            Ok(Found::Complete) => self.state.set_routing_intact(true),
            Ok(Found::Damaged) => {
                self.state.set_routing_intact(true);
                self.state.count_restored();
                tracing::warn!(
                    "somebody removed the gate's routing rules or routes; they are restored"
                );
            }
            Err(error) => {
                self.state.set_routing_intact(false);
                tracing::error!(%error, "cannot restore the gate's routing");
            }
        }
    }

    /// Compares the table with the plan, and replaces it when it differs.
    async fn repair(&self) {
        let rules = self.rules.now();
        let plan = self.plan(&rules);
        let checked = plan.clone();
        let found = intercept::blocking(move || nft::verify(&checked)).await;
        let outcome = match found {
            Ok(Verified::Same) => {
                self.state.set_intact(true);
                return;
            }
            Ok(_) => {
                self.state.set_intact(false);
                intercept::blocking(move || nft::apply(&plan)).await
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => {
                self.state.set_intact(true);
                self.state.count_restored();
                tracing::warn!("somebody changed the gate's nftables rules; they are restored");
            }
            Err(error) => {
                self.state.set_intact(false);
                tracing::error!(%error, "the gate's nftables rules cannot be checked or restored");
            }
        }
    }

    async fn drain(self, mut end: Ending, mut refused: Refused) {
        tracing::info!("draining: no new flows");
        self.admin.drain();
        let (audit, rules) = (self.audit.clone(), self.rules.clone());
        tell_manager(vec![NotifyState::Stopping]).await;
        for thread in &self.threads {
            thread.tell(Command::Drain(PATIENCE));
        }
        let stats: Vec<_> = self.threads.iter().map(|t| Arc::clone(t.stats())).collect();
        let orders: Vec<_> = self.threads.iter().map(DataThread::orders).collect();
        let threads = self.threads;
        let mut joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                thread.join();
            }
        });
        tokio::select! {
            _ = &mut joined => {}
            () = end.asked() => {
                let live: u64 = stats.iter().map(|stats| stats.live()).sum();
                tracing::warn!(live, "ending at once");
                for order in &orders {
                    // A thread that has ended already hears nothing.
                    let _ = order.send(Command::Drain(Duration::ZERO));
                }
                // The flows that are cut must still be recorded.
                let _ = joined.await;
            }
        }
        self.rules.now().book.close();
        self.control.close();
        let admin = self.admin;
        let _ = tokio::task::spawn_blocking(move || admin.close()).await;
        drop(self.audit);
        if let Some(dns) = self.dns {
            let _ = tokio::task::spawn_blocking(move || dns.finish()).await;
        }
        refused.record(&audit, &rules.now().policy, &self.state).await;
        // The log's last records must be on disk before the process ends.
        let _ = tokio::task::spawn_blocking(move || audit.close()).await;
    }
}

/// SIGTERM or SIGINT.
struct Ending {
    terminate: Signal,
    interrupt: Signal,
}

impl Ending {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Tells systemd, where it is the manager (sd_notify(3)). A manager that does not listen must not
/// hold up the gate.
async fn tell_manager(states: Vec<NotifyState<'static>>) {
    let telling = tokio::task::spawn_blocking(move || sd_notify::notify(&states));
    // Without a service manager there is nobody to tell.
    let _ = tokio::time::timeout(MANAGER_PATIENCE, telling).await;
}

impl Lost {
    /// Whether the gate can go on. A closed one serves nobody, and must not end: whatever starts it
    /// again opens it.
    fn check(self, passage: Passage) -> Result<(), StartError> {
        match (passage, self) {
            (Passage::Open, Self { data: true, .. }) => Err(StartError::NoThreads),
            (Passage::Open, Self { dns: true, .. }) => Err(StartError::NoDns),
            _ => Ok(()),
        }
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    interval
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// The next change; never, while nobody tells.
async fn next(changes: &mut Option<BoxStream<'static, Change>>) -> Option<Change> {
    match changes {
        Some(changes) => changes.next().await,
        None => std::future::pending().await,
    }
}

/// The next change of nftables; never, while nobody tells.
async fn changed(watch: &mut Option<Watch>) -> std::io::Result<()> {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

/// Without it, damage is found every [`ROUND`]; then it is tried again.
fn listen_anew() -> Option<BoxStream<'static, Change>> {
    let unheard =
        |error: &NetlinkError| tracing::error!(%error, "cannot hear of the kernel's changes");
    netlink::changes().inspect_err(unheard).ok()
}

/// As [`listen_anew`].
fn watch_anew() -> Option<Watch> {
    Watch::open().inspect_err(|error| tracing::error!(%error, "cannot watch nftables")).ok()
}

/// How often everything is looked over, also when nothing was heard: a repair that failed once must
/// not wait for the next damage.
const ROUND: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_secs(1);
/// What changes together is looked at once.
const SETTLED: Duration = Duration::from_millis(20);
const MANAGER_PATIENCE: Duration = Duration::from_secs(1);
/// How long flows may go on after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_gate_does_not_end_by_itself() {
        for (data, dns, ends) in [(false, false, false), (true, false, true), (false, true, true)] {
            let lost = Lost { data, dns };
            assert_eq!(lost.check(Passage::Open).is_err(), ends, "{lost:?}");
            assert!(lost.check(Passage::Closed).is_ok(), "{lost:?}");
        }
    }
}
