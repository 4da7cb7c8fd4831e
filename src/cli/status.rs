//! `sluicegate status`: how the running gate is.

#![expect(clippy::indexing_slicing, reason = "a missing key of a JSON value is null, not a panic")]

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::{ConfigFile, EXIT_DEGRADED, block_on, fail, path_in_broken, print};
use crate::admin::{self, Question};
use crate::config;

#[derive(Debug, Args)]
#[command(after_help = "Example: sluicegate status --json | jq .problems")]
pub(super) struct Options {
    #[command(flatten)]
    config: ConfigFile,
    /// Control socket, instead of the configuration's
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> ExitCode {
    let socket = match &options.socket {
        Some(socket) => socket.clone(),
        None => config::load(&options.config.path)
            .ok()
            .map(|loaded| loaded.site.admin.socket)
            .or_else(|| path_in_broken(&options.config.path, "admin", "socket"))
            .unwrap_or_else(|| PathBuf::from(DEFAULT_SOCKET)),
    };
    let report = match block_on(admin::ask(&socket, &Question::Status)) {
        Ok(Ok(report)) => report,
        Ok(Err(error)) => return fail(&error, 1),
        Err(error) => return fail(&error, 1),
    };
    if options.json {
        print(&format!("{report}\n"));
    } else {
        print(&text(&report));
    }
    if report["healthy"].as_bool() == Some(true) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_DEGRADED)
    }
}

fn text(report: &Value) -> String {
    let mut out = String::new();
    let state = if report["healthy"] == true { "healthy" } else { "DEGRADED" };
    let _ = writeln!(
        out,
        "{} is {state} (version {}, up {})",
        word(&report["site"]),
        word(&report["version"]),
        duration(report["uptime_seconds"].as_u64().unwrap_or_default()),
    );
    for problem in list(&report["problems"]) {
        let _ = writeln!(out, "\n  {}", word(&problem["sentence"]));
        let _ = writeln!(out, "    -> {}", word(&problem["remedy"]));
    }
    for notice in list(&report["notices"]) {
        let _ = writeln!(out, "\n  note: {}", word(&notice["sentence"]));
        let _ = writeln!(out, "    -> {}", word(&notice["remedy"]));
    }
    let _ = writeln!(out, "\nTunnels");
    for tunnel in list(&report["tunnels"]) {
        let _ = writeln!(out, "  {:<44} {}", word(&tunnel["interface"]), tunnel_state(tunnel));
    }
    let _ = writeln!(out, "Resolvers");
    for resolver in list(&report["resolvers"]) {
        let up = if resolver["healthy"] == true { "answers" } else { "does not answer" };
        let _ = writeln!(out, "  {:<44} {up}", word(&resolver["address"]));
    }
    let _ = writeln!(out, "Endpoints");
    let wanted = |e: &&Value| e["required"] == true || e["reason"].is_null();
    for endpoint in list(&report["endpoints"]).iter().filter(wanted) {
        let note = match (endpoint["reason"].as_str(), endpoint["last_good"] == true) {
            (Some(reason), _) => format!("  {reason}"),
            (None, true) => "  last good answer".to_owned(),
            (None, false) => String::new(),
        };
        let addresses = addresses(endpoint);
        let _ = writeln!(out, "  {:<60} {addresses}{note}", word(&endpoint["name"]));
    }
    let flows = &report["flows"];
    let _ = writeln!(
        out,
        "Flows      {} live, {} allowed, {} refused",
        flows["live"], flows["allowed_total"], flows["denied_total"]
    );
    if let Some(dns) = report["dns"].as_object() {
        let count = |key: &str| dns.get(key).and_then(Value::as_u64).unwrap_or_default();
        let _ = writeln!(
            out,
            "DNS        {} answered, {} forwarded, {} refused, {} failed, {} too fast",
            count("answered_total"),
            count("forwarded_total"),
            count("refused_total"),
            count("failed_total"),
            count("limited_total")
        );
    }
    if let Some(canary) = report.get("canary") {
        let _ = writeln!(out, "Canary     {}", canary_state(canary));
    }
    let _ = writeln!(out, "Limits");
    for limit in list(&report["headroom"]) {
        let what = word(&limit["what"]);
        let _ = writeln!(out, "  {what:<44} {} of {} used", limit["used"], limit["most"]);
    }
    let audit = &report["audit"];
    let _ = writeln!(out, "Audit      {} records in {}", audit["seq"], word(&audit["directory"]));
    let mib = |bytes: &Value| bytes.as_u64().unwrap_or_default() >> 20;
    let since = audit["oldest"].as_str().map(|at| format!(", oldest of {at}")).unwrap_or_default();
    let (used, quota) = (mib(&audit["used_bytes"]), mib(&audit["quota_bytes"]));
    let _ = writeln!(out, "           {used} of {quota} MiB{since}");
    let _ = writeln!(out, "Page       {}", word(&report["admin"]["url"]));
    if let Some(fingerprint) = report["admin"]["fingerprint"].as_str() {
        let _ = writeln!(out, "           its certificate's SHA-256 {fingerprint}");
    }
    let _ = writeln!(out, "Rules      restored {} times", report["rules"]["restored_total"]);
    let policy = word(&report["policy"]["hash"]);
    let short = policy.get(..12).unwrap_or(&policy);
    let _ = writeln!(out, "Policy     {short}, loaded {}", word(&report["policy"]["loaded"]));
    out
}

