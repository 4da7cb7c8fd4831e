//! The running gate, by its own account.

use serde_json::Value;

use super::{Chart, State};
use crate::admin::{self, AskError, Question};
use crate::config::Site;

pub(super) async fn check(site: &Site, chart: &mut Chart<'_>) {
    let socket = &site.admin.socket;
    let place = socket.display();
    match admin::ask(socket, &Question::Status).await {
        Ok(report) => told(&report, chart),
        Err(error @ AskError::NotRunning(..)) => {
            let sentence = format!("No gate answers at {place}: every device is refused.");
            let remedy = "Start it (`systemctl start sluicegate`); `journalctl -u sluicegate` says \
                          why it ended.";
            tracing::debug!(%error, "the gate was asked");
            chart.failed("gate", "status", sentence, remedy);
        }
        Err(error) => {
            let remedy = "Run as root, or as a member of the gate's group.";
            chart.failed("gate", "status", format!("The gate cannot be asked: {error}."), remedy);
        }
    }
}

fn told(report: &Value, chart: &mut Chart<'_>) {
    let list = |key: &str| report.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let text =
        |of: &Value, key: &str| of.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let problems = list("problems");
    for (lines, state) in [(&problems, State::Failed), (&list("notices"), State::Warning)] {
        for line in lines {
            let (code, remedy) = (text(line, "code"), text(line, "remedy"));
            chart.add("gate", code, state, text(line, "sentence"), Some(remedy));
        }
    }
    if problems.is_empty() {
        let live = report.pointer("/flows/live").and_then(Value::as_u64).unwrap_or_default();
        let sentence = format!("The gate runs, with {live} live flows, and reports no problem.");
        chart.ok("gate", "status", sentence);
    }
}
