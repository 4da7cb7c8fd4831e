//! Each form of a record, word for word, over a log that lies beside.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Answer, ask, plant};

#[test]
fn every_form_is_as_it_was() {
    for (name, arguments) in [
        ("compact.txt", "flows --all"),
        ("wide.txt", "flows --all -o wide"),
        ("records.csv", "audit export --format csv"),
        ("eve.ndjson", "audit export --format eve"),
        ("ecs.ndjson", "audit export --format ecs"),
        ("ocsf-1.3.ndjson", "audit export --format ocsf-1.3"),
    ] {
        let types = "--type flow --type dns --type packet --type system";
        let answer: Answer = ask(&golden(""), &format!("{arguments} {types}"));
        assert_eq!((answer.code, answer.notes.as_str()), (0, ""), "{name}");
        let path = golden(name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &answer.out).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(answer.out, expected, "{name} has changed");
    }
}

#[test]
fn what_is_exported_as_ndjson_is_what_is_stored() {
    let stored = fs::read_to_string(golden("flow-00000000000000000001.ndjson")).unwrap();
    let types = "--type flow --type dns --type packet --type system";
    let answer = ask(&golden(""), &format!("audit export {types}"));
    assert_eq!(answer.out, stored);
}

#[test]
fn a_csv_file_has_as_many_cells_in_every_line() {
    let answer = plant().ask("flows --all -o csv");
    let lines: Vec<&str> = answer.out.split_terminator("\r\n").collect();
    assert_eq!(lines.len(), 13);
    let cells = |line: &str| {
        // Between quotes commas are text; doubled quotes open and close at once.
        let outside = line.split('"').step_by(2);
        outside.map(|part| part.matches(',').count()).sum::<usize>()
    };
    for line in &lines {
        assert_eq!(cells(line), cells(lines[0]), "{line}");
    }
}

#[test]
fn flow_ids_join_the_events_of_a_flow() {
    let events = plant().ask("audit export --format eve --device robot-1").records();
    let ids = |kind: &str| -> Vec<&Value> {
        events.iter().filter(|e| e["event_type"] == kind).map(|e| &e["flow_id"]).collect()
    };
    assert_eq!((ids("tls").len(), ids("drop").len()), (1, 2));
    assert_eq!(ids("tls"), ids("flow"));
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/audit").join(name)
}
