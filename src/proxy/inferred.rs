//! Flows without a server name, of devices that are allowed to have none.
//!
//! The name is that for which the dialled address stands (`dns.synthetic`). Where the endpoint itself
//! needs the server name, the flow is refused all the same, and the refusal says so.

use std::net::IpAddr;

use super::Rules;
use super::thread::Shared;
use crate::hello::{Hello, HelloFacts, Refusal};
use crate::reason::Reason;

/// Looks for the name of a flow whose hello has none.
///
/// # Errors
/// The hello stays refused.
pub(super) fn infer(
    shared: &Shared,
    rules: &Rules,
    from: IpAddr,
    dialled: IpAddr,
    mut refusal: Refusal,
) -> Result<Hello, Refusal> {
    let name = rules.synthetic.as_ref().and_then(|table| table.name_of(dialled));
    let missing = refusal.reason == Reason::NameMissing;
    let plain = refusal.facts.as_deref().is_some_and(|facts: &HelloFacts| !facts.ech);
    let (Some(name), true) = (name, missing && plain) else { return Err(refusal) };
    let asking = rules.recognised.asking(from, &shared.neighbours, shared.lookup.as_ref());
    if !asking.is_ok_and(|asking| rules.policy.may_omit_sni(asking)) {
        refusal.detail = format!("{dialled} stands for {name}, but the device needs a server name");
        return Err(refusal);
    }
    if rules.policy.endpoint_of(name).is_ok_and(|endpoint| endpoint.requires_server_name()) {
        refusal.detail = format!("{dialled} stands for {name}, and AWS IoT requires a server name");
        return Err(refusal);
    }
    match refusal.facts.take() {
        Some(facts) => Ok(Hello { name: name.clone(), facts: *facts }),
        None => Err(refusal),
    }
}
