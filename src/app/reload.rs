//! The reload: all or nothing, and no flow is touched but those whose permission is withdrawn.

use std::sync::Arc;

use sd_notify::NotifyState;

use super::start::{StartError, check_device_interfaces, rules_of};
use super::ways::{self, plan_of};
use super::{Running, tell_manager};
use crate::admin::AdminHttp;
use crate::config::{self, Site};
use crate::intercept::{self, Passage};
use crate::net::netlink::Netlink;
use crate::proxy::Command;

impl Running {
    /// Loads the configuration anew: all or nothing.
    pub(super) async fn reload(&self) {
        let since = NotifyState::monotonic_usec_now().unwrap_or(NotifyState::MonotonicUsec(0));
        tell_manager(vec![NotifyState::Reloading, since]).await;
        let refused = match self.try_reload().await {
            Ok(()) => None,
            Err(error) => {
                tracing::error!(%error, "the new configuration is refused; the old one stays");
                Some(error.to_string())
            }
        };
        self.state.note_reload(refused);
        // Also after a refusal: the gate works on, with the old policy.
        tell_manager(vec![NotifyState::Ready]).await;
    }

    async fn try_reload(&self) -> Result<(), StartError> {
        if self.state.passage() == Passage::Closed {
            return Err(StartError::Closed);
        }
        let old = self.rules.now();
        let loaded = config::load(&self.path)
            .map_err(|problems| StartError::Invalid(problems.render(config::Style::Plain)))?;
        needs_restart(&old.site, &loaded.site)?;
        let netlink = Netlink::open()?;
        let links = netlink.links().await?;
        let known = netlink.neighbours().await?;
        check_device_interfaces(&loaded.site, links.values())?;
        let renewal = AdminHttp::prepare(&loaded.site)?;
        let new = rules_of(loaded.site, Some(&old), &self.tunnels.teller)?;
        new.tunnels.links_listed(&links);
        let (plan, before) = (plan_of(&new), plan_of(&old));
        if plan.families() != before.families() {
            return Err(StartError::NeedsRestart("whether [devices] networks has IPv6"));
        }
        if plan != before
            && let Err(error) = intercept::set_up(&plan).await
        {
            // The rules are as they were; the routing may have gone ahead of them.
            netlink.add_interception(before.families(), &before.device_interfaces).await?;
            return Err(error.into());
        }
        if !Arc::ptr_eq(&new.book, &old.book) {
            // Only now, when nothing can fail any more: the entries' tasks live with the book.
            new.book.inherit(&old.book);
            old.book.close();
        }
        new.book.keep(new.policy.exact_names());
        self.neighbours.replace(&new.site.devices.interfaces, links.values(), known);
        self.admin.renew(renewal);
        self.limits.set(new.site.limits);
        self.audit.set_retention(new.site.audit.retention);
        self.audit.note_reload(old.policy.hash(), new.policy.hash());
        self.dials.set(&new.site);
        if old.site.canary.is_none() {
            self.state.await_canary();
        }
        let new = Arc::new(new);
        self.rules.replace(Arc::clone(&new));
        if !Arc::ptr_eq(&new.tunnels, &old.tunnels) {
            ways::watch(&new, &self.rules);
        }
        self.lead_out().await;
        for thread in &self.threads {
            thread.tell(Command::Recheck(Arc::clone(&new)));
        }
        tracing::info!(policy = %new.policy.hash(), "the new configuration is in force");
        Ok(())
    }
}

/// What is bound at the start and stays.
fn needs_restart(old: &Site, new: &Site) -> Result<(), StartError> {
    let fixed = [
        ("[intercept] port", old.intercept.port == new.intercept.port),
        ("[intercept] data-threads", old.intercept.data_threads == new.intercept.data_threads),
        ("[intercept] relay", old.intercept.relay == new.intercept.relay),
        ("[audit] directory", old.audit.directory == new.audit.directory),
        ("[audit] keys", old.audit.keys == new.audit.keys),
        ("[dns] listen", old.dns.lan().is_some() == new.dns.lan().is_some()),
        ("[admin] socket", old.admin.socket == new.admin.socket),
        ("[admin] listen", old.admin.listen == new.admin.listen),
        ("[site] name", old.name == new.name),
    ];
    match fixed.into_iter().find(|(_, same)| !same) {
        Some((what, _)) => Err(StartError::NeedsRestart(what)),
        None => Ok(()),
    }
}
