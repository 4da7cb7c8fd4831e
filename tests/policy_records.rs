//! `policy learn` and `policy diff` over a log that flows have left, compared word for word.
//!
//! `UPDATE_GOLDEN=1 cargo test --test policy_records` writes the files anew; read the difference
//! before it is committed.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use sluicegate::audit::{Audit, AuditOptions, DeviceFacts, FlowRecord, LearntFacts, RuleFacts};
use sluicegate::audit::{FlowEnd, TrafficFacts};
use sluicegate::config::{self, Retention};
use sluicegate::hello::{Alpn, ClientTraits, HelloFacts};
use sluicegate::reason::Reason;

const IOT: &str = "a1b2c3d4e5f6g7-ats.iot.eu-central-1.amazonaws.com";
const CREDENTIALS: &str = "c1d2e3f4g5h6i7.credentials.iot.eu-central-1.amazonaws.com";
const PRESS: &str = "\n[[device]]\nname = \"press-3\"\nmac = \"00:00:5e:00:53:07\"\n";

/// What became of a flow.
#[derive(Clone, Copy)]
enum Fate {
    Allowed,
    Learnt(Reason),
    /// Let on by learn mode, then refused.
    LearntButRefused(Reason, Reason),
    Refused(Reason, &'static str),
}

struct Site {
    directory: tempfile::TempDir,
    audit: Option<Audit>,
}

impl Site {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let audit = Audit::start(AuditOptions {
            directory: directory.path().join("audit"),
            retention: Retention::default(),
            site: "augsburg-2".to_owned(),
            region: "eu-central-1".to_owned(),
            slots: 8,
            keys: directory.path().join("keys"),
            root_key: None,
            policy: "0".repeat(64),
        });
        Self { directory, audit: Some(audit.unwrap()) }
    }

    /// Records one flow; an empty name for a hello without one.
    fn flow(&self, from: (&str, &str, &str), name: &str, port: u16, fate: Fate) {
        let (device, mac, address) = from;
        let facts = DeviceFacts {
            address: format!("{address}:51522").parse().unwrap(),
            mac: (!mac.is_empty()).then(|| mac.parse().unwrap()),
            name: (!device.is_empty()).then(|| device.into()),
            identity: if device.is_empty() { "none" } else { "mac" },
        };
        let dialled = format!("203.0.113.80:{port}").parse().unwrap();
        let mut flow = self.audit.as_ref().unwrap().reserve().unwrap().begin(facts, dialled);
        if !name.is_empty() {
            flow.set_hello(Some(&name.parse().unwrap()), &hello(), hello().ja4());
        }
        finish(flow, fate);
    }

    fn close_log(&mut self) {
        self.audit.take().unwrap().close();
    }

    fn config(&self, name: &str, devices: &str) -> PathBuf {
        let text = fs::read_to_string(golden("site.toml")).unwrap();
        let audit = self.directory.path().join("audit").display().to_string();
        let path = self.directory.path().join(name);
        fs::write(&path, text.replace("AUDIT", &audit) + devices).unwrap();
        path
    }

    fn audit_dir(&self) -> PathBuf {
        self.directory.path().join("audit")
    }
}

fn finish(mut flow: FlowRecord, fate: Fate) {
    let rule = |rule: &str| RuleFacts {
        policy: "9b2f0c7a4f0e1d6f".repeat(4).into(),
        rule: rule.into(),
        endpoint: None,
        service: None,
    };
    match fate {
        Fate::Allowed => flow.set_rule(rule("device press-3")),
        Fate::Learnt(reason) | Fate::LearntButRefused(reason, _) => {
            flow.set_rule(rule("learn"));
            flow.set_learnt(LearntFacts { reason, remedy: None });
        }
        Fate::Refused(_, by) if !by.is_empty() => flow.set_rule(rule(by)),
        Fate::Refused(..) => {}
    }
    match fate {
        Fate::Allowed | Fate::Learnt(_) => {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(flow.open()).unwrap();
            flow.close(FlowEnd::ClosedByDevice, TrafficFacts::default());
        }
        Fate::LearntButRefused(_, reason) | Fate::Refused(reason, _) => {
            flow.refuse(reason, None, None, None);
        }
    }
}

