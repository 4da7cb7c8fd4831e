//! The namespaces and the wires between them.
//!
//! ```text
//! dev1 dev2 dev3 ── lan ── lan0 box wan0 ── public      203.0.113.0/24, 2001:db8:0:1::/64
//!                              box vpn1 ── vpc          169.254.10.0/30
//!                              box vpn2 ── vpc          169.254.11.0/30
//! ```
//!
//! The box forwards, IPv4 and IPv6, and every part knows the way back to the devices: without the
//! daemon a device reaches everything, so a leak would succeed and be counted.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::error::LabError;
use super::{external, netns};

/// One plant device.
#[derive(Clone, Copy, Debug)]
pub struct DeviceSite {
    /// Its namespace.
    pub namespace: &'static str,
    /// Its name in the configuration.
    pub name: &'static str,
    /// Its IPv4 address.
    pub address: Ipv4Addr,
    /// Its IPv6 address.
    pub address6: Ipv6Addr,
    /// Its hardware address, of the documentation range (RFC 7042 section 2.1.2).
    pub mac: &'static str,
}

/// The plant's devices: a press, a Greengrass core, and an old machine.
pub const DEVICES: [DeviceSite; 3] =
    [device("dev1", "press-3", 7), device("dev2", "gateway-1", 8), device("dev3", "legacy-1", 9)];

/// An availability zone of the VPC.
#[derive(Clone, Copy, Debug)]
pub struct ZoneSite {
    /// Its name.
    pub name: &'static str,
    /// The third octet of its subnet 10.20.N.0/24.
    pub subnet: u8,
}

/// The VPC's zones.
pub const ZONES: [ZoneSite; 2] =
    [ZoneSite { name: "eu-central-1a", subnet: 0 }, ZoneSite { name: "eu-central-1b", subnet: 1 }];

impl ZoneSite {
    /// The address with this last octet in this zone.
    pub const fn address(&self, octet: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 20, self.subnet, octet)
    }

    /// The zone's resolver endpoint.
    pub const fn resolver(&self) -> Ipv4Addr {
        self.address(RESOLVER_OCTET)
    }
}

/// The public IPv4 address with this last octet.
pub const fn public4(octet: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, 100, octet)
}

/// The public IPv6 address with this last octet, written in decimal as in IPv4.
pub fn public6(octet: u8) -> Ipv6Addr {
    let digits = u16::from(octet / 10) * 16 + u16::from(octet % 10);
    Ipv6Addr::new(0x2001, 0xdb8, 0xaa, 0, 0, 0, 0, digits)
}

/// Both public addresses with this last octet.
pub fn public(octet: u8) -> [IpAddr; 2] {
    [public4(octet).into(), public6(octet).into()]
}

/// The last octets that have addresses in both zones and on the public side.
pub const OCTETS: std::ops::RangeInclusive<u8> = 11..=19;
/// The last octet of resolvers, in the zones and on the public side.
pub const RESOLVER_OCTET: u8 = 53;
/// The box on the plant network.
pub const BOX_LAN: Ipv4Addr = Ipv4Addr::new(10, 10, 0, 1);
/// The box's source address into the tunnels.
pub const TUNNEL_SOURCE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 7);
/// The public side's router, which answers echo requests.
pub const PUBLIC_ROUTER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// The public side's router in IPv6.
pub const PUBLIC_ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 1);

/// What can differ between two labs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wiring {
    /// The tunnels' MTU in bytes, for example 1,446 as on a real IPsec tunnel; 1,500 where absent.
    pub tunnel_mtu: Option<u16>,
    /// Whether the tunnels carry segments as large as the stack likes, or of real size.
    pub offload: Offload,
    /// How the devices reach the box.
    pub plant: Plant,
    /// What the tunnels are made of.
    pub tunnels: Tunnels,
}

