//! `[endpoint.*]`: what devices may reach.

use std::sync::Arc;

use crate::config::diagnostics::{Problem, Report, Span};
use crate::config::reader::{At, List, Table, Value};
use crate::config::values::{self, shown};
use crate::config::{EndpointConfig, Service, suggest};
use crate::name::ServerName;

use super::{network, service};

/// All endpoint tables.
pub(in crate::config) struct Draft {
    endpoints: Vec<EndpointConfig>,
    hosts: Vec<(At<ServerName>, Arc<str>)>,
    /// The header of each table, also of those with problems.
    pub(super) headers: Vec<(Arc<str>, Span)>,
}

/// What the other tables have to do with an endpoint.
struct Context<'a> {
    network: &'a network::Draft,
    intercept_port: u16,
    report: &'a Report,
}

impl Draft {
    pub(super) fn read(
        root: &mut Table<'_>,
        network: &network::Draft,
        service: &service::Draft,
        report: &Report,
    ) -> Self {
        let mut draft = Self { endpoints: Vec::new(), hosts: Vec::new(), headers: Vec::new() };
        let example = "what devices may reach, for example [endpoint.iot-data] with its host";
        let Some(value) = root.optional("endpoint") else {
            let problem = Problem::at(root.header.clone(), "there is no [endpoint.*] table at all");
            report.error(problem.help(format!("add {example}")).needs_whole_file());
            return draft;
        };
        let Some(mut tables) = value.table("[endpoint.*]".to_owned()) else { return draft };
        let context = Context { network, intercept_port: service.port, report };
        let rest = tables.rest();
        if rest.is_empty() {
            let problem = Problem::at(value.key_span, "there is no endpoint in [endpoint]");
            report.error(problem.help(format!("add {example}")).needs_whole_file());
        }
        for value in rest {
            draft.read_one(&value, &context);
        }
        draft.check_hosts(report);
        draft
    }

    /// The name of a configured endpoint, or a problem that says which there are.
    pub(super) fn resolve(&self, value: &Value<'_>, report: &Report) -> Option<At<Arc<str>>> {
        let text = value.text()?;
        if let Some((id, _)) = self.headers.iter().find(|(id, _)| id.as_ref() == text.value) {
            return Some(At { value: Arc::clone(id), span: text.span });
        }
        let ids: Vec<&str> = self.headers.iter().map(|(id, _)| id.as_ref()).collect();
        let help = if Service::from_key(text.value) != Service::Custom {
            format!("add an [endpoint.{}] table, or remove the name here", text.value)
        } else if let Some(guess) = suggest::nearest(text.value, ids.iter().copied()) {
            format!("did you mean \"{guess}\"?")
        } else {
            format!("this file's endpoints are: {}", ids.join(", "))
        };
        let what = format!("there is no endpoint `{}`", shown(text.value));
        report.error(Problem::at(text.span, what).help(help).needs_whole_file());
        None
    }

    /// Where a host name stands, if it does.
    pub(super) fn host(&self, name: &ServerName) -> Option<&Span> {
        let known = self.hosts.iter().find(|(host, _)| host.value == *name);
        known.map(|(host, _)| &host.span)
    }

    /// Every endpoint's id, in the order of the file.
    pub(super) fn ids(&self) -> Vec<Arc<str>> {
        self.endpoints.iter().map(|endpoint| Arc::clone(&endpoint.id)).collect()
    }

    pub(super) fn finish(self) -> Vec<EndpointConfig> {
        self.endpoints
    }

