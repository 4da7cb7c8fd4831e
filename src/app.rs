//! The composition root: binds everything that can fail, then starts; reloads; ends.
//!
//! [`Running`] is the whole gate. Its control loop is the only place that reacts to the kernel's
//! changes (links, rules, nftables) and to signals.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::admin::{Control, Reporter};
use crate::audit::{Audit, AuditOptions, AuditUnavailable};
use crate::config::{self, InterfaceName, Site};
use crate::intercept::nft::{self, Verified};
use crate::intercept::watch::Watch;
use crate::intercept::{self, InterceptError, Plan};
use crate::net::neighbour::Neighbours;
use crate::net::netlink::{self, Change, Netlink, NetlinkError};
use crate::policy::Policy;
use crate::proxy::{Command, DataThread, Limits, Rules, RulesInForce, ThreadOptions};
use crate::relay::Engine;
use crate::resolve::{Book, BookOptions, Upstream, UpstreamError};
use crate::tunnel::{Effect, Tunnels};

/// Why the gate could not start, or not reload: one sentence with what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Rules, routes or listeners.
    #[error(transparent)]
    Intercept(#[from] InterceptError),
    /// The kernel's routing.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The log.
    #[error("the audit log cannot be written: {0}")]
    Audit(#[from] AuditUnavailable),
    /// A resolver.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// A device interface that is not there.
    #[error(
        "the device interface {name} does not exist (there are: {present}); correct [devices] interfaces or bring it up"
    )]
    NoInterface {
        /// The interface.
        name: InterfaceName,
        /// Those that exist.
        present: String,
    },
    /// Anything of the system.
    #[error("{action}: {source}")]
    System {
        /// What was tried.
        action: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The new configuration needs a restart.
    #[error("{0} cannot change while the gate runs; restart it")]
    NeedsRestart(&'static str),
    /// The configuration's own tests fail.
    #[error("the configuration's [[expect]] tests fail: {0}")]
    Expectations(String),
    /// The new configuration is not valid.
    #[error("the configuration is not valid:\n{0}")]
    Invalid(String),
}

/// A gate that runs.
pub struct Running {
    path: PathBuf,
    rules: RulesInForce,
    audit: Audit,
    threads: Vec<DataThread>,
    control: Control,
    neighbours: Arc<Neighbours>,
    limits: Arc<Limits>,
    state: Arc<State>,
}

/// What the control loop changes and `status` reads.
#[derive(Debug)]
pub struct State {
    /// When the rules in force were loaded.
    loaded: std::sync::Mutex<SystemTime>,
    /// How often somebody's damage to the table or the routing was repaired.
    restored: AtomicU64,
    /// The kernel's table is as it should be, as far as is known.
    intact: std::sync::atomic::AtomicBool,
    /// Why the last reload was refused, while it is the last.
    refused_reload: std::sync::Mutex<Option<String>>,
}

/// Binds everything, puts the rules into the kernel and starts the threads.
///
/// # Errors
/// What stands in the way. The kernel is then as it was.
pub async fn build(site: Site, path: &Path) -> Result<Running, StartError> {
    let most_flows = raise_descriptor_limit();
    blocking_probe().await?;
    let netlink = Netlink::open()?;
    let links = netlink.links().await?;
    check_device_interfaces(&site, links.values())?;
    let rules = rules_of(site, None)?;
    for link in links.values() {
        rules.tunnels.link_changed(link);
    }
    let site = &rules.site;
    let audit = start_audit(site)?;
    let plan = Plan::new(site, rules.policy.ports());
    let threads = site.intercept.data_threads.unwrap_or_else(cores);
    let listeners = intercept::listen(plan.listen_port, plan.families(), threads)?;
    let control = Control::bind(&site.admin.socket).map_err(|source| StartError::System {
        action: format!("cannot make the control socket {}", site.admin.socket.display()),
        source,
    })?;
    intercept::set_up(&plan).await?;
    rules.book.keep(rules.policy.exact_names());
    let rules = RulesInForce::new(rules);
    let limits = Limits::new(rules.now().site.limits, most_flows);
    let neighbours = Arc::new(Neighbours::default());
    neighbours.watch(&rules.now().site.devices.interfaces);
    let options = ThreadOptions {
        rules: rules.clone(),
        audit: audit.clone(),
        neighbours: Arc::clone(&neighbours),
        engine: Engine::Adaptive,
        pipes: PIPES / threads.max(1),
        limits: Arc::clone(&limits),
        fingerprints: Arc::default(),
    };
    let threads = listeners
        .into_iter()
        .enumerate()
        .map(|(index, listeners)| DataThread::start(index, listeners, options.clone()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| StartError::System {
            action: "cannot start the data threads".to_owned(),
            source,
        })?;
    let state = Arc::new(State::new());
    let path = path.to_owned();
    Ok(Running { path, rules, audit, threads, control, neighbours, limits, state })
}

impl Running {
    /// Works until SIGTERM or SIGINT, then drains.
    ///
    /// # Errors
    /// The system refuses signals or netlink sockets.
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
        let reporter = Arc::new(Reporter::new(
            self.rules.clone(),
            self.audit.clone(),
            self.threads.iter().map(|thread| Arc::clone(thread.stats())).collect(),
            Arc::clone(&self.state),
        ));
        self.control.serve(reporter);
        // The kernel may have changed between the first look and the subscription.
        self.take_stock().await;
        self.repair().await;
        tracing::info!("the gate is ready");
        tell_manager(&[NotifyState::Ready]);
        loop {
            tokio::select! {
                () = end.asked() => break,
                _ = hangup.recv() => self.reload().await,
                Some(change) = changes.next() => self.changed(change).await,
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
        self.drain(end).await;
        Ok(())
    }

    /// Reads everything that events tell about, for the time before them.
    async fn take_stock(&self) {
        let stock = async {
            let netlink = Netlink::open()?;
            Ok::<_, NetlinkError>((netlink.links().await?, netlink.neighbours().await?))
        };
        match stock.await {
            Ok((links, neighbours)) => {
                for link in links.into_values() {
                    self.link_changed(&link);
                }
                neighbours.into_iter().for_each(|neighbour| self.neighbours.changed(neighbour));
            }
            Err(error) => tracing::warn!(%error, "cannot read the network's state"),
        }
    }

    async fn changed(&self, change: Change) {
        match change {
            Change::Link(link) => self.link_changed(&link),
            Change::LinkGone(index) => {
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
            Ok(netlink) => netlink.add_interception(plan.families()).await,
            Err(error) => Err(error),
        };
        match restored {
            Ok(()) => {
                self.state.restored.fetch_add(1, Ordering::Relaxed);
                tracing::warn!("somebody removed the gate's routing rule or route; it is restored");
            }
            Err(error) => tracing::error!(%error, "cannot restore the gate's routing"),
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
                self.state.intact.store(true, Ordering::Relaxed);
                return;
            }
            Ok(_) => {
                self.state.intact.store(false, Ordering::Relaxed);
                intercept::blocking(move || nft::apply(&plan)).await
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => {
                self.state.intact.store(true, Ordering::Relaxed);
                self.state.restored.fetch_add(1, Ordering::Relaxed);
                tracing::warn!("somebody changed the gate's nftables rules; they are restored");
            }
            Err(error) => {
                self.state.intact.store(false, Ordering::Relaxed);
                tracing::error!(%error, "the gate's nftables rules cannot be checked or restored");
            }
        }
    }

    /// Loads the configuration anew: all or nothing.
    async fn reload(&self) {
        let reloading = NotifyState::monotonic_usec_now();
        tell_manager(&[NotifyState::Reloading, reloading.unwrap_or(NotifyState::MonotonicUsec(0))]);
        let refused = match self.try_reload().await {
            Ok(()) => None,
            Err(error) => {
                tracing::error!(%error, "the new configuration is refused; the old one stays");
                Some(error.to_string())
            }
        };
        self.state.note_reload(refused);
        // Also after a refusal: the gate works on, with the old policy.
        tell_manager(&[NotifyState::Ready]);
    }

    async fn try_reload(&self) -> Result<(), StartError> {
        let old = self.rules.now();
        let loaded = config::load(&self.path)
            .map_err(|problems| StartError::Invalid(problems.render(config::Style::Plain)))?;
        needs_restart(&old.site, &loaded.site)?;
        let netlink = Netlink::open()?;
        let links = netlink.links().await?;
        check_device_interfaces(&loaded.site, links.values())?;
        let new = rules_of(loaded.site, Some(&old))?;
        for link in links.values() {
            new.tunnels.link_changed(link);
        }
        let plan = Plan::new(&new.site, new.policy.ports());
        if plan != Plan::new(&old.site, old.policy.ports()) {
            intercept::set_up(&plan).await?;
        }
        new.book.keep(new.policy.exact_names());
        if !Arc::ptr_eq(&new.book, &old.book) {
            old.book.close();
        }
        if old.site.devices.interfaces != new.site.devices.interfaces {
            self.neighbours.watch(&new.site.devices.interfaces);
        }
        self.limits.set(new.site.limits);
        let new = Arc::new(new);
        self.rules.replace(Arc::clone(&new));
        self.take_stock().await;
        for thread in &self.threads {
            thread.tell(Command::Recheck(Arc::clone(&new)));
        }
        tracing::info!(policy = %new.policy.hash(), "the new configuration is in force");
        Ok(())
    }

    async fn drain(self, mut end: Ending) {
        tracing::info!("draining: no new flows");
        tell_manager(&[NotifyState::Stopping]);
        for thread in &self.threads {
            thread.tell(Command::Drain(PATIENCE));
        }
        let stats: Vec<_> = self.threads.iter().map(|t| Arc::clone(t.stats())).collect();
        let threads = self.threads;
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                thread.join();
            }
        });
        tokio::select! {
            _ = joined => {}
            () = end.asked() => {
                let live: u64 = stats.iter().map(|stats| stats.live()).sum();
                tracing::warn!(live, "ending at once");
            }
        }
        self.rules.now().book.close();
        self.control.close();
        let audit = self.audit;
        // The log's last records must be on disk before the process ends.
        let _ = tokio::task::spawn_blocking(move || audit.close()).await;
    }
}

impl State {
    fn new() -> Self {
        Self {
            loaded: std::sync::Mutex::new(SystemTime::now()),
            restored: AtomicU64::new(0),
            intact: std::sync::atomic::AtomicBool::new(true),
            refused_reload: std::sync::Mutex::new(None),
        }
    }

    /// When the rules in force were loaded.
    pub fn loaded(&self) -> SystemTime {
        *self.loaded.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// How often rules or routing were repaired.
    pub fn restored(&self) -> u64 {
        self.restored.load(Ordering::Relaxed)
    }

    /// Whether the kernel's table is as it should be.
    pub fn is_intact(&self) -> bool {
        self.intact.load(Ordering::Relaxed)
    }

    /// Why the last reload was refused.
    pub fn refused_reload(&self) -> Option<String> {
        self.refused_reload.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn note_reload(&self, refused: Option<String>) {
        if refused.is_none() {
            *self.loaded.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
                SystemTime::now();
        }
        *self.refused_reload.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = refused;
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

/// Compiles a site. What is the same as before is kept: tunnels know their state, and the book its
/// answers.
fn rules_of(site: Site, old: Option<&Arc<Rules>>) -> Result<Rules, StartError> {
    let policy = Policy::compile(&site);
    let failed = policy.check_expectations(&site);
    if !failed.is_empty() {
        let told: Vec<_> =
            failed.iter().map(|f| format!("line {}: {}", f.line, f.sentence)).collect();
        return Err(StartError::Expectations(told.join("; ")));
    }
    let options = BookOptions::new(&site);
    let same_tunnels = old.filter(|old| {
        old.site.tunnel.interfaces == site.tunnel.interfaces
            && old.site.tunnel.source == site.tunnel.source
            && old.site.tunnel.mss == site.tunnel.mss
    });
    let tunnels = match same_tunnels {
        Some(old) => Arc::clone(&old.tunnels),
        None => Arc::new(Tunnels::new(&site)),
    };
    let book = match same_tunnels.filter(|old| *old.book.options() == options) {
        Some(old) => Arc::clone(&old.book),
        None => {
            let upstream = Upstream::new(&options.inbound, &tunnels)?;
            Book::new(options, upstream)
        }
    };
    Ok(Rules { site, policy, tunnels, book })
}

fn start_audit(site: &Site) -> Result<Audit, StartError> {
    Ok(Audit::start(AuditOptions {
        directory: site.audit.directory.clone(),
        on_full: site.audit.on_full,
        site: site.name.clone(),
        region: site.region.clone(),
        slots: AUDIT_SLOTS,
    })?)
}

fn check_device_interfaces<'a>(
    site: &Site,
    links: impl Iterator<Item = &'a netlink::Link>,
) -> Result<(), StartError> {
    let present: Vec<&str> = links.flat_map(|link| link.names.iter().map(String::as_str)).collect();
    for name in &site.devices.interfaces {
        if !present.contains(&name.as_str()) {
            let present = present.join(", ");
            return Err(StartError::NoInterface { name: name.clone(), present });
        }
    }
    Ok(())
}

/// Tells systemd, where it is the manager (sd_notify(3)).
fn tell_manager(states: &[NotifyState<'_>]) {
    // Without a service manager there is nobody to tell.
    let _ = sd_notify::notify(states);
}

/// What is bound at the start and stays.
fn needs_restart(old: &Site, new: &Site) -> Result<(), StartError> {
    let fixed = [
        ("[intercept] port", old.intercept.port == new.intercept.port),
        ("[intercept] data-threads", old.intercept.data_threads == new.intercept.data_threads),
        ("[audit] directory", old.audit.directory == new.audit.directory),
        ("[admin] socket", old.admin.socket == new.admin.socket),
        ("[site] name", old.name == new.name),
    ];
    match fixed.into_iter().find(|(_, same)| !same) {
        Some((what, _)) => Err(StartError::NeedsRestart(what)),
        None => Ok(()),
    }
}

async fn blocking_probe() -> Result<(), StartError> {
    intercept::blocking(nft::probe).await.map_err(|error| InterceptError::Nft(error).into())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Raises the soft limit of descriptors to the hard one; returns how many flows fit below it.
fn raise_descriptor_limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
    let descriptors = limit.maximum.unwrap_or(1 << 20);
    let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
    // Two sockets a flow; pipes, the log and the control plane have their own share.
    descriptors.saturating_sub(RESERVED_DESCRIPTORS) / 2
}

/// Pipes of all threads together: half of what an unprivileged user may have at 256 KiB each.
const PIPES: usize = 128;
const RESERVED_DESCRIPTORS: usize = 2 * PIPES + 256;
/// Flows whose records may be reserved at once.
const AUDIT_SLOTS: usize = 1 << 18;
/// How long flows may go on after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(5);
