//! The look at the box, every now and then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::State;
use crate::doctor;
use crate::proxy::RulesInForce;

/// Looks at the box once in `health.every`, in a task of the calling runtime; `status` has what is
/// found.
pub(super) fn watch(in_force: &RulesInForce, state: &Arc<State>) {
    let (in_force, state) = (in_force.clone(), Arc::clone(state));
    tokio::spawn(async move {
        let mut last = Instant::now();
        loop {
            tokio::time::sleep(ROUND).await;
            let rules = in_force.now();
            if last.elapsed() < rules.site.health.every {
                continue;
            }
            last = Instant::now();
            state.set_findings(doctor::glance(rules.site.clone()).await);
        }
    });
}

/// How often it is looked whether it is time: a reload may change it.
const ROUND: Duration = Duration::from_secs(1);
