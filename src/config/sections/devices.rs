//! `[[device]]` and `[[expect]]`: single devices, and tests of the policy.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::config::diagnostics::{Lines, Problem, Report, Span};
use crate::config::reader::{At, Table};
use crate::config::values::{self, shown};
use crate::config::{DeviceEntry, Expectation, ExpectedVerdict, MacAddr, suggest};

use super::{dns, endpoint, network};

/// Both kinds of entries.
pub(in crate::config) struct Draft {
    pub(super) devices: Vec<DeviceEntry>,
    pub(super) expectations: Vec<Expectation>,
    names: Seen<String>,
    macs: Seen<MacAddr>,
    addresses: Seen<IpNet>,
    without_sni: Vec<Span>,
}

/// What was seen, and where first.
type Seen<T> = HashMap<T, Span>;

impl Draft {
    pub(super) fn read(
        root: &mut Table<'_>,
        lines: &Lines,
        network: &network::Draft,
        endpoints: &endpoint::Draft,
        report: &Report,
    ) -> Self {
        let mut draft = Self {
            devices: Vec::new(),
            expectations: Vec::new(),
            names: HashMap::new(),
            macs: HashMap::new(),
            addresses: HashMap::new(),
            without_sni: Vec::new(),
        };
        for table in root.tables("device") {
            draft.read_device(table, network, endpoints, report);
        }
        for table in root.tables("expect") {
            draft.read_expectation(table, lines, report);
        }
        draft
    }

    /// A device without SNI needs addresses that stand for names.
    pub(super) fn check_without_sni(&mut self, dns: &dns::Draft, report: &Report) {
        if dns.has_synthetic() {
            return;
        }
        for span in self.without_sni.drain(..) {
            let what = "`without-sni` needs addresses that stand for names";
            let help = "add them to [dns], for example: synthetic = \"198.18.0.0/16\"";
            report.error(Problem::at(span, what).help(help).needs_whole_file());
        }
    }

    fn read_device(
        &mut self,
        mut table: Table<'_>,
        network: &network::Draft,
        endpoints: &endpoint::Draft,
        report: &Report,
    ) {
        let name = table
            .required("name", "\"press-3\"")
            .and_then(|value| value.parse(values::device_name));
        let (mac, address) = (table.optional("mac"), table.optional("address"));
        if mac.is_none() && address.is_none() {
            let what = "this device has neither `mac` nor `address`";
            let help = "add at least one, for example mac = \"00:1b:1b:2c:3d:4e\" or address = \
                        \"10.10.3.7\"";
            let problem = Problem::at(table.header.clone(), what).help(help);
            report.error(problem.needs_whole_file());
        }
        let mac = mac.and_then(|value| value.parse(values::mac));
        let address = address.and_then(|value| value.parse(values::address_or_network));
        let allow = table
            .required("allow", "[\"iot-data\"]")
            .map(|value| value.list(|item| endpoints.resolve(item, report)));
        let without_sni = table.optional("without-sni").and_then(|value| value.boolean());
        if let Some(without_sni) = without_sni.as_ref().filter(|without| without.value) {
            self.without_sni.push(without_sni.span.clone());
        }
        table.finish();
        if let Some(name) = &name {
            once(
                &mut self.names,
                name,
                &format!("two devices are called `{}`", name.value),
                report,
            );
        }
        if let Some(mac) = &mac {
            once(&mut self.macs, mac, &format!("two devices have the MAC `{}`", mac.value), report);
        }
        if let Some(address) = &address {
            let what = format!("two devices have the address `{}`", plain(address.value));
            once(&mut self.addresses, address, &what, report);
            check_address(address, network, report);
        }
        let (Some(name), Some(allow)) = (name, allow) else { return };
        self.devices.push(DeviceEntry {
            name: Arc::from(name.value),
            mac: mac.map(|mac| mac.value),
            address: address.map(|address| address.value),
            allow: allow.into_values(),
            without_sni: without_sni.is_some_and(|without| without.value),
        });
    }

    fn read_expectation(&mut self, mut table: Table<'_>, lines: &Lines, report: &Report) {
        let line = lines.line(table.header.start);
        let device = table.required("device", "\"press-3\"").and_then(|value| value.text());
        let name = table
            .required("name", "\"historian.corp.example\"")
            .and_then(|value| value.parse(expected_name));
        let port = table.optional("port").and_then(|value| value.integer(1, u16::MAX));
        let verdicts = [("allow", ExpectedVerdict::Allow), ("deny", ExpectedVerdict::Deny)];
        let verdict =
            table.required("verdict", "\"deny\"").and_then(|value| value.choice(&verdicts));
        table.finish();
        if let Some(device) = &device {
            self.check_expected_device(device, report);
        }
        let (Some(device), Some(name), Some(verdict)) = (device, name, verdict) else { return };
        self.expectations.push(Expectation {
            device: device.value.to_owned(),
            name: name.value,
            port: port.map_or(HTTPS, |port| port.value),
            verdict: verdict.value,
            line,
        });
    }

    fn check_expected_device(&self, device: &At<&str>, report: &Report) {
        if self.names.contains_key(device.value) || device.value.parse::<IpAddr>().is_ok() {
            return;
        }
        let what = format!("`{}` is neither a [[device]] nor an address", shown(device.value));
        let help = match suggest::nearest(device.value, self.names.keys().map(String::as_str)) {
            Some(guess) => format!("did you mean \"{guess}\"?"),
            None => "write the `name` of a [[device]], or a device's IP address".to_owned(),
        };
        report.error(Problem::at(device.span.clone(), what).help(help).needs_whole_file());
    }
}

/// Reports the second of two equal values.
fn once<T: Eq + Hash + Clone>(seen: &mut Seen<T>, at: &At<T>, what: &str, report: &Report) {
    if let Some(first) = seen.get(&at.value) {
        let problem = Problem::at(at.span.clone(), what).also(first.clone(), "first here");
        report.error(problem.help("correct or remove one: a device has one entry"));
        return;
    }
    seen.insert(at.value.clone(), at.span.clone());
}

fn check_address(address: &At<IpNet>, network: &network::Draft, report: &Report) {
    let Some(networks) = network.device_networks.whole() else { return };
    if networks.iter().any(|network| network.value.contains(&address.value)) {
        return;
    }
    let what = format!("`{}` is outside of devices.networks", plain(address.value));
    let mut problem = Problem::at(address.span.clone(), what)
        .help("correct it, or add its network to devices.networks");
    if let Some(first) = networks.first() {
        problem = problem.also(first.span.clone(), "devices' networks are here");
    }
    report.error(problem);
}

/// The name of an expectation may be none that a policy would take: that it is refused is the test.
fn expected_name(text: &str) -> Result<String, values::Fault> {
    if !text.is_empty() && !text.chars().any(char::is_control) {
        return Ok(text.to_owned());
    }
    Err(values::Fault::new(
        if text.is_empty() {
            "the name is empty".to_owned()
        } else {
            format!("`{}` cannot be asked for", shown(text))
        },
        "write the server name that the device would send, for example historian.corp.example",
    ))
}

/// A single address without its prefix length.
fn plain(network: IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() {
        return network.addr().to_string();
    }
    network.to_string()
}

const HTTPS: u16 = 443;
