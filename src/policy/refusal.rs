//! Why no endpoint of the site has a name, as precisely as the catalogue and the file allow.
//!
//! Runs only once a flow is refused: nothing here can turn a refusal into a permission.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::catalogue::{self, Classified, Kind};
use crate::config::{Service, Site};
use crate::name::ServerName;
use crate::reason::Reason;

/// What refusals say about the site.
#[derive(Debug)]
pub(super) struct SiteFacts {
    region: Box<str>,
    account: Option<Box<str>>,
    /// Which table has which service: by its own name, or else by what its hosts are.
    tables: HashMap<Service, Arc<str>>,
    /// The first listed host with an account-specific prefix, by catalogue row.
    own_names: HashMap<&'static str, ServerName>,
}

impl SiteFacts {
    pub(super) fn new(site: &Site) -> Self {
        let mut tables = HashMap::new();
        for table in &site.endpoints {
            tables.entry(table.service).or_insert_with(|| Arc::clone(&table.id));
        }
        let mut own_names = HashMap::new();
        for table in &site.endpoints {
            for host in &table.hosts {
                let Some(known) = catalogue::classify(host) else { continue };
                if let Kind::Private(service) = known.kind {
                    tables.entry(service).or_insert_with(|| Arc::clone(&table.id));
                }
                if known.prefix.is_some() && known.region == Some(&site.region) {
                    own_names.entry(known.row).or_insert_with(|| host.clone());
                }
            }
        }
        Self {
            region: site.region.as_str().into(),
            account: site.account.as_deref().map(Into::into),
            tables,
            own_names,
        }
    }

    /// Why a name that no endpoint has is refused. Allocates nothing.
    pub(super) fn reason(&self, name: &ServerName) -> Reason {
        let known = catalogue::classify(name);
        known.map_or(Reason::NameNotAllowed, |known| self.advice(name, &known).reason())
    }

    /// What to do about such a name, where the catalogue knows it.
    pub(super) fn remedy(&self, name: &ServerName) -> Option<String> {
        let known = catalogue::classify(name)?;
        Some(self.advice(name, &known).to_string())
    }

    /// Public-only comes before the region: its remedy does away with the name altogether.
    fn advice<'a>(&'a self, name: &'a ServerName, known: &Classified<'a>) -> Advice<'a> {
        let general = known.remedy.unwrap_or_default();
        match (known.kind, known.region) {
            (Kind::PublicOnly, _) => Advice::PublicOnly(general),
            (_, Some(asked)) if asked != &*self.region => {
                Advice::OtherRegion { title: known.title, asked, own: &self.region }
            }
            (Kind::OwnEndpoint, _) => Advice::OwnEndpoint(general),
            (Kind::Private(service), _) => self.private(service, name, known),
        }
    }

    /// A name of a service in the site's region that none of the site's endpoints has.
    fn private<'a>(
        &'a self,
        service: Service,
        name: &'a ServerName,
        known: &Classified<'a>,
    ) -> Advice<'a> {
        let Some(id) = self.tables.get(&service) else {
            return Advice::NoTable { title: known.title, lacking: lacking(service, name, known) };
        };
        if known.vpce {
            return Advice::OneEndpoint { id };
        }
        if let Some(own) = self.own_names.get(known.row) {
            return Advice::OtherPrefix { own, id };
        }
        if let Some(account) = known.account {
            return self.account(service, account, id);
        }
        match (known.bucket, service) {
            (Some(bucket), _) => Advice::Bucket { bucket, id },
            (None, Service::S3) if is_path_style(name) => Advice::PathStyle { id },
            _ => Advice::Host { id },
        }
    }

    fn account<'a>(&'a self, service: Service, account: &'a str, id: &'a str) -> Advice<'a> {
        let add = match service {
            Service::Ecr => AddTo::Accounts { account, id },
            _ => AddTo::Hosts { id },
        };
        match &self.account {
            Some(own) if **own != *account => Advice::OtherAccount { account, own, add },
            None if service == Service::Ecr => Advice::SomeAccount(add),
            _ => Advice::OwnAccount(add),
        }
    }
}

/// What refuses a name that no endpoint has, for records.
pub(super) fn rule(name: &ServerName) -> Arc<str> {
    catalogue::classify(name).map_or_else(
        || Arc::from("no endpoint"),
        |known| Arc::from(format!("catalogue {}", known.row)),
    )
}

/// The service that such a name belongs to, where the catalogue knows it.
pub(super) fn service(name: &ServerName) -> Option<Arc<str>> {
    let known = catalogue::classify(name)?;
    Some(known.endpoint_service().map_or_else(|| Arc::from(known.row), Arc::from))
}

