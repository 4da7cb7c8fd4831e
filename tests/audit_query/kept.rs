//! Questions over what is kept: compressed segments, and segments that go while they are asked.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use sluicegate::audit::query::{Plan, Query};

use crate::support::{Log, plant};

/// Every form of a question.
const QUESTIONS: &[&str] = &[
    "flows --all",
    "flows -n 3 -o json",
    "flows --all -o wide --denied",
    "flows --since 1h -o json",
    "flows --seq 6:9 -o json",
    "audit top name --by denies",
    "audit top device --by bytes --json",
    "audit top reason --since 1h",
    "audit export --type flow --type system",
    "audit export --format csv",
    "audit export --format eve",
    "audit export --format ecs",
    "audit export --format ocsf-1.3",
];

/// Compresses all segments but the newest as the daemon does: in several members.
fn compress(log: &Log) {
    let segments = log.segments();
    for segment in &segments[..segments.len() - 1] {
        let mut file = File::create(segment.with_extension("ndjson.gz")).unwrap();
        for line in fs::read_to_string(segment).unwrap().split_inclusive('\n') {
            let mut member = GzEncoder::new(&mut file, Compression::default());
            member.write_all(line.as_bytes()).unwrap();
            member.finish().unwrap();
        }
        fs::remove_file(segment).unwrap();
    }
}

#[test]
fn compressed_segments_answer_as_plain_ones_do() {
    let log = plant();
    log.split(4);
    let plain: Vec<_> = QUESTIONS.iter().map(|question| log.ask(question)).collect();
    let stats = |log: &Log| -> Value {
        let mut stats: Value = serde_json::from_str(&log.ask("audit stats --json").out).unwrap();
        // The disk holds less.
        stats.as_object_mut().unwrap().remove("bytes").unwrap();
        stats
    };
    let before = stats(&log);
    compress(&log);
    assert!(log.segments()[0].extension().is_some_and(|extension| extension == "gz"));
    for (question, plain) in QUESTIONS.iter().zip(plain) {
        let answer = log.ask(question);
        assert_eq!((answer.code, answer.notes.as_str()), (0, ""), "{question}");
        assert_eq!(answer.out, plain.out, "{question}");
    }
    assert_eq!(stats(&log), before);
}

#[test]
fn what_retention_removes_under_a_question_is_not_missed() {
    let log = plant();
    log.split(4);
    let segments = log.segments();
    // Listed, and gone when it is opened: the oldest, as retention does it.
    fs::remove_file(&segments[0]).unwrap();
    let left: Vec<_> = QUESTIONS.iter().map(|question| log.ask(question)).collect();
    let stats = log.ask("audit stats").out;
    symlink("nowhere", &segments[0]).unwrap();
    for (question, left) in QUESTIONS.iter().zip(left) {
        let answer = log.ask(question);
        assert_eq!((answer.code, answer.notes.as_str()), (0, ""), "{question}");
        assert_eq!(answer.out, left.out, "{question}");
    }
    let answer = log.ask("audit stats");
    assert_eq!(answer.code, 0, "{}", answer.notes);
    let without_segments = |text: &str| {
        text.lines().filter(|line| !line.starts_with("Disk")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(without_segments(&answer.out), without_segments(&stats));
}

#[test]
fn a_plan_outlives_its_segments() {
    let log = plant();
    log.split(4);
    let query = Query::new([]);
    let plan = || Plan::new(&log.path(), &query).unwrap();
    let (write, fold, mut keep) = (plan(), plan(), plan());
    fs::remove_file(&log.segments()[0]).unwrap();
    let mut out = Vec::new();
    let rest = plan().write(&query, 0, |text, line, _| text.extend_from_slice(line), &mut out);
    let rest = rest.unwrap();
    assert!(rest.records > 0);
    let written = write.write(&query, 0, |_, _, _| {}, &mut Vec::new()).unwrap();
    assert_eq!(written, rest);
    let (_, folded) = fold.fold(&query, || (), |(), _| {}).unwrap();
    assert_eq!(folded, rest);
    assert_eq!(keep.keep_last(&query, 1_000).unwrap(), 0);
}
