//! `[site]`, `[devices]`, `[tunnel]`, `[resolver]`, `[vpc]`: where everything is.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

use crate::config::diagnostics::{Problem, Report};
use crate::config::reader::{At, List, Table, Value};
use crate::config::values;
use crate::config::{Devices, InterfaceName, Resolver, Tunnel, TunnelInterface, Vpc, Zone};

/// The five tables.
pub(in crate::config) struct Draft {
    name: Option<At<String>>,
    region: Option<At<String>>,
    pub(super) account: Option<At<String>>,
    /// Whether the file has the key, right or wrong.
    pub(super) account_key: KeyState,
    device_interfaces: List<InterfaceName>,
    pub(super) device_networks: List<IpNet>,
    tunnel_interfaces: List<InterfaceName>,
    source: Option<At<Ipv4Addr>>,
    tunnels: Vec<TunnelInterface>,
    return_after: Duration,
    resolvers: List<SocketAddr>,
    last_good: Duration,
    pub(super) vpc_networks: List<Ipv4Net>,
    zones: Vec<Zone>,
}

/// Whether a key is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyState {
    Given,
    Absent,
}

/// What [`Draft::finish`] gives.
pub(super) struct Network {
    pub(super) name: String,
    pub(super) region: String,
    pub(super) account: Option<String>,
    pub(super) devices: Devices,
    pub(super) tunnel: Tunnel,
    pub(super) resolver: Resolver,
    pub(super) vpc: Vpc,
}

impl Draft {
    pub(super) fn read(root: &mut Table<'_>, report: &Report) -> Self {
        let mut draft = Self {
            name: None,
            region: None,
            account: None,
            account_key: KeyState::Absent,
            device_interfaces: List::missing(),
            device_networks: List::missing(),
            tunnel_interfaces: List::missing(),
            source: None,
            tunnels: Vec::new(),
            return_after: DEFAULT_RETURN,
            resolvers: List::missing(),
            last_good: DEFAULT_LAST_GOOD,
            vpc_networks: List::missing(),
            zones: Vec::new(),
        };
        draft.read_site(root);
        draft.read_devices(root);
        draft.read_tunnel(root, report);
        draft.read_resolver(root);
        draft.read_vpc(root, report);
        draft.check_interfaces(report);
        draft.check_networks(report);
        draft.check_addresses(report);
        draft
    }

    pub(super) fn finish(self) -> Option<Network> {
        Some(Network {
            name: self.name?.value,
            region: self.region?.value,
            account: self.account.map(|account| account.value),
            devices: Devices {
                interfaces: filled(self.device_interfaces)?,
                networks: filled(self.device_networks)?,
            },
            tunnel: Tunnel {
                interfaces: filled(self.tunnel_interfaces)?,
                source: self.source.map(|source| source.value),
                each: self.tunnels,
                return_after: self.return_after,
            },
            resolver: Resolver { inbound: filled(self.resolvers)?, last_good: self.last_good },
            vpc: Vpc { networks: filled(self.vpc_networks)?, zones: self.zones },
        })
    }

    fn read_site(&mut self, root: &mut Table<'_>) {
        let Some(mut table) = root.required_table("site", "the box's name and the AWS region")
        else {
            return;
        };
        self.name =
            table.required("name", "\"augsburg-2\"").and_then(|value| value.parse(values::label));
        self.region = table
            .required("region", "\"eu-central-1\"")
            .and_then(|value| value.parse(values::region));
        if let Some(value) = table.optional("account") {
            self.account_key = KeyState::Given;
            self.account = value.parse(values::account);
        }
        table.finish();
    }

    fn read_devices(&mut self, root: &mut Table<'_>) {
        let Some(mut table) = root.required_table("devices", "where plant devices arrive") else {
            return;
        };
        if let Some(value) = table.required("interfaces", "[\"lan0\"]") {
            self.device_interfaces = interfaces(&value, "[\"lan0\"]");
        }
        if let Some(value) = table.required("networks", DEVICE_NETWORKS) {
            self.device_networks =
                value.filled_list(DEVICE_NETWORKS, |item| item.parse(values::network));
        }
        table.finish();
    }

