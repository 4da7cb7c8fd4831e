//! The composition root: binds everything that can fail, then starts; reloads; ends.
//!
//! [`Running`] is the whole gate. Its control loop is the only place that reacts to the kernel's
//! changes (links, rules, nftables) and to signals.

mod refused;
mod reload;
mod start;
mod state;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::admin::{Control, Explainer, Reporter, Sources};
use crate::audit::Audit;
use crate::dns::DnsThread;
use crate::intercept::nft::{self, Verified};
use crate::intercept::watch::Watch;
use crate::intercept::{self, Plan};
use crate::net::neighbour::Neighbours;
use crate::net::netlink::{self, Change, Found, Netlink, NetlinkError};
use crate::proxy::{Command, DataThread, Dials, Limits, Rules, RulesInForce};
use crate::tunnel::Effect;

use refused::Refused;
pub use start::{StartError, build};
pub use state::State;

/// A gate that runs.
pub struct Running {
    path: PathBuf,
    rules: RulesInForce,
    audit: Audit,
    threads: Vec<DataThread>,
    /// `None` where `dns.listen` is `off`.
    dns: Option<DnsThread>,
    control: Control,
    neighbours: Arc<Neighbours>,
    limits: Arc<Limits>,
    dials: Arc<Dials>,
    state: Arc<State>,
}

impl Running {
    /// Works until SIGTERM or SIGINT, then drains.
    ///
    /// # Errors
    /// The system refuses signals or netlink sockets, or every data thread has ended by itself.
    pub async fn serve(self) -> Result<(), StartError> {
        let system = |action: &str| {
            let action = action.to_owned();
            move |source| StartError::System { action, source }
        };
        let mut changes = netlink::changes()?;
        let mut watch = Watch::open().map_err(system("cannot watch nftables"))?;
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
        }));
        let explainer = Explainer::new(self.rules.clone(), Arc::clone(&self.neighbours));
        self.control.serve(reporter, Arc::new(explainer));
        // The kernel may have changed between the first look and the subscription.
        self.take_stock().await;
        self.repair().await;
        let mut refused = Refused::default();
        self.record_refused(&mut refused).await;
        tracing::info!("the gate is ready");
        tell_manager(vec![NotifyState::Ready]).await;
        let mut rounds = tokio::time::interval(ROUND);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut harvests = tokio::time::interval(refused::EVERY);
        harvests.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = end.asked() => break,
                _ = harvests.tick() => self.record_refused(&mut refused).await,
                _ = hangup.recv() => self.reload().await,
                change = changes.next() => match change {
                    Some(change) => self.changed(change).await,
                    None => {
                        tracing::error!("the kernel tells no more changes; listening anew");
                        tokio::time::sleep(PAUSE).await;
                        changes = netlink::changes()?;
                        self.changed(Change::Missed).await;
                    }
                },
                _ = rounds.tick() => {
                    if self.threads.iter().all(DataThread::has_ended) {
                        return Err(StartError::NoThreads);
                    }
                    if self.dns.as_ref().is_some_and(DnsThread::has_ended) {
                        return Err(StartError::NoDns);
                    }
                    self.repair().await;
                    self.restore_routing(&self.rules.now()).await;
                }
                changed = watch.changed() => match changed {
                    Ok(()) => self.repair().await,
                    Err(error) => {
                        tracing::error!(%error, "can no longer watch nftables");
                        watch = Watch::open().map_err(system("cannot watch nftables"))?;
                        self.repair().await;
                    }
                },
            }
        }
        self.drain(end, refused).await;
        Ok(())
    }

    /// Records the packets that the rules have refused.
    async fn record_refused(&self, refused: &mut Refused) {
        if refused.is_due().await {
            // Counting goes on in rules that are written anew: damage to them must not be lost.
            self.repair().await;
            refused.record(&self.audit, &self.rules.now().policy).await;
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
                for link in links.values() {
                    self.tunnel_changed(&rules.tunnels.link_changed(link));
                }
            }
            Err(error) => tracing::warn!(%error, "cannot read the network's state"),
        }
    }

    async fn changed(&self, change: Change) {
        match change {
            Change::Link(link) => self.link_changed(&link),
            Change::LinkGone(index) => {
                self.neighbours.link_gone(index);
                self.tunnel_changed(&self.rules.now().tunnels.link_gone(index))
            }
            Change::Neighbour(neighbour) => self.neighbours.changed(neighbour),
            Change::RoutingLost => self.restore_routing(&self.rules.now()).await,
            Change::Missed => {
                self.take_stock().await;
                self.restore_routing(&self.rules.now()).await;
            }
        }
    }

    fn link_changed(&self, link: &netlink::Link) {
        self.neighbours.link_changed(link);
        self.tunnel_changed(&self.rules.now().tunnels.link_changed(link));
    }

    fn tunnel_changed(&self, effect: &Effect) {
        match effect {
            Effect::None => {}
            Effect::Up(interface) => {
                tracing::info!(%interface, "a tunnel is up");
                self.rules.now().book.doubt_all();
            }
            Effect::Down(interface) => tracing::warn!(%interface, "a tunnel is down"),
        }
    }

    async fn restore_routing(&self, rules: &Rules) {
        let plan = Plan::new(&rules.site, rules.policy.ports());
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
        let plan = Plan::new(&rules.site, rules.policy.ports());
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
        drop(self.audit);
        if let Some(dns) = self.dns {
            let _ = tokio::task::spawn_blocking(move || dns.finish()).await;
        }
        refused.record(&audit, &rules.now().policy).await;
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

/// How often everything is looked over, also when nothing was heard: a repair that failed once must
/// not wait for the next damage.
const ROUND: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_secs(1);
const MANAGER_PATIENCE: Duration = Duration::from_secs(1);
/// How long flows may go on after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(5);
