//! `sluicegate hello`: every kind of input that devices send, and its answer.
//!
//! One row for each kind. An input is a file: the bytes of a stream, or a capture of many
//! connections where it matters how the bytes were cut. Every document of a file must be the row's.

use serde_json::{Value, json};

use crate::capture::{Segments, in_segments, pcap};
use crate::client_hello::{
    ALPN, Builder, GROUPS, KEY_SHARE, PADDING, PSK, SIGNATURE_ALGORITHMS, SNI, VERSIONS, alpn,
    handshake, list8, list16, numbers, record, sni, sni_entries,
};
use crate::rustls_oracle::rustls_name;
use crate::{sluicegate, words};

/// A kind of input, in words; files of that kind; and fields that every document has.
type Row = (&'static str, Vec<File>, Value);

/// What the program is given, and how many documents it gives back.
struct File {
    bytes: Vec<u8>,
    documents: usize,
}

#[test]
fn however_the_stream_is_cut() {
    let hello = Builder::tls13(IOT);
    let (bytes, message) = (hello.bytes(), hello.message());
    let whole = read(&bytes);
    let same = json!({ "name": IOT, "reason": null, "ja4": whole["ja4"], "bytes": bytes.len() });
    let at_every_byte = (1..bytes.len())
        .map(|at| bytes.split_at(at))
        .map(|(first, second)| vec![(0, first), (first.len(), second)]);
    let two_records: Vec<Vec<u8>> = (1..message.len())
        .map(|at| message.split_at(at))
        .map(|(first, second)| [record(22, 0x0301, first), record(22, 0x0303, second)].concat())
        .collect();
    let two_records: Vec<_> =
        two_records.iter().map(|stream| in_segments(stream, stream.len())).collect();
    let bytewise = hello.in_records(1);
    check(&[
        ("one segment for each byte", vec![cut(&[in_segments(&bytes, 1)])], same.clone()),
        ("two segments, wherever the cut", vec![cut(&at_every_byte.collect::<Vec<_>>())], same),
        (
            "two records, wherever the boundary",
            vec![cut(&two_records)],
            json!({ "name": IOT, "reason": null, "ja4": whole["ja4"], "records": 2 }),
        ),
        (
            "one record for each byte, and one segment for each byte of them",
            vec![cut(&[in_segments(&bytewise, 1), in_segments(&bytewise, 1_460)])],
            json!({ "name": IOT, "reason": null, "records": message.len() }),
        ),
    ]);
}

#[test]
fn whatever_a_careless_reader_would_see() {
    let (bytes, other) = two_faced();
    // Who does not take the record headers out reads the other name.
    assert_eq!(careless(&bytes).as_deref(), Some(other));
    assert_eq!(rustls_name(&bytes).as_deref(), Some(IOT));
    let within_the_name = {
        let message = Builder::tls13(IOT).message();
        let at = message.windows(IOT.len()).position(|part| part == IOT.as_bytes()).unwrap() + 5;
        [record(22, 0x0301, &message[..at]), record(22, 0x0301, &message[at..])].concat()
    };
    check(&[(
        "a record header where it makes another name",
        vec![File::from(bytes), File::from(within_the_name)],
        json!({ "name": IOT, "reason": null, "records": 2 }),
    )]);
}

#[test]
fn sizes_and_records() {
    let hello = Builder::tls13(IOT);
    let share = [&[0x11, 0xec][..], &list16(&[5; 1216])].concat();
    let post_quantum = hello.clone().replacing(KEY_SHARE, list16(&share)).bytes();
    assert!(post_quantum.len() > 1_400);
    let large = hello.clone().with(PADDING, vec![0; 50_000]).with(0x7777, vec![0; 15_000]);
    let (first, rest) = (hello.message()[..60].to_vec(), hello.message()[60..].to_vec());
    let between =
        |middle: Vec<u8>| [record(22, 0x0301, &first), middle, record(22, 0x0301, &rest)].concat();
    check(&[
        (
            "a post-quantum key share, in two segments",
            vec![cut(&[in_segments(&post_quantum, 1_400)])],
            json!({ "name": IOT, "reason": null, "bytes": post_quantum.len() }),
        ),
        (
            "nearly 64 KiB in records of 16 KiB",
            vec![File::from(large.bytes()), cut(&[in_segments(&large.bytes(), 1_460)])],
            json!({ "name": IOT, "reason": null, "records": 4 }),
        ),
        (
            "more than 64 KiB",
            files([record(22, 0x0301, &[1, 1, 0, 1]), record(22, 0x0301, &[1, 255, 255, 255])]),
            json!({ "reason": "hello_too_large" }),
        ),
        (
            "a record that is too long, empty or of another type, or one of too many",
            files([
                [&[22, 3, 1, 0x40, 0x01][..], &[1; 60]].concat(),
                record(22, 0x0301, &[]),
                between(record(22, 0x0301, &[])),
                between(record(20, 0x0301, &[1])),
                between(record(21, 0x0301, &[1, 0])),
                record(23, 0x0301, &[1; 9]),
                large.in_records(1_000),
            ]),
            json!({ "reason": "hello_malformed" }),
        ),
    ]);
}

#[test]
fn old_clients_and_other_protocols() {
    let old = |version| Builder { legacy_version: version, ..Builder::bare() };
    let mut rows: Vec<Row> = Vec::new();
    for (version, word) in [(0x0300, "SSL 3.0"), (0x0301, "TLS 1.0"), (0x0302, "TLS 1.1")] {
        rows.push((
            "an old version with a name",
            files([old(version).with(SNI, sni(IOT.as_bytes())).bytes()]),
            json!({ "name": IOT, "reason": null, "legacy_version": word }),
        ));
        rows.push((
            "an old version without extensions, or with an empty list of them",
            files([
                old(version).bytes(),
                Builder { extensions: Some(Vec::new()), ..old(version) }.bytes(),
            ]),
            json!({ "reason": "name_missing", "legacy_version": word }),
        ));
    }
    let body = [1, 0, 2, 0, 3, 0, 0, 0, 16, 1, 0, 128];
    rows.push((
        "the format of SSL 2.0, asking for SSL 2.0 or for TLS 1.0",
        files([
            [&[0x80, 28][..], &body, &[9; 16]].concat(),
            [&[0x80, 28, 1, 3, 1][..], &body[3..], &[9; 16]].concat(),
            [&[0x00, 28, 0][..], &body, &[9; 16]].concat(),
        ]),
        json!({ "reason": "sslv2_hello" }),
    ));
    let in_clear: [(&str, &[u8]); 6] = [
        ("HTTP in clear", b"GET / HTTP/1.1\r\nhost: www.example.com\r\n\r\n"),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n"),
        ("MQTT in clear", b"\x10\x18\x00\x04MQTT\x04\x02\x00\x3c\x00\x0cdevice"),
        ("a port scan's line ends", b"\r\n\r\n"),
        ("a port scan's zeros", &[0; 40]),
        ("DTLS", b"\x16\xfe\xfd\x00\x00"),
    ];
    for (says, bytes) in in_clear {
        let hex: String = bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        rows.push((
            says,
            files([bytes.to_vec()]),
            json!({ "reason": "not_tls", "first_bytes": hex }),
        ));
    }
    check(&rows);
}

#[test]
fn names() {
    let hello = Builder::tls13(IOT);
    let one = IOT.as_bytes();
    let label = [b'a'; 64];
    // 254 bytes, and a dot behind them.
    let long = [b"a", &b"a.".repeat(127)[..]].concat();
    let malformed: [&[u8]; 11] = [
        b"",
        b".",
        b"a\0b.example",
        b"a\x1bb.example",
        b"a\nb.example",
        "ger\u{e4}t.example".as_bytes(),
        b"a..example",
        b".example",
        b"under_score.example",
        &label,
        &long,
    ];
    let addresses: [&[u8]; 4] = [b"10.20.0.11", b"10.20.0.11.", b"2001:db8::11", b"[2001:db8::11]"];
    let as_sent = |sent: &str| -> Row {
        (
            "another spelling of a name",
            files([named(sni(sent.as_bytes()))]),
            json!({
                "name": IOT, "reason": null,
                "notes": [format!("name was not in canonical form (as sent: {sent})")],
            }),
        )
    };
    check(&[
        (
            "no name, or an empty list of names",
            files([
                hello.clone().without(SNI).bytes(),
                named(list16(&[])),
                Builder::tls12(IOT).without(SNI).bytes(),
            ]),
            json!({ "reason": "name_missing", "name": null }),
        ),
        (
            "more than one name",
            files([
                named(sni_entries(&[(0, one), (0, b"b.example")])),
                named(sni_entries(&[(0, one), (0, one)])),
                hello.clone().with(SNI, sni(b"b.example")).bytes(),
            ]),
            json!({ "reason": "name_ambiguous", "name": null }),
        ),
        (
            "another extension twice",
            files([ALPN, VERSIONS, GROUPS].map(|kind| hello.clone().with(kind, vec![]).bytes())),
            json!({ "reason": "hello_malformed", "name": null }),
        ),
        (
            "what is no host name",
            malformed.map(|name| File::from(named(sni(name)))).into(),
            json!({ "reason": "name_malformed", "name": null }),
        ),
        (
            "an address in place of a name",
            addresses.map(|name| File::from(named(sni(name)))).into(),
            json!({ "reason": "name_is_address", "name": null }),
        ),
        as_sent(&IOT.to_uppercase()),
        as_sent(&format!("{IOT}.")),
    ]);
}

#[test]
fn extensions_and_what_follows() {
    let hello = Builder::tls13(IOT);
    let ja4 = read(&hello.bytes())["ja4"].clone();
    let mut greased = hello
        .clone()
        .replacing(VERSIONS, list8(&numbers(&[0x6a6a, 0x0304, 0x0303])))
        .replacing(ALPN, alpn(&[&[0x2a, 0x2a], b"x-amzn-mqtt-ca", b"http/1.1"]))
        .replacing(SIGNATURE_ALGORITHMS, list16(&numbers(&[0x4a4a, 0x0403, 0x0804, 0x0401])))
        .with(0xfafa, vec![0]);
    greased.ciphers.insert(0, 0x8a8a);
    greased.extensions.as_mut().unwrap().insert(0, (0x1a1a, Vec::new()));
    let early = record(23, 0x0303, &[1; 200]);
    let message = handshake(1, &[]);
    let behind = |more: &[u8]| [&hello.bytes()[..], more].concat();
    check(&[
        (
            "GREASE in every list",
            files([greased.bytes()]),
            json!({ "name": IOT, "reason": null, "ja4": ja4, "versions": ["TLS 1.3", "TLS 1.2"] }),
        ),
        (
            "an encrypted hello inside: the outer name counts",
            files([hello.clone().with(0xfe0d, vec![0; 120]).bytes()]),
            json!({ "name": IOT, "reason": null, "ech": true }),
        ),
        (
            "a session ticket, or a pre-shared key",
            files([
                hello.clone().with(35, vec![7; 180]).bytes(),
                hello.clone().with(PSK, vec![7; 180]).bytes(),
            ]),
            json!({ "name": IOT, "reason": null, "ech": false, "trailing_bytes": 0 }),
        ),
        (
            "early data behind the hello",
            files([behind(&early)]),
            json!({ "name": IOT, "reason": null, "trailing_bytes": early.len() }),
        ),
        (
            "a change of cipher and early data behind the hello",
            files([behind(&[record(20, 0x0303, &[1]), early.clone()].concat())]),
            json!({ "name": IOT, "reason": null, "trailing_bytes": 6 + early.len() }),
        ),
        (
            "a second handshake record behind the hello",
            files([behind(&record(22, 0x0301, &message))]),
            json!({ "name": IOT, "reason": null, "trailing_bytes": 5 + message.len() }),
        ),
    ]);
}

#[test]
fn half_a_hello_and_silence() {
    let hello = Builder::tls13(IOT).bytes();
    let prefixes: Vec<Segments<'_>> =
        (1..hello.len()).map(|length| vec![(0, &hello[..length])]).collect();
    // A file has no clock: what the gate would reset at its deadline ends here because it ends.
    check(&[(
        "any part of a hello, then nothing",
        vec![File::from(hello[..100].to_vec()), cut(&prefixes)],
        json!({ "reason": "hello_cut", "name": null }),
    )]);
    let output = sluicegate(&["hello", "-", "--json"], &pcap(&[Vec::new()]));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = words(&output.stderr);
    assert!(said.contains("1 connections have no data from their client"), "{said}");
}

fn check(rows: &[Row]) {
    for (says, files, expected) in rows {
        for file in files {
            let output = sluicegate(&["hello", "-", "--json"], &file.bytes);
            let refused = expected.get("reason").is_some_and(Value::is_string);
            let code = if refused { 3 } else { 0 };
            assert_eq!(output.status.code(), Some(code), "{says}: {output:?}");
            let documents: Vec<Value> = words(&output.stdout)
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            assert_eq!(documents.len(), file.documents, "{says}");
            for document in documents {
                for (field, value) in expected.as_object().unwrap() {
                    assert_eq!(&document[field], value, "{says}: {field} of {document:#}");
                }
                assert_eq!(document["remedy"].is_string(), refused, "{says}: {document:#}");
            }
        }
    }
}

fn read(bytes: &[u8]) -> Value {
    serde_json::from_slice(&sluicegate(&["hello", "-", "--json"], bytes).stdout).unwrap()
}

impl From<Vec<u8>> for File {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, documents: 1 }
    }
}

