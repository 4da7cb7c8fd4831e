//! `[dns]` and `[[dns.forward]]`: DNS for devices.

use std::net::SocketAddr;

use ipnet::{IpNet, Ipv4Net};

use crate::config::diagnostics::{Problem, Report, Span};
use crate::config::reader::{At, Table};
use crate::config::values;
use crate::config::{Dns, DnsForward, ForeignDns, LanDns, OtherNames};
use crate::name::ServerName;

use super::network;

/// `dns.listen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ListenWord {
    Lan,
    Off,
}

/// The table, with its defaults.
pub(in crate::config) struct Draft {
    listen: Option<At<ListenWord>>,
    lan: LanDns,
    synthetic: Option<At<Ipv4Net>>,
    zones: Vec<At<ServerName>>,
}

impl Draft {
    pub(super) fn read(root: &mut Table<'_>, network: &network::Draft, report: &Report) -> Self {
        let mut draft =
            Self { listen: None, lan: LanDns::default(), synthetic: None, zones: Vec::new() };
        let Some(mut table) = root.optional_table("dns") else { return draft };
        draft.listen = table
            .required("listen", "\"lan\"")
            .and_then(|value| value.choice(&[("lan", ListenWord::Lan), ("off", ListenWord::Off)]));
        let given = draft.read_settings(&mut table);
        for forward in table.tables("forward") {
            draft.read_forward(forward, network, report);
        }
        table.finish();
        draft.check_off(&given, report);
        draft.check_synthetic(network, report);
        draft
    }

    pub(super) fn finish(self) -> Dns {
        match self.listen.map_or(ListenWord::Off, |listen| listen.value) {
            ListenWord::Lan => Dns::Lan(self.lan),
            ListenWord::Off => Dns::Off,
        }
    }

    /// Reads the single keys; returns those that are there.
    fn read_settings(&mut self, table: &mut Table<'_>) -> Vec<(&'static str, Span)> {
        let mut given = Vec::new();
        if let Some(value) = table.optional("foreign") {
            given.push(("foreign", value.key_span.clone()));
            let words = [("redirect", ForeignDns::Redirect), ("refuse", ForeignDns::Refuse)];
            if let Some(foreign) = value.choice(&words) {
                self.lan.foreign = foreign.value;
            }
        }
        if let Some(value) = table.optional("other-names") {
            given.push(("other-names", value.key_span.clone()));
            let words = [("refuse", OtherNames::Refuse), ("nxdomain", OtherNames::Nxdomain)];
            if let Some(other) = value.choice(&words) {
                self.lan.other_names = other.value;
            }
        }
        if let Some(value) = table.optional("queries-per-second") {
            given.push(("queries-per-second", value.key_span.clone()));
            if let Some(queries) = value.count(1, MOST_QUERIES) {
                self.lan.queries_per_second = queries.value;
            }
        }
        if let Some(value) = table.optional("synthetic") {
            given.push(("synthetic", value.key_span.clone()));
            self.synthetic = value.parse(values::network4);
            self.lan.synthetic = self.synthetic.as_ref().map(|range| range.value);
        }
        given
    }

    /// Whether devices may be told to send names by their addresses.
    pub(super) fn has_synthetic(&self) -> bool {
        self.synthetic.is_some()
    }

    /// Where the zone stands that a name is forwarded by, if one does.
    pub(super) fn zone_of(&self, name: &ServerName) -> Option<&Span> {
        let forwards = &self.lan.forwards;
        let zone = &forwards.iter().find(|forward| forward.holds(name.as_str()))?.zone;
        self.zones.iter().find(|known| known.value == *zone).map(|known| &known.span)
    }

    /// An address that stands for a name may stand for nothing else.
    fn check_synthetic(&self, network: &network::Draft, report: &Report) {
        let Some(range) = &self.synthetic else { return };
        if range.value.prefix_len() > LEAST_SYNTHETIC {
            let what = format!("`{}` has room for too few names", range.value);
            let help = format!("write a /{LEAST_SYNTHETIC} or larger, for example 198.18.0.0/16");
            report.error(Problem::at(range.span.clone(), what).help(help));
        }
        let overlaps = |other: IpNet| {
            let range = IpNet::V4(range.value);
            range.contains(&other) || other.contains(&range)
        };
        let device = network.device_networks.items.iter().find(|net| overlaps(net.value));
        let vpc = network.vpc_networks.items.iter().find(|net| overlaps(IpNet::V4(net.value)));
        let real = device.map(|net| &net.span).or_else(|| vpc.map(|net| &net.span));
        if let Some(span) = real {
            let what = format!("`{}` has real addresses in it", range.value);
            let problem = Problem::at(range.span.clone(), what)
                .also(span.clone(), "this network")
                .help("write a range that no network uses, for example 198.18.0.0/16");
            report.error(problem);
        }
    }

    fn read_forward(&mut self, mut table: Table<'_>, network: &network::Draft, report: &Report) {
        let zone = table.required("zone", ZONE).and_then(|value| value.parse(values::host));
        let servers = table
            .required("servers", SERVERS)
            .map(|value| value.filled_list(SERVERS, |item| item.parse(values::dns_server)));
        table.finish();
        if let Some(zone) = &zone {
            if let Some(first) = self.zones.iter().find(|known| known.value == zone.value) {
                let what = format!("`{}` is forwarded twice", zone.value);
                let problem = Problem::at(zone.span.clone(), what)
                    .also(first.span.clone(), "first here")
                    .help("name all servers of a zone in one [[dns.forward]]");
                report.error(problem);
            }
            self.zones.push(zone.clone());
        }
        let (Some(zone), Some(servers)) = (zone, servers) else { return };
        if let Some(networks) = network.device_networks.whole() {
            for server in &servers.items {
                check_server(server, networks, report);
            }
        }
        let forward = DnsForward { zone: zone.value, servers: servers.into_values() };
        self.lan.forwards.push(forward);
    }

    /// Says which settings have no effect.
    fn check_off(&self, given: &[(&'static str, Span)], report: &Report) {
        let Some(listen) = &self.listen else { return };
        if listen.value == ListenWord::Lan {
            return;
        }
        let forwards = self.zones.first().map(|zone| ("[[dns.forward]]", zone.span.clone()));
        for (key, span) in given.iter().cloned().chain(forwards) {
            let problem = Problem::at(span, format!("`{key}` has no effect here"))
                .also(listen.span.clone(), "devices' DNS is left alone")
                .help("remove it");
            report.warning(problem);
        }
    }
}

/// What a device asks may reach the plant's own servers, and nothing beyond the plant.
fn check_server(server: &At<SocketAddr>, networks: &[At<IpNet>], report: &Report) {
    let address = server.value.ip();
    if !networks.iter().any(|network| network.value.contains(&address)) {
        let what = format!("the DNS server `{address}` is outside of devices.networks");
        let help = "name a server of the plant's own; names behind the tunnel belong in an \
                    [endpoint.*] table";
        report.error(Problem::at(server.span.clone(), what).help(help));
    }
}

/// The longest prefix of a synthetic range.
const LEAST_SYNTHETIC: u8 = 22;
/// Ten times what one core answers; catches a slip of the finger.
const MOST_QUERIES: u32 = 1_000_000;
const ZONE: &str = "\"plant.example\"";
const SERVERS: &str = "[\"10.10.0.53\"]";
