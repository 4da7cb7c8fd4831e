//! Where seen names belong: a table of the site, a table to be made, or none.

use std::collections::{BTreeMap, BTreeSet};

use super::seen::SeenName;
use crate::config::{Service, Site};
use crate::name::ServerName;
use crate::policy::catalogue::{self, Classified, Kind};
use crate::policy::{Denial, Policy};
use crate::reason::Reason;

/// Whether a name can be reached privately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Private,
    PublicOnly,
    Unknown,
}

impl Class {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::PublicOnly => "public-only",
            Self::Unknown => "unknown",
        }
    }
}

/// What is known of a name.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) class: Class,
    /// The `[endpoint.*]` table that has it, or should.
    pub(super) table: Option<String>,
    pub(super) remedy: Option<String>,
}

/// An `[endpoint.*]` table that the site does not have.
#[derive(Clone, Debug, Default)]
pub(super) struct NewTable {
    pub(super) hosts: BTreeSet<String>,
    pub(super) buckets: BTreeSet<String>,
    pub(super) accounts: BTreeSet<String>,
    /// Of a service of the plant's own; those of the catalogue have theirs.
    pub(super) ports: BTreeSet<u16>,
    pub(super) path_style: bool,
}

/// Every name's place.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) names: BTreeMap<ServerName, Known>,
    pub(super) new: BTreeMap<String, NewTable>,
}

impl Places {
    /// Finds the place of every name, with the site's configuration where there is one.
    pub(super) fn find(names: &BTreeMap<ServerName, SeenName>, site: Option<&Site>) -> Self {
        let mut places = Self::default();
        let policy = site.map(Policy::compile);
        for (name, seen) in names {
            let known = places.place(name, seen, site.zip(policy.as_ref()));
            places.names.insert(name.clone(), known);
        }
        places
    }

    fn place(
        &mut self,
        name: &ServerName,
        seen: &SeenName,
        site: Option<(&Site, &Policy)>,
    ) -> Known {
        let denial = match site.map(|(_, policy)| policy.endpoint_of(name)) {
            Some(Ok(endpoint)) => {
                let hidden = seen.is_public && !seen.is_private;
                return Known {
                    class: Class::Private,
                    table: Some(endpoint.id.to_string()),
                    remedy: hidden.then(|| Reason::AddressPublic.remedy().to_owned()),
                };
            }
            Some(Err(denial)) => Some(denial),
            None => None,
        };
        let known = catalogue::classify(name);
        let general = known.as_ref().and_then(|known| known.remedy).map(str::to_owned);
        let remedy = denial.as_ref().and_then(Denial::remedy).or(general);
        let kind = known.as_ref().map(|known| known.kind);
        match (known, kind) {
            (Some(known), Some(Kind::Private(service))) => {
                let ours = denial.is_none_or(|denial| denial.reason == Reason::NameNotAllowed);
                let table = ours.then(|| self.table_of(service, &known, name, site));
                Known { class: Class::Private, table, remedy }
            }
            _ if seen.is_private => {
                let table = Some(self.own_table(name, seen, site));
                Known { class: Class::Private, table, remedy: None }
            }
            (_, Some(Kind::OwnEndpoint)) => Known { class: Class::Private, table: None, remedy },
            (_, Some(Kind::PublicOnly)) => Known { class: Class::PublicOnly, table: None, remedy },
            _ if seen.is_public => Known { class: Class::PublicOnly, table: None, remedy: None },
            _ => Known { class: Class::Unknown, table: None, remedy: None },
        }
    }

    /// The table of a service that the catalogue knows. What an existing table lacks is said by the
    /// name's remedy: a table can stand in the file only once.
    fn table_of(
        &mut self,
        service: Service,
        known: &Classified<'_>,
        name: &ServerName,
        site: Option<(&Site, &Policy)>,
    ) -> String {
        let tables = site.map(|(site, _)| site.endpoints.as_slice()).unwrap_or_default();
        if let Some(table) = tables.iter().find(|table| table.service == service) {
            return table.id.to_string();
        }
        let new = self.new.entry(service.key().to_owned()).or_default();
        if known.vpce || known.prefix.is_some() {
            new.hosts.insert(name.to_string());
        } else if let Some(bucket) = known.bucket {
            new.buckets.insert(bucket.to_owned());
        } else if let (Some(account), Service::Ecr) = (known.account, service) {
            new.accounts.insert(account.to_owned());
        } else if service == Service::S3 {
            new.path_style = true;
        }
        service.key().to_owned()
    }

    /// A table for a name of the plant's own, named after its first label.
    fn own_table(
        &mut self,
        name: &ServerName,
        seen: &SeenName,
        site: Option<(&Site, &Policy)>,
    ) -> String {
        let tables = site.map(|(site, _)| site.endpoints.as_slice()).unwrap_or_default();
        let label = name.labels().next().unwrap_or("own");
        let taken = |id: &str| {
            Service::from_key(id) != Service::Custom
                || tables.iter().any(|table| &*table.id == id)
                || self.new.contains_key(id)
        };
        let free = |number: &u32| !taken(&numbered(label, *number));
        let id = numbered(label, (1..).find(free).unwrap_or_default());
        let table = self.new.entry(id.clone()).or_default();
        table.hosts.insert(name.to_string());
        table.ports.clone_from(&seen.ports);
        id
    }
}

fn numbered(label: &str, number: u32) -> String {
    if number == 1 { label.to_owned() } else { format!("{label}-{number}") }
}
