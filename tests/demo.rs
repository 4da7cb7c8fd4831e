//! The demo comes out as expected, prints what the README shows, and leaves nothing behind.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

#[path = "support/proof.rs"]
mod proof;

use std::collections::BTreeSet;
use std::process::{Command, Output};

use serde_json::Value;

fn demo(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sluicegate")).arg("demo").args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Namespaces, tables and lab directories that exist outside.
fn traces() -> BTreeSet<String> {
    let mut traces = BTreeSet::new();
    for (program, args) in [("ip", &["netns"][..]), ("nft", &["list", "tables"])] {
        let output = Command::new(program).args(args).output().unwrap();
        traces.extend(text(&output.stdout).lines().map(|line| format!("{program}: {line}")));
    }
    traces
}

#[test]
fn json_has_its_shape_and_the_records_are_kept() {
    let before = traces();
    let kept = tempfile::tempdir().unwrap();
    let output = demo(&["--json", "--audit", kept.path().to_str().unwrap()]);
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["ok"], &report["leaked_packets"]), (&Value::Bool(true), &Value::from(0)));
    let cases = report["cases"].as_array().unwrap();
    assert!(cases.len() >= 24, "{} cases", cases.len());
    for case in cases {
        for key in [
            "case",
            "device",
            "name",
            "port",
            "expected",
            "verdict",
            "reason",
            "endpoint",
            "address",
            "bytes_up",
            "bytes_down",
            "ok",
        ] {
            assert!(case.get(key).is_some(), "{key} is missing in {case}");
        }
        assert_eq!(case["ok"], true, "{case}");
        let allowed = case["verdict"] == "allow";
        assert_eq!(case["reason"].is_null(), allowed, "{case}");
        assert_eq!(case["bytes_up"].as_u64().unwrap() > 0, allowed, "{case}");
    }
    assert_eq!(traces(), before, "the demo left something behind");

    let report = proof::assert_intact(kept.path());
    assert!(report.records > 40, "{report:?}");
}

#[test]
fn the_table_is_the_one_in_the_readme() {
    let output = demo(&[]);
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    let readme = include_str!("../README.md");
    let shown: Vec<&str> = readme
        .lines()
        .skip_while(|line| !line.starts_with("case "))
        .take_while(|l| *l != "```")
        .collect();
    let printed: Vec<&str> = text(&output.stdout).lines().collect();
    assert_eq!(shown.len(), printed.len(), "the README shows another number of rows");
    for (shown, printed) in shown.iter().zip(&printed) {
        assert_eq!(stable(shown), stable(printed));
    }
}

/// A row without the columns that differ from run to run: which of two ENIs served, and byte counts,
/// which follow the lengths of signatures.
fn stable(row: &str) -> (String, String) {
    let words: Vec<&str> = row.split_whitespace().collect();
    let until = words.iter().position(|word| word.starts_with("10.20.") && !word.contains(':'));
    let fixed = &words[..until.unwrap_or(words.len())];
    (fixed.join(" "), words.last().copied().unwrap_or_default().to_owned())
}
