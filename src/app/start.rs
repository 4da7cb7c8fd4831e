//! The start: checks and binds everything that can fail, then starts the threads.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;

use super::ways::plan_of;
use super::{Running, State, TunnelEvents};
use crate::admin::{AdminError, AdminHttp, Control, MOST_CONNECTIONS};
use crate::audit::{Audit, AuditOptions, AuditUnavailable};
use crate::config::{InterfaceName, Site};
use crate::dns::{DnsOptions, DnsThread};
use crate::intercept::{self, InterceptError, nft};
use crate::net::neighbour::Neighbours;
use crate::net::netlink::{self, Families, Netlink, NetlinkError};
use crate::policy::Policy;
use crate::proxy::{
    DataThread, Dials, Limits, Recognised, Returns, Rules, RulesInForce, ThreadOptions,
};
use crate::resolve::{Book, BookOptions, Synthetic, Upstream, UpstreamError};
use crate::tunnel::{Event, Tunnels};

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
    /// The admin listener.
    #[error(transparent)]
    Admin(#[from] AdminError),
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
    /// A person has to look at it first.
    #[error("the gate is closed because the leak canary got out; find out how, then restart it")]
    Closed,
    /// Nobody is left to serve devices.
    #[error("every data thread has ended, which is a fault of the program; see its log")]
    NoThreads,
    /// Nobody is left to answer devices' DNS.
    #[error("the DNS thread has ended, which is a fault of the program; see its log")]
    NoDns,
    /// The configuration's own tests fail.
    #[error("the configuration's [[expect]] tests fail: {0}")]
    Expectations(String),
    /// The new configuration is not valid.
    #[error("the configuration is not valid:\n{0}")]
    Invalid(String),
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
    let (teller, told) = tokio::sync::mpsc::unbounded_channel();
    let rules = rules_of(site, None, &teller)?;
    rules.tunnels.links_listed(&links);
    let site = &rules.site;
    let audit = start_audit(site, &rules.policy)?;
    let plan = plan_of(&rules);
    let threads = site.intercept.data_threads.unwrap_or_else(cores);
    let listeners = intercept::listen(plan.listen_port, plan.families(), threads)?;
    let has_dns = site.dns.lan().is_some();
    let control = Control::bind(&site.admin.socket).map_err(|source| StartError::System {
        action: format!("cannot make the control socket {}", site.admin.socket.display()),
        source,
    })?;
    let admin = AdminHttp::bind(site)?;
    rules.book.keep(rules.policy.exact_names());
    let rules = RulesInForce::new(rules);
    let limits = Limits::new(rules.now().site.limits, most_flows);
    let dials = Dials::new(&rules.now().site);
    let neighbours = Arc::new(Neighbours::default());
    let known = netlink.neighbours().await?;
    neighbours.replace(&rules.now().site.devices.interfaces, links.values(), known);
    let dns =
        if has_dns { Some(start_dns(&rules, &audit, &neighbours, plan.families())?) } else { None };
    let returns: Arc<Returns> = Arc::default();
    let options = ThreadOptions {
        rules: rules.clone(),
        audit: audit.clone(),
        neighbours: Arc::clone(&neighbours),
        engine: rules.now().site.intercept.relay,
        pipes: PIPES / threads.max(1),
        limits: Arc::clone(&limits),
        dials: Arc::clone(&dials),
        fingerprints: Arc::default(),
        returns: Arc::clone(&returns),
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
    returns.connect(threads.iter().map(DataThread::orders).collect());
    // Last: from here on devices are intercepted, and the threads that serve them are there.
    intercept::set_up(&plan).await?;
    let state = Arc::new(State::new());
    let path = path.to_owned();
    let tunnels = TunnelEvents { teller, told };
    Ok(Running {
        path,
        rules,
        audit,
        threads,
        dns,
        control,
        admin,
        neighbours,
        limits,
        dials,
        state,
        tunnels,
    })
}

/// Compiles a site. What is the same as before is kept: tunnels know their state, and the book its
/// answers.
pub(super) fn rules_of(
    site: Site,
    old: Option<&Arc<Rules>>,
    teller: &UnboundedSender<Event>,
) -> Result<Rules, StartError> {
    let policy = Policy::compile(&site);
    let failed = policy.check_expectations(&site);
    if !failed.is_empty() {
        let told: Vec<_> =
            failed.iter().map(|f| format!("line {}: {}", f.line, f.sentence)).collect();
        return Err(StartError::Expectations(told.join("; ")));
    }
    let options = BookOptions::new(&site);
    let same_tunnels = old.filter(|old| old.site.tunnel == site.tunnel);
    let tunnels = match same_tunnels {
        Some(old) => Arc::clone(&old.tunnels),
        None => Tunnels::new(&site, teller.clone(), old.map(|old| &*old.tunnels)),
    };
    let book = match same_tunnels.filter(|old| *old.book.options() == options) {
        Some(old) => Arc::clone(&old.book),
        None => {
            let upstream = Upstream::new(&options.inbound, &tunnels)?;
            Book::new(options, upstream)
        }
    };
    let by_mac = site.device_entries.iter().any(|device| device.mac.is_some());
    let recognised = if by_mac { Recognised::ByMac } else { Recognised::ByAddress };
    let range = site.dns.lan().and_then(|lan| lan.synthetic);
    let before = old.and_then(|old| old.synthetic.as_ref());
    let synthetic = range.map(|range| Synthetic::new(range, policy.exact_names(), before));
    let health = old.map(|old| Arc::clone(&old.health)).unwrap_or_default();
    Ok(Rules { site, policy, tunnels, book, health, recognised, synthetic })
}

fn start_dns(
    rules: &RulesInForce,
    audit: &Audit,
    neighbours: &Arc<Neighbours>,
    families: Families,
) -> Result<DnsThread, StartError> {
    let options = DnsOptions {
        rules: rules.clone(),
        audit: audit.clone(),
        neighbours: Arc::clone(neighbours),
        families,
    };
    DnsThread::start(options).map_err(|source| StartError::System {
        action: "cannot answer devices' DNS".to_owned(),
        source,
    })
}

fn start_audit(site: &Site, policy: &Policy) -> Result<Audit, StartError> {
    // systemd.exec(5): credentials, which may be sealed to the machine's TPM.
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let root_key = credentials.map(|directory| directory.join(ROOT_KEY));
    Ok(Audit::start(AuditOptions {
        directory: site.audit.directory.clone(),
        retention: site.audit.retention,
        site: site.name.clone(),
        region: site.region.clone(),
        slots: AUDIT_SLOTS,
        keys: site.audit.keys.clone(),
        root_key: root_key.filter(|file| file.exists()),
        policy: policy.hash().to_string(),
    })?)
}

pub(super) fn check_device_interfaces<'a>(
    site: &Site,
    links: impl Iterator<Item = &'a netlink::Link>,
) -> Result<(), StartError> {
    // Only first names: nftables does not know the others.
    let present: Vec<&str> =
        links.filter_map(|link| link.names.first().map(String::as_str)).collect();
    for name in &site.devices.interfaces {
        if !present.contains(&name.as_str()) {
            let present = present.join(", ");
            return Err(StartError::NoInterface { name: name.clone(), present });
        }
    }
    Ok(())
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

/// Pipes of all threads together: three quarters of what an unprivileged user may have at 1 MiB each
/// (`pipe-user-pages-soft`, pipe(7)).
pub(super) const PIPES: usize = 48;
const RESERVED_DESCRIPTORS: usize = 2 * PIPES + 256 + MOST_CONNECTIONS;
/// The credential that certifies the audit log's first key.
const ROOT_KEY: &str = "audit-key";
/// Flows whose records may be reserved at once.
const AUDIT_SLOTS: usize = 1 << 18;
