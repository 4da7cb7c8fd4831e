//! Which way out is up.
//!
//! Holds the state of each tunnel interface, best first: what the kernel tells of its link and its
//! routes, and what answers through it. Whoever opens a socket towards the VPC asks here for a
//! [`Way`]; there is no other source of one. A way that is lost is left at once; a better one that
//! comes back is used again when it has worked for a while.

mod path;
mod probe;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

use crate::config::{InterfaceName, Site, TunnelInterface};
use crate::net::netlink::Link;
use crate::net::socket::Way;

pub use path::Condition;
use path::{LinkState, Path, Routed};
pub use probe::{Targets, watch};

/// The tunnels of a site; shared by all threads.
#[derive(Debug)]
pub struct Tunnels {
    tunnels: Vec<Tunnel>,
    paths: Mutex<Vec<Path>>,
    /// The ways that are up, best first.
    up: RwLock<Arc<[Way]>>,
    return_after: Duration,
    events: UnboundedSender<Event>,
}

/// What a tunnel is by the configuration.
#[derive(Debug)]
struct Tunnel {
    settings: TunnelInterface,
    source: Option<std::net::Ipv4Addr>,
    /// Something has happened that a round of questions should not wait for.
    doubted: Arc<Notify>,
}

/// What has happened to the tunnels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// One is in another condition.
    Changed(Changed),
    /// New flows try another one first, or there is none left.
    Preferred(Option<InterfaceName>),
}

/// A tunnel's condition has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The interface.
    pub interface: InterfaceName,
    /// How it was.
    pub from: Condition,
    /// How it is.
    pub to: Condition,
    /// Why it is not up.
    pub reason: Option<String>,
    /// How long it was as it was.
    pub lasted: Duration,
}

/// One tunnel, for `status`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct TunnelStatus {
    /// The interface.
    pub interface: InterfaceName,
    /// The interface exists.
    pub present: bool,
    /// New flows may go by it.
    pub up: bool,
    /// New flows try it first.
    pub preferred: bool,
    /// How it is.
    pub state: Condition,
    /// Why it is not up.
    pub reason: Option<String>,
    /// How long it has been so.
    pub since_seconds: u64,
    /// How long the last answer through it took, in milliseconds.
    pub latency_ms: Option<f64>,
    /// The TCP maximum segment size in it, in bytes.
    pub mss: u16,
}

/// Flows that should leave a tunnel that carries nothing while another one does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranded {
    /// The tunnel.
    pub interface: InterfaceName,
    /// Nothing was heard through it for so long.
    pub silent: Duration,
}

impl Tunnels {
    /// The tunnels of a site, all down until links are reported. What an older configuration knew of
    /// a tunnel is kept. Changes are told to `events`.
    pub fn new(site: &Site, events: UnboundedSender<Event>, before: Option<&Self>) -> Arc<Self> {
        let now = Instant::now();
        let tunnels: Vec<Tunnel> = site
            .tunnel
            .each
            .iter()
            .map(|settings| Tunnel {
                settings: settings.clone(),
                source: site.tunnel.source,
                doubted: Arc::default(),
            })
            .collect();
        let known = |tunnel: &Tunnel| before.and_then(|before| before.path(&tunnel.settings.name));
        let paths = tunnels.iter().map(|t| known(t).unwrap_or_else(|| Path::new(now))).collect();
        let new = Self {
            tunnels,
            paths: Mutex::new(paths),
            up: RwLock::new(Arc::from([])),
            return_after: site.tunnel.return_after,
            events,
        };
        new.choose(&new.paths(), now);
        Arc::new(new)
    }

