//! The running gate, by its own account.

use serde_json::Value;

use super::{Chart, State};
use crate::admin::{self, AskError, Question};
use crate::config::Site;

/// Asks the gate how it is; what it answers is for [`tell`].
pub(super) async fn ask(site: &Site, chart: &mut Chart<'_>) -> Option<Value> {
    let socket = &site.admin.socket;
    let place = socket.display();
    match admin::ask(socket, &Question::Status).await {
        Ok(report) => {
            let live = report.pointer("/flows/live").and_then(Value::as_u64).unwrap_or_default();
            chart.ok("gate", "status", format!("The gate runs, with {live} live flows."));
            if site.dns.lan().is_some() {
                devices_dns(&report, chart);
            }
            Some(report)
        }
        Err(error @ AskError::NotRunning(..)) => {
            let sentence = format!("No gate answers at {place}: every device is refused.");
            let remedy = "Start it (`systemctl start sluicegate`); `journalctl -u sluicegate` says \
                          why it ended.";
            tracing::debug!(%error, "the gate was asked");
            chart.failed("gate", "status", sentence, remedy);
            None
        }
        Err(error) => {
            let remedy = "Run as root, or as a member of the gate's group.";
            chart.failed("gate", "status", format!("The gate cannot be asked: {error}."), remedy);
            None
        }
    }
}

/// Tells what the gate reports, but for what was examined here too.
pub(super) fn tell(report: &Value, chart: &mut Chart<'_>) {
    let list = |key: &str| report.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let text =
        |of: &Value, key: &str| of.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    for (key, state) in [("problems", State::Failed), ("notices", State::Warning)] {
        for line in list(key) {
            let (code, remedy) = (text(&line, "code"), text(&line, "remedy"));
            if !is_told(&code, chart) {
                chart.add("gate", code, state, text(&line, "sentence"), Some(remedy));
            }
        }
    }
}

/// Whether devices use the box for their names.
fn devices_dns(report: &Value, chart: &mut Chart<'_>) {
    let count = |key: &str| {
        let place = format!("/dns/{key}");
        report.pointer(&place).and_then(Value::as_u64).unwrap_or_default()
    };
    let answered = count("answered_total").saturating_add(count("forwarded_total"));
    let others = ["refused_total", "failed_total", "limited_total", "dropped_total"];
    let others = others.into_iter().map(count).fold(0, u64::saturating_add);
    if answered.saturating_add(others) == 0 {
        let sentence = "No device has asked this box for DNS since the gate started.";
        let remedy = "Name this box as the devices' DNS server (in DHCP, or in their own settings), or \
                      make it their gateway.";
        chart.warning("dns", "devices", sentence, remedy);
    } else {
        let sentence = format!(
            "Devices ask this box for DNS: {answered} answers, {others} refused or failed."
        );
        chart.ok("dns", "devices", sentence);
    }
}

/// Whether the examination itself has the last word on this: the gate's may be a minute old.
fn is_told(code: &str, chart: &Chart<'_>) -> bool {
    EXAMINED.iter().any(|prefix| code.starts_with(prefix))
        || GLANCED.contains(&code)
        || FOUND_AS.iter().any(|(prefix, check)| code.starts_with(prefix) && chart.has_found(check))
}

/// What begins so is examined here in the same way.
const EXAMINED: [&str; 3] = ["endpoint_", "certificate_", "health_roots"];
/// What the gate takes from [`super::glance`]: the names of its checks.
const GLANCED: [&str; 3] = ["settings", "audit", "devices"];
/// What begins so is the same fault where the check has found one too; else the gate knows more.
const FOUND_AS: [(&str, &str); 7] = [
    ("tunnel_", "tunnel"),
    ("resolver_", "resolver"),
    ("resolve_", "name"),
    ("address_", "name"),
    ("rules_", "rules"),
    ("audit_full", "audit"),
    ("audit_unavailable", "audit"),
];
