//! Which names lead to which endpoint: what the file lists, and what the catalogue makes of it.
//!
//! A name is matched exactly. The only exception is `any-bucket`, which matches everything below
//! the region's S3 name.

use std::collections::HashMap;
use std::sync::Arc;

use ipnet::Ipv4Net;

use super::catalogue::{self, Blanks, Classified, Partition, Row, Usage};
use super::devices::Permits;
use super::{EndpointRule, ExactName, Offered};
use crate::config::{EndpointConfig, Service, Site};
use crate::name::ServerName;

/// One endpoint service of one `[endpoint.*]` table.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) endpoint: Arc<EndpointRule>,
    /// The bit of the table in [`Permits`].
    pub(super) table: usize,
    pub(super) ports: Box<[u16]>,
}

/// What the names say about one name and port.
#[derive(Clone, Copy, Debug)]
pub(super) enum Admission<'p> {
    /// An endpoint has the name and the port, and the device may use it.
    Granted(&'p Arc<Rule>),
    /// An endpoint has the name and the port, but the device may not use it.
    NotPermitted(&'p Arc<Rule>),
    /// An endpoint has the name, but none of those has the port.
    WrongPort(&'p Arc<Rule>),
    /// No endpoint has the name.
    NoName,
}

/// All allowed names.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Most names have one rule. A name listed under two tables may be used by whoever may use
    /// either of them.
    exact: HashMap<ServerName, Vec<Arc<Rule>>>,
    /// With a leading dot.
    suffixes: Vec<(Box<str>, Arc<Rule>)>,
    listed: Vec<ExactName>,
    ports: Box<[u16]>,
}

impl Names {
    pub(super) fn compile(site: &Site) -> Self {
        let mut names = Self::default();
        let mut tables: Vec<Table<'_>> = site
            .endpoints
            .iter()
            .enumerate()
            .map(|(index, config)| Table { site, config, index, rules: Vec::new() })
            .collect();
        // What the file says outright comes before what the catalogue makes of it.
        for table in &mut tables {
            for host in &table.config.hosts {
                let rule = table.rule_of_host(host);
                names.add(host.clone(), &rule, Offered::Always);
            }
        }
        for table in &mut tables {
            table.add_catalogue_names(&mut names);
        }
        names.ports = sorted(tables.iter().flat_map(|table| &table.rules)).into();
        names
    }

    /// The rules that have a name, in order of precedence. Allocates nothing.
    pub(super) fn rules(&self, name: &ServerName) -> impl Iterator<Item = &Arc<Rule>> {
        let text = name.as_str();
        let below = self.suffixes.iter().filter(move |(suffix, _)| text.ends_with(&**suffix));
        self.exact.get(text).into_iter().flatten().chain(below.map(|(_, rule)| rule))
    }

    /// Finds a rule that has the name and the port and is permitted, or says what is missing.
    pub(super) fn admit(&self, name: &ServerName, permits: &Permits, port: u16) -> Admission<'_> {
        let mut so_far = Admission::NoName;
        for rule in self.rules(name) {
            so_far = match so_far {
                _ if !rule.ports.contains(&port) => match so_far {
                    Admission::NoName => Admission::WrongPort(rule),
                    nearer => nearer,
                },
                _ if permits.has(rule.table) => return Admission::Granted(rule),
                Admission::NotPermitted(_) => so_far,
                _ => Admission::NotPermitted(rule),
            };
        }
        so_far
    }

    /// The ports on which a name is offered, sorted.
    pub(super) fn ports_of(&self, name: &ServerName) -> Vec<u16> {
        sorted(self.rules(name))
    }

    /// The names that are matched exactly, with the endpoint of each.
    pub(super) fn listed(&self) -> &[ExactName] {
        &self.listed
    }

    /// The ports of all endpoints, sorted.
    pub(super) fn ports(&self) -> &[u16] {
        &self.ports
    }

    fn add(&mut self, name: ServerName, rule: &Arc<Rule>, offered: Offered) {
        let rules = self.exact.entry(name.clone()).or_default();
        if rules.iter().any(|known| Arc::ptr_eq(known, rule)) {
            return;
        }
        rules.push(Arc::clone(rule));
        let (endpoint, ports) = (Arc::clone(&rule.endpoint), rule.ports.clone());
        self.listed.push(ExactName { name, endpoint, ports, offered });
    }
}

/// The ports of some rules, without duplicates.
fn sorted<'r>(rules: impl Iterator<Item = &'r Arc<Rule>>) -> Vec<u16> {
    let mut ports: Vec<u16> = rules.flat_map(|rule| rule.ports.iter().copied()).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// One `[endpoint.*]` table while it is compiled.
struct Table<'s> {
    site: &'s Site,
    config: &'s EndpointConfig,
    index: usize,
    /// One per endpoint service, so that flows share them.
    rules: Vec<Arc<Rule>>,
}

