//! Which way out is up.
//!
//! Holds the state of each tunnel interface, best first, as the kernel tells it. Whoever opens a
//! socket towards the VPC asks here for a [`Way`]; there is no other source of one.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::config::{InterfaceName, Site};
use crate::net::netlink::Link;
use crate::net::socket::Way;

/// The tunnels of a site.
#[derive(Debug)]
pub struct Tunnels {
    tunnels: Vec<Tunnel>,
}

#[derive(Debug)]
struct Tunnel {
    way: Way,
    up: AtomicBool,
    /// The interface's index while it exists; 0 otherwise.
    index: AtomicU32,
}

/// One tunnel, for `status`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct TunnelStatus {
    /// The interface.
    pub interface: InterfaceName,
    /// The interface exists.
    pub present: bool,
    /// It is up and has a carrier.
    pub up: bool,
}

/// What a link's change meant for the tunnels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// This tunnel came up.
    Up(InterfaceName),
    /// This tunnel went down.
    Down(InterfaceName),
}

impl Tunnels {
    /// The tunnels of a site, all down until links are reported.
    pub fn new(site: &Site) -> Self {
        let tunnels = site.tunnel.interfaces.iter().map(|interface| Tunnel {
            way: Way {
                interface: interface.clone(),
                source: site.tunnel.source,
                mss: site.tunnel.mss,
            },
            up: AtomicBool::new(false),
            index: AtomicU32::new(0),
        });
        Self { tunnels: tunnels.collect() }
    }

    /// The ways that are up, best first.
    pub fn up(&self) -> impl Iterator<Item = &Way> {
        self.tunnels.iter().filter(|t| t.up.load(Ordering::Relaxed)).map(|t| &t.way)
    }

    /// Takes in the state of a link.
    pub fn link_changed(&self, link: &Link) -> Effect {
        let Some(tunnel) = self
            .tunnels
            .iter()
            .find(|tunnel| link.names.first().is_some_and(|n| n == tunnel.way.interface.as_str()))
        else {
            return Effect::None;
        };
        tunnel.index.store(link.index, Ordering::Relaxed);
        tunnel.set(link.up)
    }

    /// Takes in that a link is gone.
    pub fn link_gone(&self, index: u32) -> Effect {
        let gone = self.tunnels.iter().find(|t| t.index.load(Ordering::Relaxed) == index);
        let Some(tunnel) = gone.filter(|_| index != 0) else { return Effect::None };
        tunnel.index.store(0, Ordering::Relaxed);
        tunnel.set(false)
    }

    /// Every tunnel with its state, best first.
    pub fn status(&self) -> Vec<TunnelStatus> {
        let status = |tunnel: &Tunnel| TunnelStatus {
            interface: tunnel.way.interface.clone(),
            present: tunnel.index.load(Ordering::Relaxed) != 0,
            up: tunnel.up.load(Ordering::Relaxed),
        };
        self.tunnels.iter().map(status).collect()
    }
}

impl Tunnel {
    fn set(&self, up: bool) -> Effect {
        let was = self.up.swap(up, Ordering::Relaxed);
        match (was, up) {
            (false, true) => Effect::Up(self.way.interface.clone()),
            (true, false) => Effect::Down(self.way.interface.clone()),
            _ => Effect::None,
        }
    }
}
