//! What `status` says of the leak canary.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::report::Problem;
use crate::app::Watched;
use crate::canary::{self, CanaryResult, Leak};
use crate::config::Canary;
use crate::intercept::Passage;

/// How the leak canary is.
#[derive(Clone, Debug, Serialize)]
pub struct CanaryStatus {
    /// Whether anything of devices' is let in.
    pub gate: Passage,
    /// What the gate was closed for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub closed_by: Vec<Leak>,
    /// The last result; absent before the first.
    pub last: Option<CanaryResult>,
    /// Seconds since it came; without one, since one is waited for.
    pub age_seconds: u64,
    /// Nothing came for so long that the canary does not work.
    pub silent: bool,
}

impl CanaryStatus {
    /// `None` where there is none, and none has reported.
    pub(super) fn new(configured: Option<&Canary>, watched: Watched, now: Instant) -> Option<Self> {
        let Watched { last, since, closed_by } = watched;
        if configured.is_none() && last.is_none() && closed_by.is_none() {
            return None;
        }
        let age = now.saturating_duration_since(since);
        Some(Self {
            gate: if closed_by.is_some() { Passage::Closed } else { Passage::Open },
            closed_by: closed_by.unwrap_or_default(),
            last,
            age_seconds: age.as_secs(),
            silent: configured.is_some() && age >= SILENT_AFTER,
        })
    }

    /// What is wrong; a leak first.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut add = |code: &str, sentence: String, remedy: &str| {
            let (code, remedy) = (code.to_owned(), remedy.to_owned());
            problems.push(Problem { code, sentence, remedy });
        };
        let leaks = self.last.iter().flat_map(|last| &last.leaks).copied().collect::<Vec<_>>();
        if !leaks.is_empty() {
            let ways = canary::enumerate(&leaks);
            add(
                "leak",
                format!("The leak canary got out past the gate ({ways})."),
                "Cut the box's way to the internet now. Then look for what lets devices' packets by: \
                 other nftables tables, flow offload, bridges, a second way beside the box \
                 (`nft list ruleset`, `sluicegate nft verify`).",
            );
        }
        if self.gate == Passage::Closed {
            let ways = canary::enumerate(&self.closed_by);
            add(
                "gate_closed",
                format!("The gate is closed: the leak canary got out ({ways}). Nothing passes."),
                OPEN_AGAIN,
            );
        }
        if self.silent {
            let minutes = self.age_seconds / 60;
            add(
                "canary_silent",
                format!("The leak canary has proven nothing for {minutes} minutes."),
                "Look at its unit (`systemctl status sluicegate-canary.timer`, \
                 `journalctl -u sluicegate-canary`), or remove [canary].",
            );
        }
        problems
    }
}

/// What opens a closed gate.
pub(super) const OPEN_AGAIN: &str =
    "Find out how it got out, then restart the gate (`systemctl restart sluicegate`).";
/// It reports every minute.
const SILENT_AFTER: Duration = Duration::from_mins(3);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canary::Way;
    use crate::config::OnLeak;

    fn site() -> Canary {
        let parsed =
            crate::name::ServerName::parse(b"example.com", crate::name::Underscore::Refuse);
        Canary {
            targets: vec!["192.0.2.1".parse().unwrap()],
            name: parsed.expect("a name").name,
            on_leak: OnLeak::Alarm,
        }
    }

    fn codes(configured: Option<&Canary>, watched: &Watched, after: Duration) -> Vec<String> {
        let status = CanaryStatus::new(configured, watched.clone(), watched.since + after);
        let problems = status.iter().flat_map(CanaryStatus::problems);
        problems.map(|problem| problem.code).collect()
    }

    #[test]
    fn silence_is_a_problem_where_a_canary_is_configured() {
        let nothing = Watched { last: None, since: Instant::now(), closed_by: None };
        let minutes = Duration::from_mins;
        assert_eq!(codes(Some(&site()), &nothing, minutes(2)), [""; 0]);
        assert_eq!(codes(Some(&site()), &nothing, minutes(3)), ["canary_silent"]);
        assert_eq!(codes(None, &nothing, minutes(30)), [""; 0]);
    }

    #[test]
    fn a_leak_comes_first_and_a_closed_gate_stays_one() {
        let leaks = vec![Leak { way: Way::Http, target: "192.0.2.1".parse().unwrap() }];
        let result = |leaks| CanaryResult { tried: 8, answered: 0, leaks };
        let leak = Watched {
            last: Some(result(leaks.clone())),
            since: Instant::now(),
            closed_by: Some(leaks.clone()),
        };
        let all = ["leak", "gate_closed", "canary_silent"];
        assert_eq!(codes(Some(&site()), &leak, Duration::from_mins(4)), all);
        assert_eq!(codes(None, &leak, Duration::ZERO), all[..2]);
        let later = Watched { last: Some(result(Vec::new())), ..leak };
        assert_eq!(codes(Some(&site()), &later, Duration::ZERO), ["gate_closed"]);
    }
}