/// What the tunnels are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tunnels {
    /// Wires, called vpn1 and vpn2.
    #[default]
    Wires,
    /// IKEv2 and ESP by strongSwan, across the public side: TUN interfaces of the IKE daemons, with
    /// vpn1 and vpn2 as their other names.
    Ipsec,
}

/// How the devices reach the box.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plant {
    /// By a switch, as in a plant.
    #[default]
    Switched,
    /// The device of this number alone, by a wire of its own with the tunnels' MTU and offload:
    /// for measurements, which a switch would only dilute. The others reach nothing.
    Wired(usize),
}

/// Segmentation offload of the tunnels' interfaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offload {
    /// As the kernel sets it up: segments of up to 64 KiB cross the wire whole.
    #[default]
    On,
    /// TSO, GSO and GRO off (needs `ethtool`): segments have their real size.
    Off,
}

/// Makes all namespaces, wires, addresses, routes and counters.
///
/// # Errors
/// The first command that fails, with its words.
pub(crate) fn build(wiring: Wiring) -> Result<(), LabError> {
    let names = wiring.tunnels.namespaces();
    let mut namespaces = String::new();
    for name in &names {
        line(&mut namespaces, format_args!("netns add {name}"));
    }
    batch(&namespaces)?;
    for name in &names {
        netns::within(name, || settings(name, wiring.tunnels))?;
    }
    batch(&wires(wiring))?;
    configure("lan", &lan(wiring.plant))?;
    for device in &DEVICES {
        configure(device.namespace, &plant_device(device))?;
    }
    configure("box", BOX)?;
    if wiring.tunnels == Tunnels::Wires {
        for tunnel in [1, 2] {
            configure("box", &tunnel_near_end(tunnel))?;
        }
    }
    configure("vpc", &vpc())?;
    configure("public", &public_side())?;
    netns::within("vpc", || external::feed("nft", &["-f", "-"], VPC_RULES))?;
    netns::within("public", || external::feed("nft", &["-f", "-"], PUBLIC_RULES))?;
    if wiring.tunnels == Tunnels::Ipsec {
        for tunnel in [1, 2] {
            configure("public", &ipsec_router(tunnel))?;
            configure(&format!("aws{tunnel}"), &ipsec_endpoint(tunnel))?;
        }
    }
    if wiring.offload == Offload::Off {
        let mut ends = vec![("box", "vpn1"), ("box", "vpn2"), ("vpc", "tun1"), ("vpc", "tun2")];
        if let Some(device) = wiring.plant.wired() {
            ends.extend([(device.namespace, "eth0"), ("box", "lan0")]);
        }
        for (namespace, interface) in ends {
            let args = ["-K", interface, "tso", "off", "gso", "off", "gro", "off"];
            netns::within(namespace, || external::run("ethtool", &args))?;
        }
    }
    Ok(())
}

impl Plant {
    /// The device with a wire of its own.
    fn wired(self) -> Option<&'static DeviceSite> {
        match self {
            Self::Switched => None,
            Self::Wired(number) => DEVICES.get(number),
        }
    }
}

impl Tunnels {
    fn namespaces(self) -> Vec<&'static str> {
        match self {
            Self::Wires => NAMESPACES.to_vec(),
            Self::Ipsec => [&NAMESPACES[..], &IPSEC_NAMESPACES].concat(),
        }
    }
}

/// Removes the namespaces' names; each goes when the last socket in it does.
pub(crate) fn remove(tunnels: Tunnels) -> Result<(), LabError> {
    let mut namespaces = String::new();
    for name in tunnels.namespaces() {
        line(&mut namespaces, format_args!("netns delete {name}"));
    }
    batch(&namespaces)
}

/// The route into the VPC through tunnel 1 or 2, which the kernel forgets when its link goes down.
pub(crate) fn tunnel_route(tunnel: u8) -> String {
    let net = 9 + tunnel;
    let metric = 10 * u16::from(tunnel);
    format!(
        "route replace 10.20.0.0/16 via 169.254.{net}.1 dev vpn{tunnel} metric {metric} \
         src {TUNNEL_SOURCE}\n"
    )
}

