//! A verdict step by step, for people who ask why.
//!
//! The steps are those of [`Policy::judge`], taken with the same functions; the last one *is* its
//! outcome.

use serde::Serialize;

use super::catalogue::{self, Kind};
use super::denial::{bound_to, list_ports};
use super::devices::Who;
use super::names::Admission;
use super::{Asking, Policy};
use crate::name::ServerName;

/// One step of a verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// `device`, `rule`, `name`, `catalogue`, `tls`, `port` or `grant`, in this order; then what the
    /// running gate knows.
    pub step: &'static str,
    /// Whether the step let the flow pass; `None` where it decides nothing.
    pub ok: Option<bool>,
    /// What was found, in one sentence or two; never what to do about it.
    pub fact: String,
}

impl Step {
    const fn new(step: &'static str, ok: Option<bool>, fact: String) -> Self {
        Self { step, ok, fact }
    }
}

impl Policy {
    /// Judges a flow and says how the verdict came about. The last step is `grant`, unless the name
    /// is no host name: then it is `name`.
    pub fn trace(&self, asking: Asking, name_text: &str, port: u16) -> Vec<Step> {
        let who = self.devices.identify(asking);
        let mut steps = vec![device_step(asking, &who), self.rule_step(asking, &who)];
        let name = match name_text.parse::<ServerName>() {
            Ok(name) => name,
            Err(error) => {
                steps.push(Step::new("name", Some(false), format!("{name_text:?}: {error}.")));
                return steps;
            }
        };
        steps.push(self.name_step(&name));
        steps.extend([catalogue_step(&name), tls_step(&name)]);
        steps.push(self.port_step(asking, &who, &name, port));
        steps.push(self.grant_step(asking, &name, port));
        steps
    }

    fn rule_step(&self, asking: Asking, who: &Who<'_>) -> Step {
        let (ok, fact) = match self.standing(asking, who) {
            Ok(standing) => {
                let ids: Vec<&str> = self
                    .tables
                    .iter()
                    .enumerate()
                    .filter(|(table, _)| standing.permits.has(*table))
                    .map(|(_, id)| &**id)
                    .collect();
                let what = if ids.is_empty() { "nothing".to_owned() } else { ids.join(", ") };
                (true, format!("Rule \"{}\" allows {what}.", standing.rule))
            }
            Err(denial) => (false, denial.reason.sentence().to_owned()),
        };
        Step::new("rule", Some(ok), fact)
    }

    fn name_step(&self, name: &ServerName) -> Step {
        let mut ids: Vec<String> = Vec::new();
        for rule in self.names.rules(name) {
            let id = format!("[endpoint.{}]", rule.endpoint.id);
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        if ids.is_empty() {
            return Step::new("name", Some(false), format!("{name} is in no [endpoint.*] table."));
        }
        Step::new("name", Some(true), format!("{name} is a name of {}.", ids.join(" and ")))
    }

    fn port_step(&self, asking: Asking, who: &Who<'_>, name: &ServerName, port: u16) -> Step {
        let ports = self.names.ports_of(name);
        if ports.is_empty() {
            return Step::new("port", None, format!("Port {port} was not looked at."));
        }
        // Where the device has no standing, permissions play no part: ask for the port alone.
        let wrong = match self.standing(asking, who) {
            Ok(standing) => {
                matches!(self.names.admit(name, standing.permits, port), Admission::WrongPort(_))
            }
            Err(_) => !ports.contains(&port),
        };
        let fact = format!("The name is offered on {}; asked for is {port}.", list_ports(&ports));
        Step::new("port", Some(!wrong), fact)
    }

    fn grant_step(&self, asking: Asking, name: &ServerName, port: u16) -> Step {
        match self.judge(asking, name, port).outcome {
            Ok(grant) => {
                let networks: Vec<String> =
                    grant.endpoint.networks.iter().map(ToString::to_string).collect();
                let fact = format!(
                    "Allowed by rule \"{}\" to endpoint {} ({}), whose addresses must lie in {}.",
                    grant.rule,
                    grant.endpoint.id,
                    grant.endpoint.service,
                    networks.join(", ")
                );
                Step::new("grant", Some(true), fact)
            }
            Err(denial) => {
                let fact = format!("{}: {}", denial.reason, denial.reason.sentence());
                Step::new("grant", Some(false), fact)
            }
        }
    }
}

fn device_step(asking: Asking, who: &Who<'_>) -> Step {
    let address = asking.address.to_canonical();
    let from = match asking.mac {
        Some(mac) => format!("{address} with MAC {mac}"),
        None => format!("{address}, its MAC not known,"),
    };
    let (ok, fact) = match who {
        Who::Listed(device, by) => {
            (Some(true), format!("{from} is device \"{}\", recognised by {by}.", device.name))
        }
        Who::Unlisted => (None, format!("{from} has no [[device]] entry.")),
        Who::Outside => (Some(false), format!("{from} is outside devices.networks.")),
        Who::Contradiction(device, _) => {
            let (name, bound) = (&device.name, bound_to(device));
            let fact = format!("{from} fits only half of device \"{name}\", bound to{bound}.");
            (Some(false), fact)
        }
    };
    Step::new("device", ok, fact)
}

fn catalogue_step(name: &ServerName) -> Step {
    let Some(known) = catalogue::classify(name) else {
        return Step::new("catalogue", None, "Not a name of AWS's that is known here.".to_owned());
    };
    let place = known.region.map(|region| format!(" in {region}")).unwrap_or_default();
    let fact = match (known.kind, known.endpoint_service()) {
        (Kind::PublicOnly, _) | (_, None) => {
            format!("{}{place}: no VPC endpoint serves it.", known.title)
        }
        (_, Some(service)) => format!("{}{place}, VPC endpoint service {service}.", known.title),
    };
    Step::new("catalogue", None, fact)
}

/// What the endpoint demands of the device's TLS; what the device offers only its hello tells.
fn tls_step(name: &ServerName) -> Step {
    let fact = catalogue::classify(name).map(|known| known.demand());
    Step::new("tls", None, fact.unwrap_or_else(|| "What it accepts is not known here.".to_owned()))
}
