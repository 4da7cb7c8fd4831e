//! The policy's own tests: `[[expect]]` entries against the compiled policy.

use std::net::IpAddr;
use std::sync::Arc;

use super::devices::Who;
use super::{Asking, Policy};
use crate::config::{Expectation, ExpectedVerdict, Site};
use crate::name::{NameError, ServerName};
use crate::reason::Reason;

/// An expectation that the policy does not meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedExpectation {
    /// Line of the entry in the file, from 1.
    pub line: usize,
    /// As in the entry.
    pub device: String,
    /// As in the entry.
    pub name: String,
    /// As in the entry.
    pub port: u16,
    /// As in the entry.
    pub expected: ExpectedVerdict,
    /// What came out.
    pub got: Got,
    /// The failure in one sentence.
    pub sentence: String,
}

/// What came out where something else was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    /// Allowed, by this rule.
    Allowed(Arc<str>),
    /// Refused, for this reason and by this rule.
    Denied(Reason, Arc<str>),
    /// Not judged: the entry's device is neither the name of one nor an address.
    NoSuchDevice,
}

impl Policy {
    /// Judges every expectation of the site, and returns those that are not met, in file order.
    pub fn check_expectations(&self, site: &Site) -> Vec<FailedExpectation> {
        site.expectations.iter().filter_map(|expectation| self.check(expectation)).collect()
    }

    fn check(&self, expectation: &Expectation) -> Option<FailedExpectation> {
        let got = self.outcome_of(expectation);
        let Expectation { device, name, port, verdict, line } = expectation;
        let sentence = match (&got, verdict) {
            (Got::Allowed(_), ExpectedVerdict::Allow) => return None,
            (Got::Denied(..), ExpectedVerdict::Deny) => return None,
            (Got::Allowed(rule), ExpectedVerdict::Deny) => {
                format!("{device} may reach {name} on port {port}, by rule \"{rule}\".")
            }
            (Got::Denied(reason, rule), ExpectedVerdict::Allow) => format!(
                "{device} may not reach {name} on port {port}: {reason}, by rule \"{rule}\"."
            ),
            (Got::NoSuchDevice, _) => {
                format!("There is no [[device]] \"{device}\", and it is no address.")
            }
        };
        Some(FailedExpectation {
            line: *line,
            device: device.clone(),
            name: name.clone(),
            port: *port,
            expected: *verdict,
            got,
            sentence,
        })
    }

    fn outcome_of(&self, expectation: &Expectation) -> Got {
        let Some((asking, who)) = self.who_is(&expectation.device) else {
            return Got::NoSuchDevice;
        };
        let name = match expectation.name.parse::<ServerName>() {
            Ok(name) => name,
            Err(NameError::IsAddress) => {
                return Got::Denied(Reason::NameIsAddress, Arc::from("hello"));
            }
            Err(_) => return Got::Denied(Reason::NameMalformed, Arc::from("hello")),
        };
        match self.outcome(asking, &who, &name, expectation.port) {
            Ok(grant) => Got::Allowed(grant.rule),
            Err(denial) => Got::Denied(denial.reason, denial.rule()),
        }
    }

    /// A named device stands for itself, wherever it is; an address is recognised like any other.
    fn who_is(&self, device: &str) -> Option<(Asking, Who<'_>)> {
        if let Some(who) = self.devices.named(device) {
            let unused = Asking { address: IpAddr::from([0, 0, 0, 0]), mac: None };
            return Some((unused, who));
        }
        let asking = Asking { address: device.parse().ok()?, mac: None };
        Some((asking, self.devices.identify(asking)))
    }
}