/// The wire of tunnel 1 or 2; works in any namespace of the lab.
pub(crate) fn tunnel_wire(tunnel: u8, mtu: &str) -> String {
    format!("link add vpn{tunnel} netns box {mtu}type veth peer name tun{tunnel} {mtu}netns vpc\n")
}

/// The box's end of tunnel 1 or 2.
pub(crate) fn tunnel_near_end(tunnel: u8) -> String {
    let net = 9 + tunnel;
    format!(
        "link set vpn{tunnel} up\naddr add 169.254.{net}.2/30 dev vpn{tunnel}\n{}",
        tunnel_route(tunnel)
    )
}

/// The VPC's end of tunnel 1 or 2.
pub(crate) fn tunnel_far_end(tunnel: u8) -> String {
    let (net, metric) = (9 + tunnel, 10 * u16::from(tunnel));
    let via = format!("default via 169.254.{net}.2 dev tun{tunnel}");
    format!(
        "link set tun{tunnel} up\naddr add 169.254.{net}.1/30 dev tun{tunnel}\n\
         route add {via} metric {metric}\nroute add {via} table 10{tunnel}\n"
    )
}

/// Runs lines of `ip -batch` in a namespace.
pub(crate) fn configure(namespace: &str, lines: &str) -> Result<(), LabError> {
    netns::within(namespace, || batch(lines))
}

/// The outside address of the far end of IPsec tunnel 1 or 2.
pub const fn ipsec_peer(tunnel: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, 8 * tunnel + 2)
}

/// The way to the far end of a tunnel: a router of the public side.
fn ipsec_router(tunnel: u8) -> String {
    let router = 8 * tunnel + 1;
    format!("link set aws{tunnel} up\naddr add 192.0.2.{router}/30 dev aws{tunnel}\n")
}

/// The far end of a tunnel, between the public side and the VPC. Its IKE daemon wants an address of
/// the VPC's own, and without its daemon nothing for the box leaves it in clear.
fn ipsec_endpoint(tunnel: u8) -> String {
    let (net, router, peer) = (9 + tunnel, 8 * tunnel + 1, ipsec_peer(tunnel));
    format!(
        "link set lo up\nlink set wan0 up\naddr add {peer}/30 dev wan0\n\
         route add default via 192.0.2.{router}\nlink set vpc0 up\n\
         addr add 169.254.{net}.2/30 dev vpc0\naddr add 10.20.255.{tunnel}/32 dev lo\n\
         route add 10.20.0.0/16 via 169.254.{net}.1\nroute add blackhole 10.99.0.0/24 metric 4000\n"
    )
}

const NAMESPACES: [&str; 7] = ["lan", "dev1", "dev2", "dev3", "box", "vpc", "public"];
const IPSEC_NAMESPACES: [&str; 2] = ["aws1", "aws2"];

const fn device(namespace: &'static str, name: &'static str, octet: u8) -> DeviceSite {
    let address6 = Ipv6Addr::new(0xfd00, 0x10, 0x10, 0, 0, 0, 0, octet as u16);
    let mac = match octet {
        7 => "00:00:5e:00:53:07",
        8 => "00:00:5e:00:53:08",
        _ => "00:00:5e:00:53:09",
    };
    DeviceSite { namespace, name, address: Ipv4Addr::new(10, 10, 3, octet), address6, mac }
}

fn batch(lines: &str) -> Result<(), LabError> {
    external::feed("ip", &["-batch", "-"], lines).map(drop)
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{words}");
}

