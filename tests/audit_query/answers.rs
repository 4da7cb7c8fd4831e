//! What is shown, how much of it, and what is counted.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::support::{Fate, IOT, Log, PRESS, VENDOR, plant, program};
use sluicegate::reason::Reason;

#[test]
fn the_newest_are_shown_oldest_first() {
    let log = plant();
    for every in [100, 4] {
        let all: Vec<u64> = sequences(&log.ask("flows --all -o json").records());
        for number in [1, 3, 7, 11, 12, 13, 1_000_000] {
            let shown = sequences(&log.ask(&format!("flows -n {number} -o json")).records());
            let first = all.len().saturating_sub(number);
            assert_eq!(shown, &all[first..], "-n {number}");
        }
        let none = log.ask("flows -n 0");
        assert_eq!((none.code, none.out.as_str()), (1, ""));
        if every == 100 {
            log.split(4);
        }
    }
}

fn sequences(records: &[Value]) -> Vec<u64> {
    records.iter().map(|record| record["metadata"]["sequence"].as_u64().unwrap()).collect()
}

#[test]
fn a_line_says_who_wanted_what_and_why_not() {
    let log = plant();
    let answer = log.ask("flows --denied --device press-3");
    let line = answer.out.trim_end();
    // The time is the first word, and not known to the test.
    let (_, said) = line.split_once(' ').unwrap();
    assert_eq!(
        said,
        "DENY  press-3      10.10.3.7:51522       → telemetry.vendor.example:443 name_not_allowed \
         [device press-3]",
    );
    let wide = log.ask("flows -o wide --bytes 27552").out;
    for part in [
        "ALLOW press-3",
        " closed_by_device [device press-3]",
        " eni=10.20.0.44 ",
        " zone=eu-central-1a ",
        " up=18240 down=9312 ",
        " tls=1.3 ",
        " alpn=h2,=x,\\\"\\n ",
        " ja4=t00i",
        " flow=",
    ] {
        assert!(wide.contains(part), "{part} is not in {wide}");
    }
}

#[test]
fn what_would_move_a_terminal_is_escaped() {
    let mut log = Log::new();
    log.flow(PRESS, VENDOR, 443, Fate::Refused(Reason::NameNotAllowed));
    log.close();
    let segment = log.path().join(format!("flow-{:020}.ndjson", 1));
    let text = fs::read_to_string(&segment).unwrap();
    fs::write(&segment, text.replace("press-3", "p\\u001b[2J\\n\u{9b}\u{202e}")).unwrap();
    for arguments in
        ["flows", "flows -o wide", "flows -o csv", "audit top device", "audit top rule"]
    {
        let out = log.ask(arguments).out;
        assert!(out.contains("p\\u{1b}[2J\\u{a}\\u{9b}\\u{202e}"), "{out}");
        let plain = |c: char| matches!(c, '\n' | '\r') || !(c.is_control() || c == '\u{202e}');
        assert!(out.chars().all(plain), "{arguments}: {out:?}");
    }
}

#[test]
fn damage_is_passed_over_and_said() {
    let log = plant();
    let segment = log.path().join(format!("flow-{:020}.ndjson", 1));
    let text = fs::read_to_string(&segment).unwrap();
    let before = log.ask("flows --all -o json").out;
    let torn = &text[..text.len() / 3];
    let torn = torn.rsplit('\n').next().unwrap();
    fs::write(&segment, format!("no record\n{}\n{text}{torn}", "x".repeat(3 << 20))).unwrap();
    let after = log.ask("flows --all -o json --since 24h");
    assert_eq!((after.code, after.out == before), (0, true));
    assert_eq!(after.notes, "2 lines of the log cannot be read and were left out\n");
}

#[test]
fn what_was_written_again_to_the_next_segment_is_shown_once() {
    let log = plant();
    log.split(5);
    let before = log.ask("flows --all -o json").out;
    let segment = |first: usize| log.path().join(format!("flow-{first:020}.ndjson"));
    let next = fs::read_to_string(segment(6)).unwrap();
    let again = next.lines().next().unwrap();
    let text = fs::read_to_string(segment(1)).unwrap();
    fs::write(segment(1), format!("{text}{again}\n")).unwrap();
    assert_eq!(log.ask("flows --all -o json").out, before);
    assert_eq!(log.ask("flows -o json -n 100").out, before);
}

#[test]
fn top_counts_flows_once_and_bytes_at_their_end() {
    let log = plant();
    let rows = |arguments: &str| {
        let answer = log.ask(&format!("audit top {arguments} --json"));
        let document: Value = serde_json::from_str(&answer.out).unwrap();
        let row = |row: &Value| {
            let number = |key: &str| row[key].as_u64().unwrap();
            let key = row["key"].as_str().unwrap().to_owned();
            (key, number("flows"), number("denies"), number("bytes"))
        };
        document["rows"].as_array().unwrap().iter().map(row).collect::<Vec<_>>()
    };
    let row = |key: &str, flows, denies, bytes| (key.to_owned(), flows, denies, bytes);
    for every in [100, 2] {
        assert_eq!(
            rows("device"),
            [
                row("press-3", 3, 1, 27_552),
                row("robot-1", 3, 2, 2_000_001),
                row("00:00:5e:00:53:99", 2, 0, 0),
            ]
        );
        assert_eq!(rows("name --by bytes"), [row(IOT, 4, 0, 2_027_553)]);
        assert_eq!(
            rows("reason --by denies"),
            [row("name_not_allowed", 2, 2, 0), row("port_not_allowed", 1, 1, 0),]
        );
        assert_eq!(rows("port --by denies -n 1"), [row("443", 5, 2, 2_000_001)]);
        assert_eq!(rows("port --by denies --device robot-1 --port 8443"), [row("8443", 1, 1, 0)]);
        assert_eq!(rows("eni --by bytes"), [row("10.20.0.44", 0, 0, 2_027_553)]);
        if every == 100 {
            log.split(2);
        }
    }
    let table = log.ask("audit top rule --by denies").out;
    let words: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        words,
        [
            vec!["FLOWS", "DENIES", "BYTES"],
            vec!["3", "2", "2000001", "device", "robot-1"],
            vec!["3", "1", "27552", "device", "press-3"],
        ]
    );
    assert_eq!(log.ask("audit top name --port 1").code, 1);
}

#[test]
fn stats_say_where_the_log_ends() {
    let log = plant();
    let lines = log.lines();
    let stats: Value = serde_json::from_str(&log.ask("audit stats --json").out).unwrap();
    let bytes: usize = lines.iter().map(|line| line.len() + 1).sum();
    assert_eq!(stats["records"], lines.len());
    assert_eq!(stats["last_hour"], lines.len());
    assert_eq!((&stats["segments"], &stats["bytes"]), (&1.into(), &bytes.into()));
    assert_eq!(
        (&stats["oldest"]["seq"], &stats["newest"]["seq"]),
        (&1.into(), &lines.len().into())
    );
    let key = sluicegate::audit::pinned_key(&log.path()).unwrap();
    let head = sluicegate::audit::verify(&log.path(), &key, &Default::default()).head;
    assert_eq!(stats["newest"]["hash"], head);
    assert!(log.ask("audit stats").out.contains(&head));
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(crate::support::ask(empty.path(), "audit stats").code, 1);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut log = Log::new();
    for _ in 0..2_000 {
        log.flow(PRESS, VENDOR, 443, Fate::Refused(Reason::NameNotAllowed));
    }
    log.close();
    log.split(100);
    let mut child = program()
        .args(["flows", "--all", "-o", "json", "--dir"])
        .arg(log.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    drop(out);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}
