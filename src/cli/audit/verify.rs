//! `sluicegate audit verify`: proof, or what stands against it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;

use super::advice::advice;
use super::{EXIT_INCOMPLETE, EXIT_TAMPERED, EXIT_UNVERIFIABLE};
use crate::audit::verify::{Anchors, Code, Finding, Report, Verdict, verify};
use crate::audit::{NoPublicKey, PublicKey};
use crate::cli::log::Log;
use crate::cli::print;

#[derive(Debug, Args)]
#[command(
    after_help = "Example: sluicegate audit verify --dir copy/audit --pubkey augsburg-2.pub \
    --against-anchor checkpoint.kept"
)]
pub(super) struct Options {
    #[command(flatten)]
    log: Log,
    /// The pinned public key, as `audit key show` printed it at install
    #[arg(long, value_name = "FILE")]
    pubkey: PathBuf,
    /// Checkpoint lines that were kept elsewhere
    #[arg(long, value_name = "FILE")]
    against_anchor: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

pub(super) fn run(options: &Options) -> ExitCode {
    let directory = options.log.directory();
    let report = check(&directory, options).unwrap_or_else(|sentence| Report::refused(&sentence));
    if options.json {
        let document = serde_json::to_string(&report).unwrap_or_default();
        print(&format!("{document}\n"));
    } else {
        print(&text(&directory, &report));
    }
    match report.result {
        Verdict::Intact => ExitCode::SUCCESS,
        Verdict::Tampered => ExitCode::from(EXIT_TAMPERED),
        Verdict::Incomplete => ExitCode::from(EXIT_INCOMPLETE),
        Verdict::Unverifiable => ExitCode::from(EXIT_UNVERIFIABLE),
    }
}

fn check(directory: &Path, options: &Options) -> Result<Report, String> {
    let path = options.pubkey.display();
    let key = std::fs::read_to_string(&options.pubkey)
        .map_err(|error| format!("the public key {path} cannot be read: {error}"))?;
    let key =
        PublicKey::parse_file(&key).map_err(|error: NoPublicKey| format!("{path}: {error}"))?;
    let anchors = match &options.against_anchor {
        None => Anchors::default(),
        Some(path) => Anchors::read(path)
            .map_err(|error| format!("the anchor {} cannot be read: {error}", path.display()))?,
    };
    Ok(verify(directory, &key, &anchors))
}

fn text(directory: &Path, report: &Report) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}: {}", directory.display(), verdict(report.result));
    let (first, last) = (report.first_seq, report.last_seq);
    let span = if report.records > 0 { format!(" ({first} to {last})") } else { String::new() };
    let _ = writeln!(out);
    row(&mut out, "Records", &format!("{}{span} in {} segments", report.records, report.segments));
    let signed = format!("{}, signed with {} keys", report.checkpoints, report.keys);
    row(&mut out, "Checkpoints", &signed);
    row(&mut out, "Head", &report.head);
    let tail = report.tail.map_or_else(
        || "none: the last record is signed".to_owned(),
        |tail| {
            let age = age(tail.since);
            format!("{} records behind the last signed one, the oldest {age} old", tail.records)
        },
    );
    row(&mut out, "Un-anchored", &tail);
    let (bad, notes): (Vec<_>, Vec<_>) =
        report.findings.iter().partition(|finding| finding.result > Verdict::Intact);
    let mut told = Vec::new();
    for finding in bad {
        let _ = writeln!(out);
        describe(&mut out, finding, &mut told);
    }
    if !notes.is_empty() {
        let _ = writeln!(out, "\nNotes");
    }
    for note in notes {
        let _ = writeln!(out, "  {}{}", place(note), note.sentence);
    }
    if report.findings_left_out > 0 {
        let _ = writeln!(out, "\nand {} more findings of these kinds", report.findings_left_out);
    }
    out
}

/// One finding; what it means and what to do only once for each kind.
fn describe(out: &mut String, finding: &Finding, told: &mut Vec<Code>) {
    let _ = writeln!(out, "{}  {}{}", verdict(finding.result), place(finding), finding.sentence);
    for (label, hash) in [("expected", &finding.expected), ("found", &finding.found)] {
        if let Some(hash) = hash {
            row(out, &format!("  {label}"), hash);
        }
    }
    if told.contains(&finding.code) {
        return;
    }
    told.push(finding.code);
    let (meaning, remedy) = advice(finding.code);
    row(out, "  means", meaning);
    row(out, "  do", remedy);
}

fn row(out: &mut String, label: &str, value: &str) {
    let _ = writeln!(out, "{label:<13} {value}");
}

fn place(finding: &Finding) -> String {
    finding
        .place
        .as_ref()
        .map_or_else(String::new, |place| format!("{} line {}: ", place.file, place.line))
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Intact => "intact",
        Verdict::Incomplete => "INCOMPLETE",
        Verdict::Unverifiable => "CANNOT VERIFY",
        Verdict::Tampered => "TAMPERED",
    }
}

/// How long ago, by this machine's clock.
fn age(since_ms: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let seconds = now.saturating_sub(since_ms / 1000);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
