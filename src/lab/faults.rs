//! What breaks, and what leaks.

use std::net::IpAddr;

use serde_json::Value;

use super::error::LabError;
use super::services::Seen;
use super::topology::{
    ZONES, ZoneSite, configure, ipsec_peer, tunnel_far_end, tunnel_near_end, tunnel_route,
    tunnel_wire,
};
use super::{Lab, external, netns};

/// Packets of one kind that reached the public side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leak {
    /// Their source.
    pub from: IpAddr,
    /// Their destination.
    pub to: IpAddr,
    /// Their protocol, for example `tcp`.
    pub protocol: String,
}

impl Lab {
    /// A zone falls silent: its endpoints and its resolver neither answer nor refuse.
    ///
    /// # Errors
    /// When there is no such zone, or it is silent already.
    pub fn zone_down(&self, name: &str) -> Result<(), LabError> {
        vpc_set("add", "silent_zones", &format!("{}/24", zone(name)?.address(0)))
    }

    /// Ends [`Lab::zone_down`].
    ///
    /// # Errors
    /// When there is no such zone, or it is not silent.
    pub fn zone_up(&self, name: &str) -> Result<(), LabError> {
        vpc_set("delete", "silent_zones", &format!("{}/24", zone(name)?.address(0)))
    }

    /// All resolvers of the VPC fall silent.
    ///
    /// # Errors
    /// When the rule cannot be set.
    pub fn resolvers_down(&self) -> Result<(), LabError> {
        vpc_set("add", "silent_hosts", &ZONES.map(|zone| zone.resolver().to_string()).join(", "))
    }

    /// Ends [`Lab::resolvers_down`].
    ///
    /// # Errors
    /// When they are not silent.
    pub fn resolvers_up(&self) -> Result<(), LabError> {
        let resolvers = ZONES.map(|zone| zone.resolver().to_string()).join(", ");
        vpc_set("delete", "silent_hosts", &resolvers)
    }

    /// Tunnel 1 or 2 loses its link, as when its daemon ends: the box's kernel knows at once.
    ///
    /// # Errors
    /// When there is no such tunnel.
    pub fn tunnel_down(&self, tunnel: u8) -> Result<(), LabError> {
        configure("box", &format!("link set vpn{tunnel} down\n"))
    }

    /// Ends [`Lab::tunnel_down`]; link and route come back.
    ///
    /// # Errors
    /// When there is no such tunnel.
    pub fn tunnel_up(&self, tunnel: u8) -> Result<(), LabError> {
        configure("box", &format!("link set vpn{tunnel} up\n{}", tunnel_route(tunnel)))
    }

    /// Tunnel 1 or 2 swallows everything, as when the path outside breaks: its link stays up.
    ///
    /// # Errors
    /// When the rule cannot be set.
    pub fn tunnel_blackhole(&self, tunnel: u8) -> Result<(), LabError> {
        vpc_set("add", "silent_tunnels", &format!("\"tun{tunnel}\""))
    }

    /// Ends [`Lab::tunnel_blackhole`].
    ///
    /// # Errors
    /// When the tunnel does not swallow anything.
    pub fn tunnel_heal(&self, tunnel: u8) -> Result<(), LabError> {
        vpc_set("delete", "silent_tunnels", &format!("\"tun{tunnel}\""))
    }

    /// The far end of IPsec tunnel 1 or 2 falls silent: the public side loses what it sends and what is
    /// sent to it.
    ///
    /// # Errors
    /// When it is silent already.
    pub fn peer_down(&self, tunnel: u8) -> Result<(), LabError> {
        public_set("add", "silent_peers", tunnel)
    }

    /// Ends [`Lab::peer_down`].
    ///
    /// # Errors
    /// When it is not silent.
    pub fn peer_up(&self, tunnel: u8) -> Result<(), LabError> {
        public_set("delete", "silent_peers", tunnel)
    }

    /// The way to the far end of IPsec tunnel 1 or 2 loses packets of more than 1,364 bytes (1,300
    /// inside the tunnel) without a word.
    ///
    /// # Errors
    /// When it does so already.
    pub fn peer_narrow(&self, tunnel: u8) -> Result<(), LabError> {
        public_set("add", "narrow", tunnel)
    }

    /// How many packets of IKE and of ESP have come out of the box.
    ///
    /// # Errors
    /// When the counters cannot be read.
    pub fn ipsec_packets(&self) -> Result<(u64, u64), LabError> {
        Ok((counter("public", "tunnel_ike")?, counter("public", "tunnel_esp")?))
    }

    /// Tunnel 1 or 2 loses its interface, as when somebody deletes it.
    ///
    /// # Errors
    /// When there is no such tunnel.
    pub fn tunnel_delete(&self, tunnel: u8) -> Result<(), LabError> {
        configure("box", &format!("link delete vpn{tunnel}\n"))
    }