/// What is wrong with a name that the catalogue knows; shown, it is the remedy.
#[derive(Debug)]
enum Advice<'a> {
    /// With the catalogue's remedy.
    PublicOnly(&'a str),
    OtherRegion {
        title: &'a str,
        asked: &'a str,
        own: &'a str,
    },
    /// With the catalogue's remedy.
    OwnEndpoint(&'a str),
    NoTable {
        title: &'a str,
        lacking: Lacking<'a>,
    },
    /// The name of one VPC endpoint.
    OneEndpoint {
        id: &'a str,
    },
    OtherPrefix {
        own: &'a ServerName,
        id: &'a str,
    },
    OtherAccount {
        account: &'a str,
        own: &'a str,
        add: AddTo<'a>,
    },
    /// The site does not say which account is its own.
    SomeAccount(AddTo<'a>),
    OwnAccount(AddTo<'a>),
    Bucket {
        bucket: &'a str,
        id: &'a str,
    },
    PathStyle {
        id: &'a str,
    },
    Host {
        id: &'a str,
    },
}

impl Advice<'_> {
    fn reason(&self) -> Reason {
        match self {
            Self::PublicOnly(_) => Reason::NamePublicOnly,
            Self::OtherRegion { .. } => Reason::NameWrongRegion,
            Self::OtherPrefix { .. } | Self::OtherAccount { .. } | Self::SomeAccount(_) => {
                Reason::NameOtherAccount
            }
            _ => Reason::NameNotAllowed,
        }
    }
}

impl fmt::Display for Advice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PublicOnly(remedy) | Self::OwnEndpoint(remedy) => f.write_str(remedy),
            Self::OtherRegion { title, asked, own } => write!(
                f,
                "The name is {title} in {asked}, this site is in {own}: configure the device for \
                 {own}."
            ),
            Self::NoTable { title, lacking } => write!(
                f,
                "{title} has no table in this site's configuration: if the device needs it, create \
                 its VPC endpoint and add {lacking}."
            ),
            Self::OneEndpoint { id } => write!(
                f,
                "Use the service's own name, or, if the VPC endpoint is this site's, {}.",
                AddTo::Hosts { id }
            ),
            Self::OtherPrefix { own, id } => write!(
                f,
                "This site's name is {own}: configure the device with it (`aws iot \
                 describe-endpoint`). If the name is this site's too, {}.",
                AddTo::Hosts { id }
            ),
            Self::OtherAccount { account, own, add } => write!(
                f,
                "The name is account {account}'s, this site's account is {own}: configure the \
                 device with {own}'s name. If the device needs this one, {add}."
            ),
            Self::SomeAccount(add) => write!(f, "If the device needs this account, {add}."),
            Self::OwnAccount(add) => write!(f, "If the device needs the name, {add}."),
            Self::Bucket { bucket, id } => write!(
                f,
                "If the device needs the bucket, add \"{bucket}\" to `buckets` of [endpoint.{id}]."
            ),
            Self::PathStyle { id } => write!(
                f,
                "Switch the client to virtual-hosted bucket names, or set `path-style = true` in \
                 [endpoint.{id}] (this lets it ask for any bucket)."
            ),
            Self::Host { id } => {
                write!(f, "If the device needs the name, {}.", AddTo::Hosts { id })
            }
        }
    }
}

/// What to add to a table that is there.
#[derive(Clone, Copy, Debug)]
enum AddTo<'a> {
    Hosts { id: &'a str },
    Accounts { account: &'a str, id: &'a str },
}

impl fmt::Display for AddTo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hosts { id } => write!(f, "add it to `hosts` of [endpoint.{id}]"),
            Self::Accounts { account, id } => {
                write!(f, "add \"{account}\" to `accounts` of [endpoint.{id}]")
            }
        }
    }
}

/// A table that is not there, and the key that would give it the name.
#[derive(Clone, Copy, Debug)]
struct Lacking<'a> {
    table: &'a str,
    key: Option<Key<'a>>,
}

#[derive(Clone, Copy, Debug)]
enum Key<'a> {
    Host(&'a ServerName),
    Hosts(&'a ServerName),
    Buckets(&'a str),
    Accounts(&'a str),
    PathStyle,
}

fn lacking<'a>(service: Service, name: &'a ServerName, known: &Classified<'a>) -> Lacking<'a> {
    let key = match (known.bucket, known.account, service) {
        _ if known.prefix.is_some() || known.vpce => Some(Key::Host(name)),
        (Some(bucket), ..) => Some(Key::Buckets(bucket)),
        (_, Some(account), Service::Ecr) => Some(Key::Accounts(account)),
        (_, Some(_), _) => Some(Key::Hosts(name)),
        (.., Service::S3) if is_path_style(name) => Some(Key::PathStyle),
        _ => None,
    };
    Lacking { table: catalogue::table_name(service).unwrap_or("NAME"), key }
}

impl fmt::Display for Lacking<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[endpoint.{}]", self.table)?;
        match self.key {
            None => Ok(()),
            Some(Key::Host(name)) => write!(f, " with `host = \"{name}\"`"),
            Some(Key::Hosts(name)) => write!(f, " with `hosts = [\"{name}\"]`"),
            Some(Key::Buckets(bucket)) => write!(f, " with `buckets = [\"{bucket}\"]`"),
            Some(Key::Accounts(account)) => write!(f, " with `accounts = [\"{account}\"]`"),
            Some(Key::PathStyle) => f.write_str(" with `path-style = true`"),
        }
    }
}

fn is_path_style(name: &ServerName) -> bool {
    name.labels().next() == Some("s3")
}
