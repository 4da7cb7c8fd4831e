//! What AWS calls its endpoints: a table from host names to services, in both directions.
//!
//! Owns every AWS host name form that this program knows. A row says which service a name belongs
//! to, which VPC endpoint serves it, on which ports, and, for names that no VPC endpoint serves,
//! what to do instead. The same forms recognise names ([`classify`]) and write them (for the tables
//! of the site), so the two can not disagree. Adding a service is adding a row.
//!
//! A classification never allows anything: it only explains a refusal.

mod demand;
mod index;
mod partition;
mod pattern;
mod public;
mod services;

use crate::config::Service;
use crate::name::ServerName;

pub use demand::{Objection, objections};
pub(crate) use partition::Partition;
pub(super) use pattern::Blanks;
pub(super) use services::LAYERS;

/// What the catalogue knows about a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classified<'n> {
    /// Whether a VPC endpoint serves it.
    pub kind: Kind,
    /// The row's key, for example `iot-data` or `greengrass-ats`; stable.
    pub row: &'static str,
    /// The service in words.
    pub title: &'static str,
    /// The region in the name; `None` for global names.
    pub region: Option<&'n str>,
    /// The account in the name (ECR registries, S3 access points).
    pub account: Option<&'n str>,
    /// The account-specific prefix in the name (IoT).
    pub prefix: Option<&'n str>,
    /// The bucket in the name (S3); it may contain dots.
    pub bucket: Option<&'n str>,
    /// The name of one VPC endpoint (`vpce-…`) rather than of the service.
    pub vpce: bool,
    /// The VPC endpoint service with `{r}` for the region; empty where there is none.
    endpoint: &'static str,
    /// The ports the service listens on.
    pub ports: &'static [u16],
    /// The ALPN protocol names its clients offer; informational, never judged: clients of one
    /// service offer those of another.
    pub alpn: &'static [&'static str],
    /// The TLS versions the service accepts, in ascending order.
    pub tls: &'static [u16],
    /// What to do instead, for names that no table of the catalogue's own can allow.
    pub remedy: Option<&'static str>,
}

/// Whether, and how, a name can be reached privately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A VPC endpoint serves it, and the service has an `[endpoint.*]` table.
    Private(Service),
    /// A VPC endpoint of its own serves it, and the catalogue has no table for that endpoint.
    OwnEndpoint,
    /// No VPC endpoint serves it.
    PublicOnly,
}

impl Classified<'_> {
    /// The VPC endpoint service, for example `com.amazonaws.eu-central-1.iot.data`.
    pub fn endpoint_service(&self) -> Option<String> {
        service_in(self.endpoint, self.region.unwrap_or_default())
    }
}

/// Finds the row of a name. Independent of any site. Allocates nothing, but for the very first name.
pub fn classify(name: &ServerName) -> Option<Classified<'_>> {
    let index::Found { row, form, matched, .. } = index::find(name.as_str())?;
    Some(Classified {
        kind: row.kind(),
        row: row.key,
        title: row.title,
        region: matched.region,
        account: matched.account,
        prefix: matched.prefix,
        bucket: matched.bucket,
        vpce: form.usage == Usage::Vpce,
        endpoint: row.template(matched.partition),
        ports: row.ports,
        alpn: row.alpn,
        tls: row.tls,
        remedy: match row.access {
            Access::Table(_) => None,
            Access::OwnEndpoint(remedy) | Access::PublicOnly(remedy) => Some(remedy),
        },
    })
}

/// The rows that an `[endpoint.*]` table switches on.
pub(super) fn rows_of(service: Service) -> impl Iterator<Item = &'static Row> {
    services::SERVICES.iter().filter(move |row| row.kind() == Kind::Private(service))
}

/// The `[endpoint.*]` table of a service; `None` for custom tables, whose names are their own.
pub(super) fn table_name(service: Service) -> Option<&'static str> {
    rows_of(service).find_map(|row| match row.access {
        Access::Table(table) => Some(table.name),
        _ => None,
    })
}

/// Every row, in the order in which they are tried: the first match wins, so rows with a literal
/// label stand before those with a blank in its place.
fn rows() -> impl Iterator<Item = &'static Row> {
    [public::OWN_ENDPOINT, public::PUBLIC_ONLY, services::SERVICES, public::LEGACY]
        .into_iter()
        .flatten()
}

/// One service, or one kind of name that needs its own remedy.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) key: &'static str,
    pub(super) title: &'static str,
    pub(super) access: Access,
    /// VPC endpoint service with `{r}` for the region; empty where there is none.
    pub(super) endpoint: &'static str,
    /// The same in China, where it differs.
    pub(super) endpoint_cn: Option<&'static str>,
    pub(super) ports: &'static [u16],
    pub(super) alpn: &'static [&'static str],
    /// TLS versions, in ascending order.
    pub(super) tls: &'static [u16],
    /// Partitions in which the row holds.
    pub(super) partitions: &'static [Partition],
    pub(super) forms: &'static [Form],
}

impl Row {
    fn kind(&self) -> Kind {
        match self.access {
            Access::Table(table) => Kind::Private(table.service),
            Access::OwnEndpoint(_) => Kind::OwnEndpoint,
            Access::PublicOnly(_) => Kind::PublicOnly,
        }
    }

    /// The VPC endpoint service in a region.
    pub(super) fn endpoint_in(&self, partition: Partition, region: &str) -> Option<String> {
        service_in(self.template(partition), region)
    }

    fn template(&self, partition: Partition) -> &'static str {
        match (partition, self.endpoint_cn) {
            (Partition::China, Some(template)) => template,
            _ => self.endpoint,
        }
    }
}

fn service_in(template: &str, region: &str) -> Option<String> {
    (!template.is_empty()).then(|| template.replace("{r}", region))
}

/// How a row's names can be reached.
#[derive(Clone, Copy, Debug)]
pub(super) enum Access {
    /// By an `[endpoint.*]` table.
    Table(Table),
    /// By a VPC endpoint without a table; what to do.
    OwnEndpoint(&'static str),
    /// Not privately; what to do.
    PublicOnly(&'static str),
}

/// An `[endpoint.*]` table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    pub(super) service: Service,
    pub(super) name: &'static str,
}

/// One way in which a row's names are written.
///
/// Blanks: `{r}` region, `{main}` `{dual}` `{on}` the partition's domains, `{account}` twelve
/// digits, `{prefix}` `{id}` one label or part of one, `{bucket}` `{any}` one label or more (at the
/// beginning only).
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    pub(super) pattern: &'static str,
    pub(super) usage: Usage,
    pub(super) regions: Regions,
}

impl Form {
    const fn new(usage: Usage, pattern: &'static str) -> Self {
        Self { pattern, usage, regions: Regions::All }
    }
}

/// What makes a form's names allowed names of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usage {
    /// The table alone.
    Always,
    /// The table with `path-style`.
    PathStyle,
    /// Each of `buckets`, and all of them with `any-bucket`.
    Bucket,
    /// Each of `accounts`.
    Account,
    /// Only `hosts`: the name has a part that the file does not say elsewhere.
    Hosts,
    /// Only `hosts`: the name of one VPC endpoint.
    Vpce,
}

/// Regions in which a form is used.
#[derive(Clone, Copy, Debug)]
pub(super) enum Regions {
    All,
    Only(&'static str),
    Except(&'static str),
}

impl Regions {
    fn hold(self, region: Option<&str>) -> bool {
        match self {
            Self::All => true,
            Self::Only(one) => region == Some(one),
            Self::Except(one) => region != Some(one),
        }
    }
}

#[cfg(test)]
mod tests;
