//! What each table means.
//!
//! Each part reads its tables into a draft that remembers places, and checks it against the drafts
//! read before it. A check against something that could not be read is left out: its own problem is
//! already reported.

mod canary;
mod devices;
mod dns;
mod endpoint;
mod network;
mod policy;
mod service;

use super::Site;
use super::diagnostics::{Lines, Report};
use super::reader::Table;

/// Everything that was read, as far as it could be.
pub(super) struct Draft {
    pub(super) network: network::Draft,
    pub(super) endpoints: endpoint::Draft,
    pub(super) policy: policy::Draft,
    pub(super) entries: devices::Draft,
    pub(super) service: service::Draft,
    pub(super) dns: dns::Draft,
    pub(super) canary: Option<canary::Draft>,
}

impl Draft {
    /// Reads every table of the file and reports what is left over.
    pub(super) fn read(mut root: Table<'_>, lines: &Lines, report: &Report) -> Self {
        let network = network::Draft::read(&mut root, report);
        let service = service::Draft::read(&mut root, report);
        let endpoints = endpoint::Draft::read(&mut root, &network, &service, report);
        let policy = policy::Draft::read(&mut root, &endpoints, report);
        let dns = dns::Draft::read(&mut root, &network, report);
        let mut entries = devices::Draft::read(&mut root, lines, &network, &endpoints, report);
        entries.check_without_sni(&dns, report);
        let canary = canary::Draft::read(&mut root, (&network, &endpoints, &dns), report);
        root.finish();
        Self { network, endpoints, policy, entries, service, dns, canary }
    }

    /// The site; `None` when something is missing, which then has been reported.
    pub(super) fn finish(self, hash: String) -> Option<Site> {
        let network = self.network.finish()?;
        let policy = self.policy.finish(&self.endpoints)?;
        let service = self.service.finish()?;
        let canary = match self.canary {
            Some(canary) => Some(canary.finish()?),
            None => None,
        };
        Some(Site {
            name: network.name,
            region: network.region,
            account: network.account,
            devices: network.devices,
            tunnel: network.tunnel,
            resolver: network.resolver,
            vpc: network.vpc,
            endpoints: self.endpoints.finish(),
            policy,
            device_entries: self.entries.devices,
            expectations: self.entries.expectations,
            intercept: service.intercept,
            limits: service.limits,
            dns: self.dns.finish(),
            audit: service.audit,
            admin: service.admin,
            health: service.health,
            canary,
            hash,
        })
    }
}