/// Each address of a name with its zone, and how it is: the slowest of its ports, or those that do not
/// answer.
fn addresses(endpoint: &Value) -> String {
    let all = list(&endpoint["addresses"]).iter().map(|address| {
        let mut text = word(address);
        let at = |of: &&Value| {
            let place = word(&of["address"]);
            place.rsplit_once(':').is_some_and(|(host, _)| host == text)
        };
        let own: Vec<_> = list(&endpoint["interfaces"]).iter().filter(at).collect();
        if let Some(zone) = own.iter().find_map(|of| of["zone"].as_str()) {
            let _ = write!(text, " {zone}");
        }
        let down: Vec<_> = own.iter().filter(|of| of["state"] == "down").collect();
        let slowest = own.iter().filter_map(|of| of["latency_ms"].as_f64()).max_by(f64::total_cmp);
        let _ = match (down.first(), slowest) {
            (Some(first), _) if down.len() == own.len() => {
                let since = duration(first["since_seconds"].as_u64().unwrap_or_default());
                write!(text, " DOWN for {since}")
            }
            (Some(_), _) => {
                let ports: Vec<_> = down.iter().map(|of| port(of)).collect();
                write!(text, " DOWN on {}", ports.join(" "))
            }
            (None, Some(slowest)) => write!(text, " {slowest:.1} ms"),
            (None, None) => Ok(()),
        };
        text
    });
    all.collect::<Vec<_>>().join(", ")
}

fn port(interface: &Value) -> String {
    let address = word(&interface["address"]);
    address.rsplit_once(':').map(|(_, port)| port.to_owned()).unwrap_or_default()
}

fn tunnel_state(tunnel: &Value) -> String {
    let mut text = word(&tunnel["state"]);
    let since = duration(tunnel["since_seconds"].as_u64().unwrap_or_default());
    let _ = write!(text, " for {since}");
    if let Some(latency) = tunnel["latency_ms"].as_f64() {
        let _ = write!(text, ", answers in {latency:.1} ms");
    }
    if let Some(reason) = tunnel["reason"].as_str() {
        let _ = write!(text, ": {reason}");
    }
    if tunnel["preferred"] == true {
        text.push_str(" (new flows)");
    }
    text
}

fn canary_state(canary: &Value) -> String {
    let age = duration(canary["age_seconds"].as_u64().unwrap_or_default());
    let last = &canary["last"];
    let mut text = match list(&last["leaks"]).len() {
        _ if last.is_null() => format!("nothing heard for {age}"),
        0 => format!("{} attempts, nothing got out, {age} ago", last["tried"]),
        leaks => format!("{leaks} of {} attempts GOT OUT, {age} ago", last["tried"]),
    };
    if canary["gate"] == "closed" {
        text.push_str("; the gate is closed");
    }
    text
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

const DEFAULT_SOCKET: &str = "/run/sluicegate/control.sock";