impl<'s> Table<'s> {
    /// The rule of a name that the file lists.
    fn rule_of_host(&mut self, host: &ServerName) -> Arc<Rule> {
        let known = catalogue::classify(host);
        let service = match known.as_ref().and_then(Classified::endpoint_service) {
            Some(service) => service,
            None => self.default_service().unwrap_or_else(|| self.config.id.to_string()),
        };
        let ports = catalogue::rows_of(self.config.service).next().map_or(HTTPS, |row| row.ports);
        self.rule(&service, ports, &self.config.networks)
    }

    /// The endpoint service of the table, for hosts that the catalogue does not know (an IoT domain
    /// configuration).
    fn default_service(&self) -> Option<String> {
        let row = catalogue::rows_of(self.config.service).next()?;
        row.endpoint_in(Partition::of_region(&self.site.region)?, &self.site.region)
    }

    fn add_catalogue_names(&mut self, names: &mut Names) {
        let region = self.site.region.as_str();
        let Some(partition) = Partition::of_region(region) else { return };
        for row in catalogue::rows_of(self.config.service) {
            if !row.partitions.contains(&partition) {
                continue;
            }
            let Some(service) = row.endpoint_in(partition, region) else { continue };
            let rule = self.rule(&service, row.ports, self.networks_of(row));
            for (place, form) in row.forms.iter().enumerate() {
                // The first form of its kind is the one that every VPC endpoint of the service
                // answers to; dual-stack forms and the like depend on how the endpoint was made.
                let earlier = row.forms.iter().take(place).any(|other| other.usage == form.usage);
                let offered = if earlier { Offered::Perhaps } else { Offered::Always };
                for (account, bucket) in self.blanks(form.usage) {
                    let text = form.render(&Blanks { partition, region, account, bucket });
                    // A bucket name that makes no host name can not be asked for as one either.
                    if let Some(Ok(name)) = text.map(|text| text.parse()) {
                        names.add(name, &rule, offered);
                    }
                }
                if form.usage == Usage::Bucket && self.config.any_bucket {
                    let blanks = Blanks { partition, region, account: "", bucket: "" };
                    let suffix = form.render(&blanks).map(String::into_boxed_str);
                    names.suffixes.extend(suffix.map(|suffix| (suffix, Arc::clone(&rule))));
                }
            }
        }
    }

    /// The accounts and buckets to write into a form: one name for each.
    fn blanks(&self, usage: Usage) -> Vec<(&'s str, &'s str)> {
        let config = self.config;
        match usage {
            Usage::Always => vec![("", "")],
            Usage::PathStyle if config.path_style => vec![("", "")],
            Usage::Bucket => config.buckets.iter().map(|bucket| ("", bucket.as_str())).collect(),
            Usage::Account if config.accounts.is_empty() => {
                self.site.account.iter().map(|account| (account.as_str(), "")).collect()
            }
            Usage::Account => config.accounts.iter().map(|a| (a.as_str(), "")).collect(),
            Usage::PathStyle | Usage::Hosts | Usage::Vpce => Vec::new(),
        }
    }

    /// Image layers lie behind the S3 endpoint, not behind ECR's: ECR's own networks would refuse
    /// their addresses.
    fn networks_of(&self, row: &Row) -> &'s [Ipv4Net] {
        if row.key != catalogue::LAYERS {
            return &self.config.networks;
        }
        let s3 = self.site.endpoints.iter().find(|endpoint| endpoint.service == Service::S3);
        s3.map_or(&self.site.vpc.networks, |endpoint| &endpoint.networks)
    }

    fn rule(&mut self, service: &str, ports: &[u16], networks: &[Ipv4Net]) -> Arc<Rule> {
        let same = |rule: &&Arc<Rule>| {
            &*rule.endpoint.service == service && *rule.endpoint.networks == *networks
        };
        if let Some(rule) = self.rules.iter().find(same) {
            return Arc::clone(rule);
        }
        let endpoint = EndpointRule {
            id: Arc::clone(&self.config.id),
            service: Arc::from(service),
            networks: networks.into(),
        };
        let rule = Arc::new(Rule {
            endpoint: Arc::new(endpoint),
            table: self.index,
            ports: self.config.ports.as_deref().unwrap_or(ports).into(),
        });
        self.rules.push(Arc::clone(&rule));
        rule
    }
}

/// The port of tables for which the file names none and the catalogue knows none.
const HTTPS: &[u16] = &[443];