fn hello() -> HelloFacts {
    HelloFacts {
        legacy_version: 0x0303,
        versions: [0x0304].into_iter().collect(),
        alpn: Alpn::default(),
        ech: false,
        traits: ClientTraits::default(),
        records: 1,
        bytes: 517,
        trailing_bytes: 0,
        notes: Vec::new(),
    }
}

/// A plant in learn mode: a known press, a stranger, a machine behind a router, and a thief.
fn plant() -> Site {
    let mut site = Site::new();
    let press = ("press-3", "00:00:5e:00:53:07", "10.10.3.7");
    let stranger = ("", "00:00:5e:00:53:21", "10.10.3.21");
    let routed = ("", "", "10.10.4.4");
    let thief = ("", "00:00:5e:00:53:99", "10.10.3.7");
    use Fate::{Allowed, Learnt, LearntButRefused, Refused};
    site.flow(press, IOT, 8883, Allowed);
    site.flow(press, IOT, 443, Allowed);
    site.flow(press, CREDENTIALS, 443, Learnt(Reason::DeviceNotAllowed));
    let bucket = "another-bucket.s3.eu-central-1.amazonaws.com";
    site.flow(press, bucket, 443, Learnt(Reason::NameNotAllowed));
    let historian = "historian.corp.example";
    site.flow(press, historian, 443, Learnt(Reason::NameNotAllowed));
    site.flow(press, historian, 8443, Learnt(Reason::NameNotAllowed));
    let greengrass = "greengrass-ats.iot.eu-central-1.amazonaws.com";
    let public = LearntButRefused(Reason::NamePublicOnly, Reason::AddressPublic);
    site.flow(press, greengrass, 8443, public);
    let public = LearntButRefused(Reason::NameNotAllowed, Reason::AddressPublic);
    site.flow(press, "telemetry.example.com", 443, public);
    let logs = "logs.eu-central-1.amazonaws.com";
    site.flow(stranger, logs, 443, Learnt(Reason::DeviceUnknown));
    site.flow(stranger, "historian.other.example", 443, Learnt(Reason::DeviceUnknown));
    site.flow(stranger, "", 443, Refused(Reason::NotTls, ""));
    let unknown = Refused(Reason::NameNotAllowed, "no endpoint");
    site.flow(routed, "updates.example.com", 443, unknown);
    site.flow(thief, IOT, 8883, Refused(Reason::DeviceNotAllowed, "device press-3"));
    site.close_log();
    site
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/policy").join(name)
}

fn sluicegate(words: &[&str], path: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    command.args(words).arg(path).args(more).output().unwrap()
}

fn text(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Compares with a golden file, moments aside.
#[track_caller]
fn assert_golden(name: &str, text: &str) {
    let text = without_moments(text);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(golden(name), &text).unwrap();
    }
    assert_eq!(text, fs::read_to_string(golden(name)).unwrap_or_default(), "{name}");
}

