//! The whole path, checked with real packets: what is wrong, in one sentence, and what to do.
//!
//! It goes the way of a flow, from the box to the plant, through the tunnels, to the resolvers, the
//! names, and the network interfaces of the endpoints. What is found wrong early explains what
//! fails later, so each line stands for itself and the first failed one is where to begin. What the
//! gate knows beyond comes last, so that nothing is told twice. It
//! changes nothing, and what it sends leaves as flows do: marked, bound to a tunnel interface, and
//! to `vpc.networks` alone.

mod clock;
mod endpoints;
mod gate;
mod host;
mod names;
mod paths;
mod plant;
mod query;
mod records;

use serde::Serialize;
use time::OffsetDateTime;

use crate::config::Site;
use crate::health::Examiner;
use crate::net::socket::Way;
use crate::policy::Policy;

/// One line of the examination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was checked, for scripts.
    pub check: &'static str,
    /// Of what: an interface, an address, a name.
    pub subject: String,
    /// How it is.
    pub state: State,
    /// One sentence.
    pub sentence: String,
    /// What to do, where something is to be done.
    pub remedy: Option<String>,
}

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// It works, and will not always.
    Warning,
    /// Devices fail by it.
    Failed,
}

/// Everything that was found. The shape of `doctor --json`.
#[derive(Clone, Debug, Serialize)]
pub struct Examination {
    /// Nothing has failed.
    pub healthy: bool,
    /// How many lines are `failed`.
    pub failed: usize,
    /// How many are `warning`.
    pub warnings: usize,
    /// Every line, in the order of a flow's way.
    pub findings: Vec<Finding>,
}

/// What the checks share.
struct Patient<'a> {
    site: &'a Site,
    policy: &'a Policy,
    examiner: Examiner,
    /// The tunnels whose interface is up, best first.
    ways: Vec<Way>,
}

/// Takes findings as they come.
struct Chart<'t> {
    findings: Vec<Finding>,
    tell: &'t mut dyn FnMut(&Finding),
}

/// Examines the box and the path of a site. `tell` hears of each finding at once: the whole takes up
/// to a minute where much is silent.
pub async fn examine(site: &Site, tell: &mut dyn FnMut(&Finding)) -> Examination {
    let mut chart = Chart { findings: Vec::new(), tell };
    let policy = Policy::compile(site);
    host::check(site, &policy, &mut chart).await;
    let report = gate::ask(site, &mut chart).await;
    records::check(site, &mut chart);
    match plant::links().await {
        Ok(links) => {
            plant::check(site, &links, &mut chart);
            let ways = paths::ways(site, &links, &mut chart);
            beyond(site, &policy, ways, &mut chart).await;
        }
        Err(error) => chart.failed("links", "kernel", format!("{error}."), "Run as root."),
    }
    if let Some(report) = report {
        gate::tell(&report, &mut chart);
    }
    chart.close()
}

/// The part that asks nobody outside of the box, for `status`: the kernel's settings, the log's disk,
/// and who is heard on the plant's side. What is as it should be is left out.
pub async fn glance(site: Site) -> Vec<Finding> {
    // A kernel that cannot be asked is in the log already.
    let links = plant::links().await.ok();
    let looking = tokio::task::spawn_blocking(move || {
        let mut chart = Chart { findings: Vec::new(), tell: &mut |_| {} };
        host::settings(&site, &mut chart);
        records::check(&site, &mut chart);
        if let Some(links) = &links {
            plant::check(&site, links, &mut chart);
        }
        chart.findings
    });
    // It fails only when the runtime ends.
    let mut findings = looking.await.unwrap_or_default();
    findings.retain(|finding| finding.state != State::Ok);
    findings
}

async fn beyond(site: &Site, policy: &Policy, ways: Vec<Way>, chart: &mut Chart<'_>) {
    match Examiner::new(site.health.roots.as_deref()) {
        Ok(examiner) => path(&Patient { site, policy, examiner, ways }, chart).await,
        Err(error) => {
            let remedy = "Correct [health] roots, or remove it.";
            chart.failed("roots", "health.roots", format!("{error}."), remedy);
        }
    }
}

/// What lies behind the tunnels.
async fn path(patient: &Patient<'_>, chart: &mut Chart<'_>) {
    let Some(answering) = paths::check(patient, chart).await else { return };
    let known = names::check(patient, &answering, chart).await;
    let heard = endpoints::check(patient, &answering.way, &known, chart).await;
    clock::check(OffsetDateTime::now_utc(), heard, chart);
}

impl Chart<'_> {
    fn ok(&mut self, check: &'static str, subject: impl ToString, sentence: impl Into<String>) {
        self.add(check, subject.to_string(), State::Ok, sentence.into(), None);
    }

    fn warning(
        &mut self,
        check: &'static str,
        subject: impl ToString,
        sentence: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let remedy = Some(remedy.into());
        self.add(check, subject.to_string(), State::Warning, sentence.into(), remedy);
    }

    fn failed(
        &mut self,
        check: &'static str,
        subject: impl ToString,
        sentence: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let remedy = Some(remedy.into());
        self.add(check, subject.to_string(), State::Failed, sentence.into(), remedy);
    }

    fn add(
        &mut self,
        check: &'static str,
        subject: String,
        state: State,
        sentence: String,
        remedy: Option<String>,
    ) {
        let finding = Finding { check, subject, state, sentence, remedy };
        (self.tell)(&finding);
        self.findings.push(finding);
    }

    /// Whether something is wrong by this check.
    fn has_found(&self, check: &str) -> bool {
        self.findings.iter().any(|finding| finding.check == check && finding.state != State::Ok)
    }

    fn close(self) -> Examination {
        let count = |state| self.findings.iter().filter(|finding| finding.state == state).count();
        let (failed, warnings) = (count(State::Failed), count(State::Warning));
        Examination { healthy: failed == 0, failed, warnings, findings: self.findings }
    }
}
