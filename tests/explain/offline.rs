//! `sluicegate explain` by the file alone, compared word for word.
//!
//! `UPDATE_GOLDEN=1 cargo test --test explain` writes the files anew; read the difference before it
//! is committed.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{sluicegate, words};

const IOT: &str = "a1b2c3d4e5f6g7-ats.iot.eu-central-1.amazonaws.com";

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/explain").join(file)
}

fn explain(device: &str, name: &str, port: u16, more: &[&str]) -> std::process::Output {
    let (site, port) = (golden("site.toml"), port.to_string());
    let asked = ["explain", "--device", device, "--name", name, "--port", &port];
    let config = ["--config", site.to_str().unwrap()];
    sluicegate(&[&asked[..], &config, more].concat(), b"")
}

/// Case, device, name, port, exit code, reason.
const CASES: [(&str, &str, &str, u16, i32, &str); 14] = [
    ("allowed", "press-3", IOT, 8883, 0, ""),
    ("allowed-mac", "00:00:5e:00:53:03", IOT, 443, 0, ""),
    ("allowed-address", "10.10.0.8", "historian.corp.example", 8443, 0, ""),
    ("allowed-network", "line-4", "augsburg-artifacts.s3.eu-central-1.amazonaws.com", 443, 0, ""),
    ("not-allowed", "gateway-1", "www.example.com", 443, 3, "name_not_allowed"),
    (
        "public-only",
        "gateway-1",
        "greengrass-ats.iot.eu-central-1.amazonaws.com",
        8443,
        3,
        "name_public_only",
    ),
    (
        "wrong-region",
        "gateway-1",
        "a1b2c3d4e5f6g7-ats.iot.us-east-1.amazonaws.com",
        443,
        3,
        "name_wrong_region",
    ),
    (
        "other-account",
        "gateway-1",
        "999999999999.dkr.ecr.eu-central-1.amazonaws.com",
        443,
        3,
        "name_other_account",
    ),
    ("wrong-port", "press-3", IOT, 1883, 3, "port_not_allowed"),
    ("device-unknown", "10.10.9.9", IOT, 8883, 3, "device_unknown"),
    ("device-outside", "192.0.2.9", IOT, 8883, 3, "device_unknown"),
    ("mac-unknown", "00:00:5e:00:53:99", IOT, 8883, 3, "device_unknown"),
    ("device-not-allowed", "press-3", "historian.corp.example", 443, 3, "device_not_allowed"),
    ("address", "press-3", "10.20.0.11", 443, 3, "name_is_address"),
];

#[test]
fn every_explanation_reads_as_before() {
    let mut differing = Vec::new();
    for (case, device, name, port, code, reason) in CASES {
        for (more, ending) in [(&["--offline"][..], "txt"), (&["--offline", "--json"], "json")] {
            let output = explain(device, name, port, more);
            assert_eq!(output.status.code(), Some(code), "{case}: {output:?}");
            assert!(output.stderr.is_empty(), "{case}: {output:?}");
            let mut said = words(&output.stdout);
            if ending == "json" {
                let document: Value = serde_json::from_str(&said).unwrap();
                assert_eq!(document["reason"].as_str().unwrap_or_default(), reason, "{case}");
                said = format!("{document:#}\n");
            }
            let file = golden(&format!("{case}.{ending}"));
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                std::fs::write(&file, &said).unwrap();
            }
            if std::fs::read_to_string(&file).unwrap_or_default() != said {
                differing.push(format!("{}:\n{said}", file.display()));
            }
        }
    }
    assert!(differing.is_empty(), "not as before:\n{}", differing.join("\n"));
}

#[test]
fn what_cannot_be_told_has_its_own_exit_code() {
    let output = explain("pres-3", IOT, 443, &["--offline", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    assert!(words(&output.stderr).contains("press-3, gateway-1, line-4"), "{output:?}");
    assert_eq!(explain("press-3", IOT, 0, &[]).status.code(), Some(2));
    // Nobody listens at the socket of the file: the file answers, with a note.
    let output = explain("press-3", IOT, 443, &["--json"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(words(&output.stderr).contains("no gate runs here"), "{output:?}");
}

#[test]
fn a_terminal_is_not_steered() {
    let output = explain("press-3", "a\x1b[2J.example", 443, &["--offline"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(!output.stdout.contains(&0x1b), "{output:?}");
}