    /// Makes the interface of tunnel 1 or 2 again; the kernel gives it another index.
    ///
    /// # Errors
    /// When it is there already.
    pub fn tunnel_create(&self, tunnel: u8) -> Result<(), LabError> {
        configure("box", &tunnel_wire(tunnel, ""))?;
        configure("vpc", &tunnel_far_end(tunnel))?;
        configure("box", &tunnel_near_end(tunnel))
    }

    /// How many packets have reached the public side from the box, but for neighbour discovery.
    ///
    /// # Errors
    /// When the counter cannot be read.
    pub fn leaked_packets(&self) -> Result<u64, LabError> {
        counter("public", "leaked")
    }

    /// From where to where packets have leaked, each pair once.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn leaks(&self) -> Result<Vec<Leak>, LabError> {
        let mut leaks = Vec::new();
        for set in ["leaks4", "leaks6"] {
            let args = ["-j", "list", "set", "inet", "lab", set];
            let text = netns::within("public", || external::run("nft", &args))?;
            let answer = parse(&args, &text)?;
            let elements = find(&answer, "set").and_then(|set| set.get("elem")?.as_array());
            for element in elements.into_iter().flatten() {
                leaks.push(leak(element).ok_or_else(|| unreadable(&args, &element.to_string()))?);
            }
        }
        Ok(leaks)
    }

    /// How many packets have reached the VPC with a device's own address: past the gate, though
    /// not into the public.
    ///
    /// # Errors
    /// When the counter cannot be read.
    pub fn bypassed_packets(&self) -> Result<u64, LabError> {
        counter("vpc", "bypassed")
    }

    /// Which connections the public side's servers have seen.
    pub fn public_seen(&self) -> Vec<Seen> {
        self.public_ledger().seen()
    }

    /// Starts all counts and lists of what leaked or bypassed anew.
    ///
    /// # Errors
    /// When a counter cannot be reset.
    pub fn forget_leaks(&self) -> Result<(), LabError> {
        let rules = "reset counter inet lab leaked\nflush set inet lab leaks4\n\
                     flush set inet lab leaks6\n";
        netns::within("public", || external::feed("nft", &["-f", "-"], rules))?;
        let rules = "reset counter inet lab bypassed\n";
        netns::within("vpc", || external::feed("nft", &["-f", "-"], rules))?;
        self.public_ledger().forget();
        Ok(())
    }
}

fn zone(name: &str) -> Result<&'static ZoneSite, LabError> {
    let missing = || LabError::io(format!("zone {name}"))(std::io::ErrorKind::NotFound.into());
    ZONES.iter().find(|zone| zone.name == name).ok_or_else(missing)
}

fn public_set(verb: &str, set: &str, tunnel: u8) -> Result<(), LabError> {
    let rule = format!("{verb} element inet lab {set} {{ {} }}\n", ipsec_peer(tunnel));
    netns::within("public", || external::feed("nft", &["-f", "-"], &rule)).map(drop)
}

fn vpc_set(verb: &str, set: &str, elements: &str) -> Result<(), LabError> {
    let rule = format!("{verb} element inet lab {set} {{ {elements} }}\n");
    netns::within("vpc", || external::feed("nft", &["-f", "-"], &rule)).map(drop)
}

fn counter(namespace: &str, name: &str) -> Result<u64, LabError> {
    let args = ["-j", "list", "counter", "inet", "lab", name];
    let text = netns::within(namespace, || external::run("nft", &args))?;
    let answer = parse(&args, &text)?;
    let packets = find(&answer, "counter").and_then(|counter| counter.get("packets")?.as_u64());
    packets.ok_or_else(|| unreadable(&args, &text))
}

fn parse(args: &[&str], text: &str) -> Result<Value, LabError> {
    serde_json::from_str(text).map_err(|error| unreadable(args, &error.to_string()))
}

/// The first object of this kind in an answer of nft (libnftables-json(5)).
fn find<'a>(answer: &'a Value, kind: &str) -> Option<&'a Value> {
    answer.get("nftables")?.as_array()?.iter().find_map(|object| object.get(kind))
}

fn leak(element: &Value) -> Option<Leak> {
    let element = element.get("elem").and_then(|inner| inner.get("val")).unwrap_or(element);
    let [from, to, protocol] = element.get("concat")?.as_array()?.as_slice() else { return None };
    Some(Leak {
        from: from.as_str()?.parse().ok()?,
        to: to.as_str()?.parse().ok()?,
        protocol: protocol.as_str().map_or_else(|| protocol.to_string(), str::to_owned),
    })
}

fn unreadable(args: &[&str], detail: &str) -> LabError {
    LabError::Answer { command: format!("nft {}", args.join(" ")), detail: detail.to_owned() }
}
