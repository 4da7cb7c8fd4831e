//! What somebody finds who has only the files, the public key and an anchor.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sluicegate::lab::{Lab, inside};

use crate::counted::end;
use crate::crowd::Plant;
use crate::gate::{audit_directory, sluicegate, stdout};
use crate::say;

/// Segments of a log with this quota hold 4 MiB.
const QUOTA: &str = "[audit]\nquota = \"64MiB\"";
/// Enough for three of them.
const FLOWS: u64 = 3_500;

#[test]
fn five_manipulations_are_found_in_the_gates_log() {
    inside::test("manipulated::five_manipulations_are_found_in_the_gates_log", || {
        let mut plant = Plant::up();
        plant.config = plant.config.replacen("[audit]", QUOTA, 1);
        let daemon = plant.start();
        plant.flows(FLOWS);
        end(&daemon);
        let log = audit_directory(&plant.lab);
        let shown = sluicegate(&plant.lab, &["audit", "key", "show", "--dir", &text(&log)]);
        let kept = plant.lab.directory().join("kept");
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("pub"), stdout(&shown)).unwrap();
        fs::copy(log.join("checkpoint"), kept.join("anchor")).unwrap();
        let case = Case { lab: &plant.lab, log, kept };

        assert_eq!(case.verdict("as it is", |_| {}), (0, "intact".to_owned()));
        let newest = |copy: &Path| segments(copy).pop().unwrap();
        let changed = case.verdict("one changed byte", |copy| {
            let mut content = fs::read(newest(copy)).unwrap();
            let at = content.len() / 2;
            content[at] ^= 1;
            fs::write(newest(copy), content).unwrap();
        });
        assert_eq!(changed, (1, "tampered".to_owned()));
        let line = case.verdict("one removed line", |copy| {
            let content = fs::read_to_string(newest(copy)).unwrap();
            let lines: Vec<&str> = content.split_inclusive('\n').collect();
            let (before, behind) = lines.split_at(lines.len() / 2);
            fs::write(newest(copy), before.concat() + &behind[1..].concat()).unwrap();
        });
        // Where the line was, its hash is missing as well.
        assert!(matches!(line.0, 1 | 2), "{line:?}");
        let segment = case.verdict("a removed segment", |copy| {
            let segments = segments(copy);
            assert!(segments.len() >= 3, "{segments:?}");
            fs::remove_file(&segments[1]).unwrap();
        });
        assert_eq!(segment, (2, "incomplete".to_owned()));
        let cut = case.verdict("a cut tail", |copy| {
            let content = fs::read_to_string(newest(copy)).unwrap();
            let lines: Vec<&str> = content.split_inclusive('\n').collect();
            fs::write(newest(copy), lines[..lines.len() / 2].concat()).unwrap();
        });
        assert_eq!(cut, (2, "incomplete".to_owned()));

        // Another log of the same gate, with other keys, in place of its own.
        let other = plant.lab.directory().join("other");
        plant.config = plant.config.replace("/audit\"", "/other\"\nkeys = \"/nowhere\"");
        plant.config =
            plant.config.replace("/nowhere", &text(&plant.lab.directory().join("others")));
        let daemon = plant.start();
        end(&daemon);
        let case = Case { lab: &plant.lab, log: other, ..case };
        assert_eq!(case.verdict("a replaced key", |_| {}), (1, "tampered".to_owned()));
    });
}

struct Case<'l> {
    lab: &'l Lab,
    log: PathBuf,
    kept: PathBuf,
}

impl Case<'_> {
    /// Copies the log but for what only the box has, changes the copy, and has it verified.
    fn verdict(&self, what: &str, change: impl FnOnce(&Path)) -> (i32, String) {
        let copy = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(&self.log).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if name.contains(".ndjson") {
                fs::copy(&path, copy.path().join(name)).unwrap();
            }
        }
        change(copy.path());
        let [key, anchor] = ["pub", "anchor"].map(|name| text(&self.kept.join(name)));
        let dir = text(copy.path());
        let words = ["--dir", &dir, "--pubkey", &key, "--against-anchor", &anchor, "--json"];
        let output = sluicegate(self.lab, &[&["audit", "verify"][..], &words].concat());
        let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
        let first = &report["findings"][0]["sentence"];
        let code = output.status.code().unwrap();
        say(&format!("{what}: exit {code}, {}, {first}", report["result"]));
        (output.status.code().unwrap(), report["result"].as_str().unwrap().to_owned())
    }
}

/// Oldest first; the newest is plain.
fn segments(directory: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> = paths.filter(|path| text(path).contains("/flow-")).collect();
    segments.sort();
    segments
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