fn files<const N: usize>(inputs: [Vec<u8>; N]) -> Vec<File> {
    inputs.map(File::from).into()
}

fn cut(connections: &[Segments<'_>]) -> File {
    File { bytes: pcap(connections), documents: connections.len() }
}

fn named(content: Vec<u8>) -> Vec<u8> {
    Builder::tls13(IOT).replacing(SNI, content).bytes()
}

/// A hello in two records that has another name for whoever leaves the second header in: it shifts
/// everything behind it by five bytes, so that the session id is read as extensions.
fn two_faced() -> (Vec<u8>, &'static str) {
    let other = "b.example.com";
    let extension = [&[0, 0][..], &list16(&sni(other.as_bytes()))].concat();
    let inner = [
        &list16(&[0x13, 0x01])[..],
        &list8(&[0]),
        &u16::try_from(extension.len()).unwrap().to_be_bytes(),
        &extension,
    ]
    .concat();
    let mut message = Builder { session_id: inner, ..Builder::tls13(IOT) }.message();
    // Its session id is then read five bytes early, in the random: from there to the real one's
    // first byte are four bytes of the random and the real length.
    let random = 4 + 2;
    message[random + 32 - 5] = 5;
    let (first, second) = message.split_at(random + 8);
    ([record(22, 0x0301, first), record(22, 0x0301, second)].concat(), other)
}

/// The name that a reader sees which looks for one record header only.
fn careless(stream: &[u8]) -> Option<String> {
    let u16_at = |at: usize| usize::from(u16::from_be_bytes([stream[at], stream[at + 1]]));
    let session = 5 + 4 + 2 + 32;
    let ciphers = session + 1 + usize::from(stream[session]);
    let compression = ciphers + 2 + u16_at(ciphers);
    let extensions = compression + 1 + usize::from(stream[compression]);
    let first = extensions + 2;
    // Type, length, length of the list, type of the name, then its length.
    let length = u16_at(first + 7);
    (u16_at(first) == usize::from(SNI))
        .then(|| String::from_utf8_lossy(&stream[first + 9..first + 9 + length]).into_owned())
}

const IOT: &str = "a1b2c3d4e5f6g7-ats.iot.eu-central-1.amazonaws.com";
