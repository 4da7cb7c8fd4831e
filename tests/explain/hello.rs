//! `sluicegate hello`: what each kind of input is answered with.

use serde_json::Value;

use crate::client_hello::{
    Builder, SNI, VERSIONS, list8, list16, numbers, record, sni, sni_entries,
};
use crate::{sluicegate, words};

const IOT: &str = "a1b2c3d4e5f6g7-ats.iot.eu-central-1.amazonaws.com";

/// Exit code and the one document.
fn read(bytes: &[u8]) -> (Option<i32>, Value) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let output = sluicegate(&["hello", file.path().to_str().unwrap(), "--json"], b"");
    let document = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output.status.code(), document)
}

fn named(content: Vec<u8>) -> Vec<u8> {
    Builder::tls13(IOT).replacing(SNI, content).bytes()
}

#[test]
fn every_hello_has_its_answer_and_exit_code() {
    let tls13 = Builder::tls13(IOT);
    let fine = [
        tls13.bytes(),
        tls13.in_records(1),
        tls13.in_records(7),
        [tls13.bytes(), record(23, 0x0303, &[0; 90])].concat(),
        Builder::bare().with(SNI, sni(IOT.as_bytes())).bytes(),
        named(sni(IOT.to_uppercase().as_bytes())),
        named(sni(format!("{IOT}.").as_bytes())),
        tls13.clone().with(0x0a0a, vec![]).with(0xfe0d, vec![0; 40]).bytes(),
    ];
    for bytes in fine {
        let (code, document) = read(&bytes);
        assert_eq!((code, &document["name"]), (Some(0), &IOT.into()), "{document}");
        assert_eq!(document["reason"], Value::Null);
    }
    let refused: [(Vec<u8>, &str); 16] = [
        (tls13.bytes()[..100].to_vec(), "hello_cut"),
        (record(22, 0x0301, &[1, 2, 0, 0]), "hello_too_large"),
        ([&[22, 3, 1, 0x7f, 0xff][..], &[1; 60]].concat(), "hello_malformed"),
        (record(22, 0x0301, &[]), "hello_malformed"),
        (record(23, 0x0301, &[1; 9]), "hello_malformed"),
        (tls13.clone().with(VERSIONS, list8(&numbers(&[0x0304]))).bytes(), "hello_malformed"),
        (b"\x80\x1c\x01\x03\x01\x00\x03\x00\x00\x00\x10\x01\x00\x80".to_vec(), "sslv2_hello"),
        (b"GET / HTTP/1.1\r\nhost: www.example.com\r\n\r\n".to_vec(), "not_tls"),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "not_tls"),
        (b"\x10\x18\x00\x04MQTT\x04\x02\x00\x3c\x00\x0cdevice".to_vec(), "not_tls"),
        (tls13.clone().without(SNI).bytes(), "name_missing"),
        (named(list16(&[])), "name_missing"),
        (named(sni_entries(&[(0, b"a.example"), (0, b"b.example")])), "name_ambiguous"),
        (tls13.clone().with(SNI, sni(b"b.example")).bytes(), "name_ambiguous"),
        (named(sni(b"a_b.example")), "name_malformed"),
        (named(sni(b"10.20.0.11")), "name_is_address"),
    ];
    for (bytes, reason) in refused {
        let (code, document) = read(&bytes);
        assert_eq!((code, &document["reason"]), (Some(3), &reason.into()), "{document}");
        assert_eq!(document["name"], Value::Null);
        assert!(document["remedy"].is_string());
    }
}

#[test]
fn a_document_has_every_field() {
    let (_, document) = read(&Builder::tls13(IOT).bytes());
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

/// Raw IPv4 packets of one connection each: a SYN, then the data in two segments out of order.
fn pcap(streams: &[&[u8]]) -> Vec<u8> {
    let mut file = vec![0xa1, 0xb2, 0xc3, 0xd4, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255];
    file.extend(101_u32.to_be_bytes());
    for (index, data) in streams.iter().enumerate() {
        let (first, second) = data.split_at(data.len() / 2);
        let port = 50_000 + u16::try_from(index).unwrap();
        let behind = 1001 + u32::try_from(first.len()).unwrap();
        for (sequence, flags, payload) in
            [(1000, 2, &[][..]), (behind, 24, second), (1001, 24, first), (1001, 24, first)]
        {
            let length = u16::try_from(40 + payload.len()).unwrap().to_be_bytes();
            let packet = [
                &[0x45, 0][..],
                &length,
                &[0, 0, 0, 0, 64, 6, 0, 0, 10, 10, 0, 7, 198, 51, 100, 11],
                &port.to_be_bytes(),
                &443_u16.to_be_bytes(),
                &u32::to_be_bytes(sequence),
                &[0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0],
                payload,
            ]
            .concat();
            let size = u32::try_from(packet.len()).unwrap().to_be_bytes();
            file.extend([&[0; 8][..], &size, &size, &packet].concat());
        }
    }
    file
}

#[test]
fn a_capture_is_one_document_per_connection() {
    let hello = Builder::tls13(IOT).bytes();
    let nameless = Builder::tls13(IOT).without(SNI).bytes();
    let output = sluicegate(&["hello", "-", "--json"], &pcap(&[&hello, &nameless, b"SSH-2.0-x"]));
    assert_eq!(output.status.code(), Some(3));
    let documents: Vec<Value> =
        words(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let reasons: Vec<_> = documents.iter().map(|document| &document["reason"]).collect();
    assert_eq!(reasons, [&Value::Null, &"name_missing".into(), &"not_tls".into()]);
    assert_eq!(documents[0]["name"], IOT);
    assert_eq!(documents[2]["capture"]["client"], "10.10.0.7:50002");
    let output = sluicegate(&["hello", "-"], &pcap(&[&hello]));
    assert_eq!(output.status.code(), Some(0));
    assert!(words(&output.stdout).starts_with("10.10.0.7:50000 -> 198.51.100.11:443\n"));
}