/// Kernel settings of one namespace, of the calling thread's namespace.
///
/// They come before the wires, because an interface takes its own from `default` when it appears.
fn settings(name: &str, tunnels: Tunnels) -> Result<(), LabError> {
    // Duplicate address detection would keep IPv6 addresses unusable for seconds.
    let mut settings = vec![
        ("ipv6/conf/all/accept_dad", "0"),
        ("ipv6/conf/default/accept_dad", "0"),
        ("ipv6/conf/default/accept_ra", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        ("ipv4/conf/all/rp_filter", "0"),
    ];
    if name == "box" {
        settings.extend([
            ("ipv4/ip_forward", "1"),
            ("ipv6/conf/all/forwarding", "1"),
            ("ipv4/conf/all/rp_filter", "2"),
            // A case waits for its ICMP error, and cases follow each other faster than the kernel's
            // one per second.
            ("ipv4/icmp_ratelimit", "0"),
            ("ipv6/icmp/ratelimit", "0"),
        ]);
    }
    if tunnels == Tunnels::Ipsec && ["public", "aws1", "aws2"].contains(&name) {
        settings.push(("ipv4/ip_forward", "1"));
    }
    for (setting, value) in settings {
        let path = format!("/proc/sys/net/{setting}");
        std::fs::write(&path, value)
            .map_err(LabError::io(format!("set {path} to {value} in {name}")))?;
    }
    Ok(())
}

fn wires(wiring: Wiring) -> String {
    let mut text = String::new();
    let mtu = wiring.tunnel_mtu.map_or_else(String::new, |mtu| format!("mtu {mtu} "));
    let wired = wiring.plant.wired();
    for DeviceSite { namespace, mac, .. } in &DEVICES {
        let (mtu, peer) = match wired {
            Some(device) if device.namespace == *namespace => {
                (mtu.as_str(), format!("lan0 {mtu}netns box"))
            }
            _ => ("", format!("{namespace} netns lan")),
        };
        line(
            &mut text,
            format_args!(
                "link add eth0 netns {namespace} address {mac} {mtu}type veth peer name {peer}"
            ),
        );
    }
    if wired.is_none() {
        text.push_str("link add lan0 netns box type veth peer name box netns lan\n");
    }
    text.push_str("link add wan0 netns box type veth peer name box netns public\n");
    for tunnel in [1, 2] {
        match wiring.tunnels {
            Tunnels::Wires => text.push_str(&tunnel_wire(tunnel, &mtu)),
            Tunnels::Ipsec => line(
                &mut text,
                format_args!(
                    "link add wan0 netns aws{tunnel} type veth peer name aws{tunnel} netns public\n\
                     link add vpc0 netns aws{tunnel} type veth peer name tun{tunnel} netns vpc"
                ),
            ),
        }
    }
    text
}

fn lan(plant: Plant) -> String {
    // Snooping would hold back neighbour discovery until it has learnt who listens.
    let mut text = String::from("link add br0 type bridge mcast_snooping 0\nlink set br0 up\n");
    let wired = plant.wired().map(|device| device.namespace);
    let ports = DEVICES.iter().map(|device| device.namespace).chain(["box"]);
    for port in ports.filter(|port| wired.is_none_or(|wired| ![wired, "box"].contains(port))) {
        line(&mut text, format_args!("link set {port} master br0 up"));
    }
    text
}

fn plant_device(device: &DeviceSite) -> String {
    let DeviceSite { address, address6, .. } = device;
    format!(
        "link set lo up
         link set eth0 up
         addr add {address}/16 dev eth0
         addr add {address6}/64 dev eth0 nodad
         route add default via {BOX_LAN}
         route add default via fd00:10:10::1
        "
    )
}

const BOX: &str = "link set lo up
addr add 10.99.0.7/32 dev lo
link set lan0 up
addr add 10.10.0.1/16 dev lan0
addr add fd00:10:10::1/64 dev lan0 nodad
link set wan0 up
addr add 203.0.113.7/24 dev wan0
addr add 2001:db8:0:1::7/64 dev wan0 nodad
route add default via 203.0.113.1
route add default via 2001:db8:0:1::1
route add blackhole 10.20.0.0/16 metric 4000
";

fn vpc() -> String {
    let mut text = String::from("link set lo up\n");
    for zone in &ZONES {
        for octet in OCTETS.chain([RESOLVER_OCTET]) {
            line(&mut text, format_args!("addr add {}/32 dev lo", zone.address(octet)));
        }
    }
    for tunnel in [1, 2] {
        text.push_str(&tunnel_far_end(tunnel));
        line(&mut text, format_args!("rule add fwmark {tunnel} lookup 10{tunnel}"));
    }
    text
}

fn public_side() -> String {
    let mut text = String::from(
        "link set lo up
link set box up
addr add 203.0.113.1/24 dev box
addr add 2001:db8:0:1::1/64 dev box nodad
route add 10.0.0.0/8 via 203.0.113.7
route add fd00::/8 via 2001:db8:0:1::7
",
    );
    for address in OCTETS.chain([RESOLVER_OCTET]).flat_map(public) {
        match address {
            IpAddr::V4(address) => line(&mut text, format_args!("addr add {address}/32 dev lo")),
            IpAddr::V6(address) => {
                line(&mut text, format_args!("addr add {address}/128 dev lo nodad"));
            }
        }
    }
    text
}

/// Replies leave by the tunnel that the last packet of their connection came in on. What is silent
/// is dropped without a word, in both directions, as a dead machine or a cut cable does.
const VPC_RULES: &str = "table inet lab {
    counter bypassed { }
    set silent_zones { type ipv4_addr; flags interval; }
    set silent_hosts { type ipv4_addr; }
    set silent_tunnels { type ifname; }
    chain arrive {
        type filter hook prerouting priority mangle; policy accept;
        iifname @silent_tunnels drop
        ip daddr @silent_zones drop
        ip daddr @silent_hosts drop
        iifname { tun1, tun2 } ip saddr 10.10.0.0/16 counter name bypassed
        iifname tun1 ct mark set 1
        iifname tun2 ct mark set 2
    }
    chain answer {
        type route hook output priority mangle; policy accept;
        ip saddr @silent_zones drop
        ip saddr @silent_hosts drop
        meta mark set ct mark
    }
    chain leave {
        type filter hook postrouting priority mangle; policy accept;
        oifname @silent_tunnels drop
    }
}
";