    fn read_tunnel(&mut self, root: &mut Table<'_>, report: &Report) {
        let Some(mut table) = root.required_table("tunnel", "the only ways out") else {
            return;
        };
        if let Some(value) = table.required("interfaces", "[\"xfrm101\"]") {
            self.tunnel_interfaces = interfaces(&value, "[\"xfrm101\"]");
        }
        self.source = table.optional("source").and_then(|value| value.parse(values::source));
        let mss = segment_size(&mut table, report).unwrap_or(DEFAULT_MSS);
        if let Some(value) = table.optional("return-after") {
            self.return_after = or_never(&value).unwrap_or(DEFAULT_RETURN);
        }
        for name in self.tunnel_interfaces.values() {
            let own = table.misplaced(name.as_str());
            let own = own.and_then(|value| value.table(format!("[tunnel.{name}]")));
            let mut tunnel = TunnelInterface { name, gateway: None, mss };
            if let Some(mut own) = own {
                let gateway = own.optional("gateway");
                tunnel.gateway = gateway.and_then(|v| v.parse(values::gateway)).map(|g| g.value);
                tunnel.mss = segment_size(&mut own, report).unwrap_or(mss);
                own.finish();
            }
            self.tunnels.push(tunnel);
        }
        table.finish();
    }

    fn read_resolver(&mut self, root: &mut Table<'_>) {
        let purpose = "the addresses of the Route 53 Resolver inbound endpoints";
        let Some(mut table) = root.required_table("resolver", purpose) else { return };
        if let Some(value) = table.required("inbound", RESOLVERS) {
            self.resolvers = value.filled_list(RESOLVERS, |item| item.parse(values::resolver));
        }
        if let Some(value) = table.optional("last-good") {
            self.last_good = or_never(&value).unwrap_or(DEFAULT_LAST_GOOD);
        }
        table.finish();
    }

    fn read_vpc(&mut self, root: &mut Table<'_>, report: &Report) {
        let Some(mut table) = root.required_table("vpc", "the networks of the VPC") else {
            return;
        };
        if let Some(value) = table.required("networks", VPC_NETWORKS) {
            self.vpc_networks =
                value.filled_list(VPC_NETWORKS, |item| item.parse(values::vpc_network));
        }
        let zones = table.optional("zones").and_then(|value| value.table("[vpc.zones]".to_owned()));
        if let Some(zones) = zones {
            self.read_zones(zones, report);
        }
        table.finish();
        for network in self.vpc_networks.items.iter().filter(|n| !values::is_private(n.value)) {
            let problem = Problem::at(
                network.span.clone(),
                format!("`{}` is not a private address range", network.value),
            );
            report.warning(problem.help(
                "make sure that it is the VPC's own: an address in it that is not would be \
                 reachable",
            ));
        }
    }

    fn read_zones(&mut self, mut table: Table<'_>, report: &Report) {
        let mut taken: Vec<At<Ipv4Net>> = Vec::new();
        for value in table.rest() {
            if let Err(fault) = values::label(value.key) {
                report.error(Problem::at(value.key_span.clone(), fault.message).help(fault.help));
                continue;
            }
            let networks = value.filled_list(ZONE, |item| item.parse(values::network4));
            inside_vpc(&networks, &self.vpc_networks, "subnet", report);
            for network in &networks.items {
                if let Some(other) = taken.iter().find(|other| overlap4(other.value, network.value))
                {
                    let what = format!("`{}` is in two zones", network.value);
                    let problem = Problem::at(network.span.clone(), what)
                        .also(other.span.clone(), "also here")
                        .help("a subnet is in one availability zone; remove one of the two");
                    report.error(problem);
                }
            }
            taken.extend(networks.items.iter().cloned());
            let zone = Zone { name: Arc::from(value.key), networks: networks.into_values() };
            self.zones.push(zone);
        }
    }

    fn check_interfaces(&self, report: &Report) {
        for tunnel in &self.tunnel_interfaces.items {
            let same = |device: &&At<InterfaceName>| device.value == tunnel.value;
            if let Some(device) = self.device_interfaces.items.iter().find(same) {
                let what = format!("`{}` is a tunnel and a device interface", tunnel.value);
                let problem = Problem::at(tunnel.span.clone(), what)
                    .also(device.span.clone(), "devices arrive here")
                    .help("name the tunnel's interface here, and the plant's in [devices]");
                report.error(problem);
            }
        }
    }

    fn check_networks(&self, report: &Report) {
        for device in &self.device_networks.items {
            let IpNet::V4(network) = device.value else { continue };
            let clash = |vpc: &&At<Ipv4Net>| overlap4(vpc.value, network);
            if let Some(vpc) = self.vpc_networks.items.iter().find(clash) {
                let what =
                    format!("the device network `{network}` overlaps the VPC's `{}`", vpc.value);
                let problem = Problem::at(device.span.clone(), what)
                    .also(vpc.span.clone(), "the VPC's network")
                    .help("narrow one of them: an address must be on one side of the gate only");
                report.error(problem);
            }
        }
    }

