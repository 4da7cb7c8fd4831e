//! What the control loop does about the leak canary: it records what got out, and closes the gate.

use std::time::Duration;

use super::Running;
use super::state::News;
use super::ways::plan_of;
use crate::admin::Tidings;
use crate::audit::{CanaryFacts, ClosingFacts, LeakFacts};
use crate::canary::{self, CanaryResult};
use crate::config::OnLeak;
use crate::intercept::nft;
use crate::intercept::{self, Passage, Plan};
use crate::proxy::{Command, Rules};

impl Running {
    /// Takes what the canary found.
    pub(super) async fn canary_told(&self, tidings: Tidings) {
        let result = tidings.result.sorted();
        if !proves_something(&result, self.state.passage()) {
            // Who reported it may not want to know any more.
            let _ = tidings.taken.send(Err(NOT_BEHIND));
            return;
        }
        if !result.leaks.is_empty() {
            let ways = canary::enumerate(&result.leaks);
            tracing::error!(ways, "the leak canary got out past the gate");
            // Its file may be newer than the rules in force: a leak is a leak.
            let on_leak = self.rules.now().site.canary.as_ref().map(|canary| canary.on_leak);
            if on_leak == Some(OnLeak::Close) && self.state.passage() == Passage::Open {
                self.close_gate(&result).await;
            }
        }
        let facts = facts(&result, self.state.passage());
        if self.state.note_canary(result) == News::Different || !facts.leaks.is_empty() {
            self.audit.note_canary(&facts);
        }
        let _ = tidings.taken.send(Ok(self.state.passage()));
    }

    /// The rules that the kernel should have now.
    pub(super) fn plan(&self, rules: &Rules) -> Plan {
        Plan { passage: self.state.passage(), ..plan_of(rules) }
    }

    /// Lets nothing pass any more, and ends what is under way.
    async fn close_gate(&self, result: &CanaryResult) {
        self.state.close(&result.leaks);
        // First, because nothing can keep it up.
        for thread in &self.threads {
            thread.tell(Command::Drain(Duration::ZERO));
        }
        let plan = self.plan(&self.rules.now());
        match intercept::blocking(move || nft::apply(&plan)).await {
            Ok(()) => tracing::error!("the gate is closed until it is restarted"),
            Err(error) => {
                // The next round tries again.
                self.state.set_intact(false);
                tracing::error!(%error, "the gate cannot be closed in the kernel");
            }
        }
    }
}

/// Whether a result says anything of this gate: one that is open answers, if only with resets.
fn proves_something(result: &CanaryResult, passage: Passage) -> bool {
    passage == Passage::Closed || result.answered > 0 || !result.leaks.is_empty()
}

fn facts(result: &CanaryResult, passage: Passage) -> CanaryFacts {
    let leaks = result.leaks.iter();
    CanaryFacts {
        tried: result.tried,
        answered: result.answered,
        leaks: leaks
            .map(|leak| LeakFacts { way: leak.way.as_str(), target: leak.target })
            .collect(),
        closing: match passage {
            Passage::Open => ClosingFacts::Open,
            Passage::Closed => ClosingFacts::Closed,
        },
    }
}

const NOT_BEHIND: &str =
    "nothing was answered, and an open gate answers: the canary's way out is not this gate";