    fn read_one(&mut self, value: &Value<'_>, context: &Context<'_>) {
        let report = context.report;
        if let Err(fault) = values::endpoint_id(value.key) {
            report.error(Problem::at(value.key_span.clone(), fault.message).help(fault.help));
            return;
        }
        let id: Arc<str> = Arc::from(value.key);
        self.headers.push((Arc::clone(&id), value.span.clone()));
        let Some(mut table) = value.table(format!("[endpoint.{id}]")) else { return };
        let service = Service::from_key(&id);
        let hosts = read_hosts(&mut table, report);
        let ports = read_ports(&mut table, context);
        let networks = read_networks(&mut table, context);
        let pace =
            table.optional("connects-per-second").and_then(|value| value.count(1, FASTEST_PACE));
        let mut endpoint = EndpointConfig {
            id: Arc::clone(&id),
            service,
            hosts: hosts.values(),
            ports: ports.or_else(|| (service == Service::Custom).then(|| vec![HTTPS])),
            networks,
            buckets: Vec::new(),
            path_style: false,
            any_bucket: false,
            accounts: Vec::new(),
            connects_per_second: pace.map(|pace| pace.value),
        };
        read_s3(&mut table, &mut endpoint, report);
        read_ecr(&mut table, &mut endpoint, context);
        let has_hosts = !hosts.items.is_empty() || hosts.whole().is_none();
        if !has_hosts {
            check_hosts_needed(&endpoint, &table, report);
        }
        table.finish();
        self.hosts.extend(hosts.items.into_iter().map(|host| (host, Arc::clone(&id))));
        self.endpoints.push(endpoint);
    }

    /// One name in two endpoints would be allowed by whichever is looked at first.
    fn check_hosts(&self, report: &Report) {
        let mut first: std::collections::HashMap<&ServerName, (&Span, &Arc<str>)> =
            std::collections::HashMap::new();
        for (host, id) in &self.hosts {
            match first.get(&host.value) {
                Some((span, other)) if *other != id => {
                    let what = format!("`{}` is in two endpoints", host.value);
                    let problem = Problem::at(host.span.clone(), what)
                        .also((*span).clone(), format!("already in [endpoint.{other}]"))
                        .help("remove one of the two: a name belongs to one endpoint");
                    report.error(problem);
                }
                Some(_) => {}
                None => {
                    first.insert(&host.value, (&host.span, id));
                }
            }
        }
    }
}

fn read_hosts(table: &mut Table<'_>, report: &Report) -> List<ServerName> {
    let one = table.optional("host");
    let many = table.optional("hosts").map(|value| {
        value.filled_list("[\"historian.corp.example\"]", |item| item.parse(values::host))
    });
    let mut hosts = many.unwrap_or_else(none);
    let Some(one) = one else { return hosts };
    match one.parse(values::host) {
        None => hosts.state = List::<ServerName>::missing().state,
        Some(host) => {
            if let Some(same) = hosts.items.iter().find(|other| other.value == host.value) {
                let what = format!("`{}` is in `host` and in `hosts`", host.value);
                let problem = Problem::at(host.span, what).also(same.span.clone(), "also here");
                report.error(problem.help("remove one"));
            } else {
                hosts.items.insert(0, host);
            }
        }
    }
    hosts
}

fn read_ports(table: &mut Table<'_>, context: &Context<'_>) -> Option<Vec<u16>> {
    let value = table.optional("ports")?;
    let ports = value.filled_list("[443]", |item| item.integer(1, u16::MAX));
    for port in ports.items.iter().filter(|port| port.value == context.intercept_port) {
        let what = format!("port {} belongs to the interception", port.value);
        let help = "set another `port` in [intercept]: flows to this one cannot be told from it";
        context.report.error(Problem::at(port.span.clone(), what).help(help));
    }
    Some(ports.into_values())
}

fn read_networks(table: &mut Table<'_>, context: &Context<'_>) -> Vec<ipnet::Ipv4Net> {
    let vpc = &context.network.vpc_networks;
    let Some(value) = table.optional("networks") else { return vpc.values() };
    let networks = value.filled_list("[\"10.20.0.0/24\"]", |item| item.parse(values::network4));
    network::inside_vpc(&networks, vpc, "endpoint's network", context.report);
    networks.into_values()
}