    fn check_addresses(&self, report: &Report) {
        if let Some(source) = &self.source {
            let holds = |network: &&At<IpNet>| network.value.contains(&IpAddr::V4(source.value));
            if let Some(network) = self.device_networks.items.iter().find(holds) {
                let what = format!("the tunnel's source `{}` is a device's address", source.value);
                let problem = Problem::at(source.span.clone(), what)
                    .also(network.span.clone(), "in this device network")
                    .help("use an address of this box outside of devices.networks");
                report.error(problem);
            }
        }
        let Some(networks) = self.vpc_networks.whole() else { return };
        for resolver in &self.resolvers.items {
            let IpAddr::V4(address) = resolver.value.ip() else { continue };
            if !networks.iter().any(|network| network.value.contains(&address)) {
                let what = format!("the resolver `{address}` is outside of vpc.networks");
                let help = "add its network to vpc.networks: nothing outside is reachable through \
                            the tunnel";
                report.error(Problem::at(resolver.span.clone(), what).help(help));
            }
        }
    }
}

/// Reports every network that is not inside one of the VPC's.
pub(super) fn inside_vpc(
    networks: &List<Ipv4Net>,
    vpc: &List<Ipv4Net>,
    what: &str,
    report: &Report,
) {
    let Some(walls) = vpc.whole() else { return };
    for network in &networks.items {
        if !walls.iter().any(|wall| wall.value.contains(&network.value)) {
            let message = format!("the {what} `{}` is outside of vpc.networks", network.value);
            let mut problem = Problem::at(network.span.clone(), message).help(
                "correct it, or add its network to vpc.networks: nothing outside is ever dialled",
            );
            if let Some(wall) = walls.first() {
                problem = problem.also(wall.span.clone(), "the VPC's networks are here");
            }
            report.error(problem);
        }
    }
}

fn interfaces(value: &Value<'_>, example: &str) -> List<InterfaceName> {
    value.filled_list(example, |item| item.parse(values::interface))
}

/// A duration, or `0`.
fn or_never(value: &Value<'_>) -> Option<Duration> {
    if value.number_text() == Some("0") {
        return Some(Duration::ZERO);
    }
    value.parse(values::duration).map(|duration| duration.value)
}

/// `mss`, or `mtu` less the headers.
fn segment_size(table: &mut Table<'_>, report: &Report) -> Option<u16> {
    let mss = table.optional("mss");
    let mtu = table.optional("mtu");
    if let (Some(mss), Some(mtu)) = (&mss, &mtu) {
        let what = format!("`mtu` and `mss` are both in {}", table.title);
        let problem = Problem::at(mtu.key_span.clone(), what)
            .also(mss.key_span.clone(), "also here")
            .help("keep one: mss is mtu less 40 bytes of headers");
        report.error(problem);
    }
    let given = mss.and_then(|value| value.integer(LEAST_MSS, MOST_MSS));
    let of_mtu = mtu.and_then(|value| value.integer(LEAST_MSS + HEADERS, MOST_MSS + HEADERS));
    given
        .or(of_mtu.map(|mtu| At { value: mtu.value - HEADERS, span: mtu.span }))
        .map(|mss| mss.value)
}

fn overlap4(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b) || b.contains(&a)
}

/// Items of a list that must have some.
fn filled<T>(list: List<T>) -> Option<Vec<T>> {
    let values = list.into_values();
    (!values.is_empty()).then_some(values)
}

/// 1,400 bytes of a VPN's inner packet less 40 of headers: fits every cipher AWS offers.
const DEFAULT_MSS: u16 = 1_360;
/// RFC 9293 section 3.7.1: what every host takes.
const LEAST_MSS: u16 = 536;
/// A jumbo frame of 9,000 bytes less 40 of headers.
const MOST_MSS: u16 = 8_960;
/// IPv4 and TCP without options.
const HEADERS: u16 = 40;
/// Some tunnels come back for a moment again and again.
const DEFAULT_RETURN: Duration = Duration::from_secs(30);
const DEFAULT_LAST_GOOD: Duration = Duration::from_secs(24 * 3_600);
const DEVICE_NETWORKS: &str = "[\"10.10.0.0/16\"]";
const RESOLVERS: &str = "[\"10.20.0.53\", \"10.20.1.53\"]";
const VPC_NETWORKS: &str = "[\"10.20.0.0/16\"]";
const ZONE: &str = "[\"10.20.0.0/24\"]";
