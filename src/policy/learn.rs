//! Learn mode: until a date, flows that the site's rules would refuse go on, to the VPC only.
//!
//! A learn grant carries what would have been the refusal, for its record. Its networks are
//! `vpc.networks`, never more, so that resolution refuses every other address whatever the name is.
//! Who is not a device of the site, or fits only half of an entry, learns nothing: a stolen address
//! must not become a rule. This module reads no clock; who judges says what time it is.

use std::sync::Arc;

use ipnet::Ipv4Net;
use time::OffsetDateTime;

use super::devices::Who;
use super::{Asking, Denial, EndpointRule, Grant, Policy, Verdict};
use crate::config::{PolicyMode, Site};
use crate::name::ServerName;
use crate::reason::Reason;

/// What learn mode allows, and until when.
#[derive(Debug)]
pub(super) struct Learning {
    until: OffsetDateTime,
    networks: Box<[Ipv4Net]>,
    word: Arc<str>,
}

impl Learning {
    /// `None` where refusals are enforced.
    pub(super) fn new(site: &Site) -> Option<Self> {
        let PolicyMode::Learn { until } = site.policy.mode else { return None };
        Some(Self { until, networks: site.vpc.networks.as_slice().into(), word: Arc::from(RULE) })
    }

    fn grant(&self, name: &ServerName, port: u16, denial: Denial) -> Grant {
        let endpoint = EndpointRule {
            id: Arc::clone(&self.word),
            service: denial.service().unwrap_or_else(|| Arc::clone(&self.word)),
            networks: self.networks.clone(),
        };
        Grant {
            endpoint: Arc::new(endpoint),
            name: name.clone(),
            port,
            rule: Arc::clone(&self.word),
            would_be: Some(Arc::new(denial)),
        }
    }
}

impl Policy {
    /// Judges a flow at a moment: as [`Policy::judge`] does, but in learn mode and before its end a
    /// refusal by the site's rules becomes a grant for the VPC's networks.
    ///
    /// A name without a private endpoint is granted as well: should it have a private address after
    /// all, that is worth knowing, and a public one is refused by resolution.
    pub fn judge_at(
        &self,
        asking: Asking,
        name: &ServerName,
        port: u16,
        now: OffsetDateTime,
    ) -> Verdict {
        let who = self.devices.identify(asking);
        let outcome = self.outcome(asking, &who, name, port).or_else(|denial| {
            let learning = self.learning.as_ref().filter(|learning| now < learning.until);
            match (learning, &who) {
                (Some(learning), Who::Listed(..) | Who::Unlisted) => {
                    Ok(learning.grant(name, port, denial))
                }
                _ => Err(denial),
            }
        });
        Verdict { identity: who.identity(), outcome }
    }

    /// Whether a granted flow would be granted by this policy at this moment as well. What was
    /// granted in learn mode is withdrawn by a policy that no longer learns and does not allow it.
    pub fn still_grants_at(&self, asking: Asking, grant: &Grant, now: OffsetDateTime) -> bool {
        self.judge_at(asking, &grant.name, grant.port, now).outcome.is_ok()
    }
}

impl Grant {
    /// Why the flow would be refused if the policy were enforced; `None` for an allowed flow.
    pub fn would_refuse(&self) -> Option<Reason> {
        self.would_be.as_deref().map(|denial| denial.reason)
    }

    /// The refusal that learn mode did not enforce.
    pub fn would_be(&self) -> Option<&Denial> {
        self.would_be.as_deref()
    }
}

/// The rule of learn grants, in records.
const RULE: &str = "learn";