fn read_s3(table: &mut Table<'_>, endpoint: &mut EndpointConfig, report: &Report) {
    if endpoint.service != Service::S3 {
        for key in ["buckets", "path-style", "any-bucket"] {
            misplaced(table, key, "s3", report);
        }
        return;
    }
    let buckets =
        table.optional("buckets").map(|value| value.list(|item| item.parse(values::bucket)));
    let path_style = table.optional("path-style").and_then(|value| value.boolean());
    let any_bucket = table.optional("any-bucket").and_then(|value| value.boolean());
    let unknown = buckets.as_ref().is_some_and(|buckets| buckets.whole().is_none());
    endpoint.buckets = buckets.map(List::into_values).unwrap_or_default();
    endpoint.path_style = path_style.as_ref().is_some_and(|word| word.value);
    endpoint.any_bucket = any_bucket.as_ref().is_some_and(|word| word.value);
    let nothing = endpoint.buckets.is_empty() && !endpoint.path_style && !endpoint.any_bucket;
    if nothing && !unknown && endpoint.hosts.is_empty() {
        let what = "[endpoint.s3] allows nothing: it names no bucket";
        let help =
            "add buckets = [\"augsburg-artifacts\"] (or any-bucket = true, path-style = true)";
        report.error(Problem::at(table.header.clone(), what).help(help).needs_whole_file());
    }
    if let Some(word) = any_bucket.filter(|word| word.value) {
        let what = "every bucket of the region can be reached, also those of other accounts";
        let help = "list the `buckets`, or bound it with a policy on the S3 VPC endpoint";
        report.warning(Problem::at(word.span, what).help(help));
    }
    if let Some(word) = path_style.filter(|word| word.value) {
        let what = "with path-style names the bucket is not in the TLS server name, so every bucket \
                    of the region can be reached";
        let help = "use virtual-hosted names, or bound it with a policy on the S3 VPC endpoint";
        report.warning(Problem::at(word.span, what).help(help));
    }
}

fn read_ecr(table: &mut Table<'_>, endpoint: &mut EndpointConfig, context: &Context<'_>) {
    if endpoint.service != Service::Ecr {
        misplaced(table, "accounts", "ecr", context.report);
        return;
    }
    let example = "[\"123456789012\"]";
    if let Some(value) = table.optional("accounts") {
        endpoint.accounts =
            value.filled_list(example, |item| item.parse(values::account)).into_values();
        return;
    }
    match &context.network.account {
        Some(account) => endpoint.accounts = vec![account.value.clone()],
        None if context.network.account_key == network::KeyState::Given => {}
        None => {
            let what = "[endpoint.ecr] does not say whose registry it is";
            let help = format!("add accounts = {example} here, or `account` in [site]");
            let problem = Problem::at(table.header.clone(), what).help(help);
            context.report.error(problem.needs_whole_file());
        }
    }
}

fn misplaced(table: &mut Table<'_>, key: &str, service: &str, report: &Report) {
    if let Some(value) = table.misplaced(key) {
        let what = format!("`{key}` has no meaning in {}", table.title);
        let help = format!("move it to [endpoint.{service}], or remove it");
        report.error(Problem::at(value.key_span, what).help(help).needs_whole_file());
    }
}

/// Reports a table whose names only the site knows, and that has none.
fn check_hosts_needed(endpoint: &EndpointConfig, table: &Table<'_>, report: &Report) {
    let (what, help) = match endpoint.service {
        Service::IotData => (
            "`host` is missing in [endpoint.iot-data]".to_owned(),
            "add what `aws iot describe-endpoint --endpoint-type iot:Data-ATS` prints, as host = \
             \"…\""
                .to_owned(),
        ),
        Service::IotCredentials => (
            "`host` is missing in [endpoint.iot-credentials]".to_owned(),
            "add what `aws iot describe-endpoint --endpoint-type iot:CredentialProvider` prints, \
             as host = \"…\""
                .to_owned(),
        ),
        Service::Custom => {
            let known = Service::ALL.into_iter().filter(|service| *service != Service::Custom);
            let keys = known.map(Service::key);
            let guess = suggest::nearest(&endpoint.id, keys.clone());
            let advice = match guess {
                Some(guess) => format!("did you mean [endpoint.{guess}]?"),
                None => "name its hosts: hosts = [\"historian.corp.example\"]".to_owned(),
            };
            let known = keys.collect::<Vec<_>>().join(", ");
            (
                format!(
                    "`{}` is no service that Sluicegate knows, and has no `hosts`",
                    endpoint.id
                ),
                format!("{advice} (known services: {known})"),
            )
        }
        _ => return,
    };
    report.error(Problem::at(table.header.clone(), what).help(help).needs_whole_file());
}

fn none() -> List<ServerName> {
    List { items: Vec::new(), state: crate::config::reader::ListState::Whole }
}

const HTTPS: u16 = 443;
/// Faster than any endpoint is; catches a slip of the finger.
const FASTEST_PACE: u32 = 1_000_000;
