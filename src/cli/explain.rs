//! `sluicegate explain`: what would happen to a flow, and why.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::{ConfigFile, EXIT_DENIED, block_on, fail, load, note, print};
use crate::admin::{self, AskError, AskedFlow, Question, explain_offline};
use crate::config;

#[derive(Debug, Args)]
#[command(after_help = "Example: sluicegate explain --device press-3 --port 8883 \
    --name a1b2c3d4e5f6g7-ats.iot.eu-central-1.amazonaws.com")]
pub(super) struct Options {
    /// Who would ask: a [[device]] name, an IP address or a MAC address
    #[arg(long)]
    device: String,
    /// The server name it would send (SNI)
    #[arg(long)]
    name: String,
    /// The port it would dial
    #[arg(long, default_value_t = 443, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Judge by the configuration file alone, without the running gate
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    config: ConfigFile,
    /// Control socket, instead of the configuration's
    #[arg(long, value_name = "PATH", conflicts_with = "offline")]
    socket: Option<PathBuf>,
}

pub(super) fn run(options: &Options) -> ExitCode {
    let flow = AskedFlow {
        device: options.device.clone(),
        name: options.name.clone(),
        port: options.port,
    };
    let answer = if options.offline { offline(options, &flow) } else { online(options, flow) };
    let explanation = match answer {
        Ok(explanation) => explanation,
        Err(code) => return code,
    };
    if options.json {
        print(&format!("{explanation}\n"));
    } else {
        let paint = if std::io::stdout().is_terminal() { Paint::Colour } else { Paint::Plain };
        print(&text(&explanation, paint));
    }
    match explanation.get("verdict").and_then(Value::as_str) {
        Some("allow") => ExitCode::SUCCESS,
        _ => ExitCode::from(EXIT_DENIED),
    }
}

fn offline(options: &Options, flow: &AskedFlow) -> Result<Value, ExitCode> {
    let site = load(&options.config.path)?;
    let explanation = explain_offline(&site, flow).map_err(|error| fail(&error, 1))?;
    serde_json::to_value(explanation).map_err(|error| fail(&error, 1))
}

fn online(options: &Options, flow: AskedFlow) -> Result<Value, ExitCode> {
    let socket = match &options.socket {
        Some(socket) => socket.clone(),
        // A broken file must not keep anybody from asking the gate that runs.
        None => config::load(&options.config.path)
            .map_or_else(|_| PathBuf::from(DEFAULT_SOCKET), |loaded| loaded.site.admin.socket),
    };
    let question = Question::Explain(flow.clone());
    match block_on(admin::ask(&socket, &question)).map_err(|error| fail(&error, 1))? {
        Ok(answer) => match answer.get("error").and_then(Value::as_str) {
            Some(error) => Err(fail(&error, 1)),
            None => Ok(answer),
        },
        Err(AskError::NotRunning(..)) => {
            let explanation = offline(options, &flow)?;
            let path = options.config.path.display();
            note(&format!("note: no gate runs here, so this is by {path} alone"));
            Ok(explanation)
        }
        Err(error) => {
            note("note: `--offline` judges by the configuration file alone");
            Err(fail(&error, 1))
        }
    }
}

/// Whether a person looks at the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Paint {
    Colour,
    Plain,
}

impl Paint {
    fn dye(self, colour: &str, text: &str) -> String {
        match self {
            Self::Colour => format!("\x1b[{colour}m{text}\x1b[0m"),
            Self::Plain => text.to_owned(),
        }
    }
}

fn text(explanation: &Value, paint: Paint) -> String {
    let mut out = String::new();
    let word = |key: &str| explanation[key].as_str().unwrap_or_default().to_owned();
    let allowed = explanation["verdict"] == "allow";
    let (verdict, colour) = if allowed { ("ALLOWED", GREEN) } else { ("DENIED", RED) };
    let verdict = paint.dye(colour, verdict);
    let reason = explanation["reason"].as_str().map(|r| format!(" ({r})")).unwrap_or_default();
    let port = &explanation["port"];
    let _ = writeln!(out, "{} -> {} port {port}", word("device"), shown(&word("name")));
    let _ = writeln!(out, "{verdict}{reason}: {}\n", word("sentence"));
    let steps = explanation["steps"].as_array().map_or(&[][..], Vec::as_slice);
    let failing = steps.iter().position(|step| step["ok"] == false);
    for (index, step) in steps.iter().enumerate() {
        let mark = match step["ok"].as_bool() {
            Some(true) => paint.dye(GREEN, "✓"),
            Some(false) => paint.dye(RED, "✗"),
            None => "?".to_owned(),
        };
        let name = step["step"].as_str().unwrap_or_default();
        let fact = shown(step["fact"].as_str().unwrap_or_default());
        let here = if failing == Some(index) { paint.dye(RED, "  <- here") } else { String::new() };
        let _ = writeln!(out, "{:>3}. {mark} {name:<10}{fact}{here}", index + 1);
    }
    for destination in explanation["addresses"].as_array().into_iter().flatten() {
        let _ = writeln!(
            out,
            "       to {} ({}) through {}",
            destination["ip"].as_str().unwrap_or_default(),
            destination["zone"].as_str().unwrap_or("zone not configured"),
            destination["via"].as_str().unwrap_or_default()
        );
    }
    if let Some(remedy) = explanation["remedy"].as_str() {
        let _ = writeln!(out, "\nWhat to do: {}", shown(remedy));
    }
    out
}

/// What was typed may hold anything; a terminal must not obey it.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

const DEFAULT_SOCKET: &str = "/run/sluicegate/control.sock";
const GREEN: &str = "32";
const RED: &str = "31";