    /// The ways that are up, best first.
    pub fn up(&self) -> Arc<[Way]> {
        Arc::clone(&self.up.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a way's interface is still the one that it was chosen on. One that was deleted and
    /// made again has another index, and sockets on the old one are dead.
    pub fn still_has(&self, way: &Way) -> bool {
        let paths = self.paths();
        let mut all = self.tunnels.iter().zip(paths.iter());
        all.any(|(t, path)| t.settings.name == way.interface && path.index() == way.index)
    }

    /// Takes in the state of a link; says whether it is a tunnel's.
    pub fn link_changed(&self, link: &Link) -> Concerned {
        let named = |tunnel: &Tunnel| link.names.iter().any(|n| n == tunnel.settings.name.as_str());
        let here = |place: usize, paths: &[Path]| {
            self.tunnels.get(place).is_some_and(named)
                // It may have been renamed: the index then has nothing to do with the name any more.
                || paths.get(place).is_some_and(|path| path.index() == link.index)
        };
        self.change(here, |path, tunnel, now| {
            if !named(tunnel) {
                path.set_alias(None);
                return path.set_link(LinkState::Missing, 0, now);
            }
            let first = link.names.first().filter(|name| *name != tunnel.settings.name.as_str());
            path.set_alias(first.cloned());
            let state = if link.up { LinkState::Up } else { LinkState::Down };
            path.set_link(state, link.index, now);
        })
    }

    /// Takes in all links that there are.
    pub fn links_listed(&self, links: &BTreeMap<u32, Link>) {
        for (_, index) in self.indices() {
            if !links.contains_key(&index) {
                self.link_gone(index);
            }
        }
        links.values().for_each(|link| {
            self.link_changed(link);
        });
    }

    /// Takes in that a link is gone.
    pub fn link_gone(&self, index: u32) -> Concerned {
        let here = |place: usize, paths: &[Path]| {
            index != 0 && paths.get(place).is_some_and(|path| path.index() == index)
        };
        self.change(here, |path, _, now| {
            path.set_alias(None);
            path.set_link(LinkState::Missing, 0, now);
        })
    }

    /// Takes in whether the kernel knows a way to the VPC by this interface.
    pub fn set_routed(&self, interface: &InterfaceName, routed: bool) {
        let routed = if routed { Routed::Yes } else { Routed::No };
        self.change(
            |place, _| self.is(place, interface),
            |path, _, now| path.set_routed(routed, now),
        );
    }

    /// Something was expected through this tunnel and did not come: asks at once.
    pub fn doubt(&self, interface: &InterfaceName) {
        let found = self.tunnels.iter().find(|tunnel| tunnel.settings.name == *interface);
        found.into_iter().for_each(|tunnel| tunnel.doubted.notify_one());
    }

    /// Why no way is up, in one line.
    pub fn why_none(&self) -> String {
        let paths = self.paths();
        let words = self.tunnels.iter().zip(paths.iter()).map(|(tunnel, path)| {
            let reason = path.reason().unwrap_or_else(|| path.condition().as_str().to_owned());
            format!("{}: {reason}", tunnel.settings.name)
        });
        words.collect::<Vec<_>>().join("; ")
    }

    /// What each interface is called by nftables, which knows first names only.
    pub fn first_names(&self) -> Vec<InterfaceName> {
        let paths = self.paths();
        let names = self.tunnels.iter().zip(paths.iter()).map(|(tunnel, path)| {
            let alias_of = path.alias_of().and_then(InterfaceName::parse);
            alias_of.unwrap_or_else(|| tunnel.settings.name.clone())
        });
        names.collect()
    }

    /// Tunnels that have carried nothing for at least `patience` while another one is up.
    pub fn stranded(&self, patience: Duration) -> Vec<Stranded> {
        let (now, paths) = (Instant::now(), self.paths());
        // Where all were lost, the others may come back a moment after the first.
        let is_steady = |path: &Path| {
            path.condition() == Condition::Up
                && now.saturating_duration_since(path.since()) >= STEADY_AFTER
        };
        if !paths.iter().any(is_steady) {
            return Vec::new();
        }
        let unusable = self.tunnels.iter().zip(paths.iter());
        let unusable = unusable.filter(|(_, path)| !path.condition().is_usable());
        let stranded = unusable.map(|(tunnel, path)| Stranded {
            interface: tunnel.settings.name.clone(),
            silent: now.saturating_duration_since(path.silent_since()),
        });
        stranded.filter(|stranded| stranded.silent >= patience).collect()
    }

    /// The tunnels by their settings, each with its interface's index; 0 while it does not exist.
    pub fn indices(&self) -> Vec<(TunnelInterface, u32)> {
        let paths = self.paths();
        let all = self.tunnels.iter().zip(paths.iter());
        all.map(|(tunnel, path)| (tunnel.settings.clone(), path.index())).collect()
    }

    /// Every tunnel with its state, in configured order.
    pub fn status(&self) -> Vec<TunnelStatus> {
        let (now, paths) = (Instant::now(), self.paths());
        let first = self.up().first().map(|way| way.interface.clone());
        let all = self.tunnels.iter().zip(paths.iter());
        all.map(|(Tunnel { settings, .. }, path)| TunnelStatus {
            interface: settings.name.clone(),
            present: path.index() != 0,
            up: path.condition().is_usable(),
            preferred: first.as_ref() == Some(&settings.name),
            state: path.condition(),
            reason: path.reason(),
            since_seconds: now.saturating_duration_since(path.since()).as_secs(),
            latency_ms: path.latency().map(|latency| latency.as_secs_f64() * 1e3),
            mss: settings.mss,
        })
        .collect()
    }

    /// Changes the paths of some places, tells what came of it, and chooses anew.
    fn change(
        &self,
        of: impl Fn(usize, &[Path]) -> bool,
        change: impl Fn(&mut Path, &Tunnel, Instant),
    ) -> Concerned {
        let (now, mut paths) = (Instant::now(), self.paths());
        let places: Vec<usize> = (0..paths.len()).filter(|place| of(*place, &paths)).collect();
        for place in &places {
            let (Some(path), Some(tunnel)) = (paths.get_mut(*place), self.tunnels.get(*place))
            else {
                continue;
            };
            let (from, since) = (path.condition(), path.since());
            change(path, tunnel, now);
            if path.condition() != from {
                // Nobody listens before the start and after the end.
                let _ = self.events.send(Event::Changed(Changed {
                    interface: tunnel.settings.name.clone(),
                    from,
                    to: path.condition(),
                    reason: path.reason(),
                    lasted: now.saturating_duration_since(since),
                }));
                tunnel.doubted.notify_one();
            }
        }
        self.choose(&paths, now);
        if places.is_empty() { Concerned::No } else { Concerned::Yes }
    }

    fn choose(&self, paths: &[Path], now: Instant) {
        let ranked = self.tunnels.iter().zip(paths);
        let ranked = ranked.filter_map(|(tunnel, path)| {
            let rank = path.rank(now, self.return_after)?;
            Some((rank, tunnel.way(path)))
        });
        let mut ranked: Vec<_> = ranked.collect();
        // A stable sort: among equals the configured order decides.
        ranked.sort_by_key(|(rank, _)| *rank);
        let ways: Arc<[Way]> = ranked.into_iter().map(|(_, way)| way).collect();
        let mut up = self.up.write().unwrap_or_else(PoisonError::into_inner);
        let first = |ways: &Arc<[Way]>| ways.first().map(|way| way.interface.clone());
        if first(&up) != first(&ways) {
            // As above.
            let _ = self.events.send(Event::Preferred(first(&ways)));
        }
        *up = ways;
    }

    fn is(&self, place: usize, interface: &InterfaceName) -> bool {
        self.tunnels.get(place).is_some_and(|tunnel| tunnel.settings.name == *interface)
    }

    fn path(&self, interface: &InterfaceName) -> Option<Path> {
        let place = (0..self.tunnels.len()).find(|place| self.is(*place, interface))?;
        self.paths().get(place).cloned()
    }

    fn paths(&self) -> MutexGuard<'_, Vec<Path>> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tunnel {
    fn way(&self, path: &Path) -> Way {
        Way {
            interface: self.settings.name.clone(),
            index: path.index(),
            source: self.source,
            mss: self.settings.mss,
        }
    }
}

/// Longer than two rounds of questions.
const STEADY_AFTER: Duration = Duration::from_secs(3);

/// Whether something was about a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concerned {
    /// It was.
    Yes,
    /// It was about another interface.
    No,
}
