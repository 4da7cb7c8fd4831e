//! `sluicegate hello`: its documents, its words for people, and its exit codes.

use serde_json::Value;

use crate::capture::{Segments, pcap};
use crate::client_hello::{Builder, SNI, sni};
use crate::{sluicegate, words};

const IOT: &str = "a1b2c3d4e5f6g7-ats.iot.eu-central-1.amazonaws.com";

#[test]
fn a_document_has_every_field() {
    let output = sluicegate(&["hello", "-", "--json"], &Builder::tls13(IOT).bytes());
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let fields = [
        "name",
        "reason",
        "legacy_version",
        "versions",
        "ciphers",
        "alpn",
        "ech",
        "ja4",
        "records",
        "bytes",
        "trailing_bytes",
        "notes",
    ];
    for field in fields {
        assert!(document.get(field).is_some(), "{field}: {document}");
    }
    assert_eq!(document["versions"], serde_json::json!(["TLS 1.3", "TLS 1.2"]));
    assert_eq!(document["aws"]["accepts"], true);
}

#[test]
fn people_read_what_stands_against_it() {
    let old = Builder { ciphers: vec![0x000a], ..Builder::bare() };
    let hex: Vec<_> = old
        .with(SNI, sni(IOT.as_bytes()))
        .bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let output = sluicegate(&["hello"], hex.join(":").as_bytes());
    assert_eq!(output.status.code(), Some(0));
    let text = words(&output.stdout);
    for word in [IOT, "TLS 1.0", "t10d", "at most TLS 1.0", "only 3DES", "can never succeed"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let output = sluicegate(&["hello", "-"], &Builder::tls12(IOT).without(SNI).bytes());
    assert_eq!(output.status.code(), Some(3));
    let text = words(&output.stdout);
    for word in ["name_missing", "remedy", "Switch SNI on", "AWS IoT requires it"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn what_cannot_be_read_is_exit_one() {
    for input in [&b""[..], b"16 03 0", &[0x1f, 0x8b, 8, 0], &[0xd4, 0xc3, 0xb2, 0xa1]] {
        let output = sluicegate(&["hello", "-", "--json"], input);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(output.stdout.is_empty());
        assert!(words(&output.stderr).starts_with("sluicegate: "));
    }
    let output = sluicegate(&["hello", "/nowhere/at/all"], b"");
    assert_eq!(output.status.code(), Some(1));
}

/// A connection that sends the data in two segments out of order, one of them twice.
fn disordered(data: &[u8]) -> Segments<'_> {
    let (first, second) = data.split_at(data.len() / 2);
    vec![(first.len(), second), (0, first), (0, first)]
}

#[test]
fn a_capture_is_one_document_per_connection() {
    let hello = Builder::tls13(IOT).bytes();
    let nameless = Builder::tls13(IOT).without(SNI).bytes();
    let file = pcap(&[&hello, &nameless, &b"SSH-2.0-x"[..]].map(disordered));
    let output = sluicegate(&["hello", "-", "--json"], &file);
    assert_eq!(output.status.code(), Some(3));
    let documents: Vec<Value> =
        words(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let reasons: Vec<_> = documents.iter().map(|document| &document["reason"]).collect();
    assert_eq!(reasons, [&Value::Null, &"name_missing".into(), &"not_tls".into()]);
    assert_eq!(documents[0]["name"], IOT);
    assert_eq!(documents[2]["capture"]["client"], "10.10.0.7:50002");
    let output = sluicegate(&["hello", "-"], &pcap(&[disordered(&hello)]));
    assert_eq!(output.status.code(), Some(0));
    assert!(words(&output.stdout).starts_with("10.10.0.7:50000 -> 198.51.100.11:443\n"));
}