/// Every packet that comes out of the box counts, but for what IPv6 needs to have neighbours, and the
/// tunnels' own: UDP between the right ports, with the mark of IKE (RFC 3948 section 2.2) or the
/// index of a security association in front.
const PUBLIC_RULES: &str = "table inet lab {
    counter leaked { }
    counter tunnel_ike { }
    counter tunnel_esp { }
    set silent_peers { type ipv4_addr; }
    set narrow { type ipv4_addr; }
    set leaks4 { type ipv4_addr . ipv4_addr . inet_proto; size 4096; flags dynamic; }
    set leaks6 { type ipv6_addr . ipv6_addr . inet_proto; size 4096; flags dynamic; }
    chain arrive {
        type filter hook prerouting priority raw; policy accept;
        iifname box icmpv6 type { 133-137, 143 } accept
        ip daddr @silent_peers drop
        ip saddr @silent_peers drop
        ip daddr @narrow meta length > 1364 drop
        ip saddr @narrow meta length > 1364 drop
        iifname box ip saddr 203.0.113.7 ip daddr { 192.0.2.10, 192.0.2.18 } \
            udp sport { 4501, 4502 } udp dport 4500 @th,64,32 0 counter name tunnel_ike accept
        iifname box ip saddr 203.0.113.7 ip daddr { 192.0.2.10, 192.0.2.18 } \
            udp sport { 4501, 4502 } udp dport 4500 counter name tunnel_esp accept
        iifname box counter name leaked
        iifname box add @leaks4 { ip saddr . ip daddr . meta l4proto }
        iifname box add @leaks6 { ip6 saddr . ip6 daddr . meta l4proto }
    }
}
";