fn without_moments(text: &str) -> String {
    const SHAPE: &str = "0000-00-00T00:00:00Z";
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let here = rest.get(..SHAPE.len()).unwrap_or_default();
        let fits = |(c, s): (char, char)| if s == '0' { c.is_ascii_digit() } else { c == s };
        if !here.is_empty() && here.chars().zip(SHAPE.chars()).all(fits) {
            out.push_str("<moment>");
            rest = &rest[SHAPE.len()..];
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

#[test]
fn learn_proposes_a_file_that_is_valid_and_allows_what_was_private() {
    let site = plant();
    let current = site.config("current.toml", &format!("{PRESS}allow = [\"iot-data\"]\n"));
    let proposed = text(&sluicegate(&["policy", "learn", "--config"], &current, &[]));
    assert_golden("learn.toml", &proposed);
    let whole = fs::read_to_string(site.config("bare.toml", "")).unwrap() + &proposed;
    let loaded = config::parse(&whole, "proposed.toml").unwrap_or_else(|e| panic!("{e}\n{whole}"));
    let names: Vec<&str> = loaded.site.device_entries.iter().map(|d| &*d.name).collect();
    assert_eq!(names, ["device-00-00-5e-00-53-21", "press-3"], "no thief, nobody with nothing");
}

#[test]
fn learn_says_the_same_in_json() {
    let site = plant();
    let current = site.config("current.toml", PRESS);
    fs::write(&current, fs::read_to_string(&current).unwrap() + "allow = []\n").unwrap();
    let output = sluicegate(&["policy", "learn", "--json", "--config"], &current, &[]);
    let document: Value = serde_json::from_str(&text(&output)).unwrap();
    assert_eq!(document["flows"], 13);
    let devices = document["devices"].as_array().unwrap();
    let press = devices.iter().find(|device| device["device"] == "press-3").unwrap();
    let class = |name: &str| {
        let names = press["names"].as_array().unwrap();
        names.iter().find(|seen| seen["name"] == name).unwrap()["class"].clone()
    };
    assert_eq!(class(IOT), "private");
    assert_eq!(class("historian.corp.example"), "private");
    assert_eq!(class("greengrass-ats.iot.eu-central-1.amazonaws.com"), "public-only");
    let routed = devices.iter().find(|device| device["device"] == "10.10.4.4").unwrap();
    assert_eq!(routed["names"][0]["class"], "unknown");
    assert_eq!(routed["proposed"], Value::Null);
    let thief = devices.iter().find(|device| device["device"] == "00:00:5e:00:53:99").unwrap();
    assert_eq!((&thief["proposed"], &thief["names"]), (&Value::Null, &serde_json::json!([])));
}

#[test]
fn learn_does_without_a_configuration_where_the_directory_is_given() {
    let site = plant();
    let output = sluicegate(&["policy", "learn", "--dir"], &site.audit_dir(), &[]);
    let proposed = text(&output);
    assert!(proposed.contains("[endpoint.iot-data]"), "{proposed}");
    let none = Command::new(env!("CARGO_BIN_EXE_sluicegate")).args(["policy", "learn"]).output();
    assert_eq!(none.unwrap().status.code(), Some(2));
}

#[test]
fn diff_lists_what_another_file_changes() {
    let site = plant();
    let new = site.config("new.toml", &format!("{PRESS}allow = [\"iot-credentials\"]\n"));
    let dir = site.audit_dir().display().to_string();
    let output = sluicegate(&["policy", "diff"], &new, &["--dir", &dir]);
    assert_golden("diff.txt", &text(&output));
    let output = sluicegate(&["policy", "diff"], &new, &["--dir", &dir, "--json"]);
    let document: Value = serde_json::from_str(&text(&output)).unwrap();
    let changes = document["changes"].as_array().unwrap();
    let sum: u64 = changes.iter().map(|change| change["flows"].as_u64().unwrap()).sum();
    assert_eq!((document["changed"].as_u64(), document["flows"].as_u64()), (Some(sum), Some(12)));
    let output =
        sluicegate(&["policy", "diff"], &new, &["--dir", &dir, "--since", "2100-01-01T00:00:00Z"]);
    assert!(text(&output).starts_with("0 of 0 flows since"), "later than every flow");
}

#[test]
fn a_bad_file_and_a_missing_log_have_their_exit_codes() {
    let site = plant();
    let code = |output: Output| output.status.code();
    let dir = site.audit_dir().display().to_string();
    let bad = site.config("bad.toml", "surprise = 1\n");
    assert_eq!(code(sluicegate(&["policy", "diff"], &bad, &["--dir", &dir])), Some(2));
    let good = site.config("good.toml", "");
    let missing = ["--dir", "/no/such/directory"];
    assert_eq!(code(sluicegate(&["policy", "diff"], &good, &missing)), Some(1));
    assert_eq!(code(sluicegate(&["policy", "learn", "--config"], &good, &missing)), Some(1));
    assert_eq!(code(sluicegate(&["policy", "learn", "--config"], &bad, &[])), Some(2));
}
