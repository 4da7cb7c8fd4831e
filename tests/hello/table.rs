//! What each kind of hello is answered with.

use sluicegate::hello::{
    ClientTraits, Hello, HelloFacts, HelloOptions, HelloReader, Progress, Refusal, Stopped,
};
use sluicegate::name::Underscore;
use sluicegate::reason::Reason;

use crate::client_hello::{
    ALPN, Builder, GROUPS, KEY_SHARE, PADDING, PSK, SIGNATURE_ALGORITHMS, SNI, VERSIONS, alpn,
    handshake, list8, list16, numbers, record, sni, sni_entries,
};
use crate::{accepted, read, refused};

const NAME: &str = "device.example.com";

fn named(content: Vec<u8>) -> Vec<u8> {
    Builder::tls13(NAME).replacing(SNI, content).bytes()
}

/// A refusal of a well-formed hello: the reason and the detail.
fn refused_with_facts(bytes: &[u8]) -> (Reason, String) {
    let refusal = refused(bytes);
    let facts = refusal.facts.expect("the hello itself is well-formed");
    assert_ne!(facts.traits, ClientTraits::default());
    assert_eq!((facts.records, facts.bytes), (1, bytes.len()));
    (refusal.reason, refusal.detail)
}

fn malformed(bytes: &[u8]) -> String {
    let refusal = refused(bytes);
    assert_eq!(refusal.reason, Reason::HelloMalformed, "{}", refusal.detail);
    assert_eq!(refusal.first_bytes, b"");
    refusal.detail
}

#[test]
fn a_tls13_hello_is_read_with_its_facts() {
    let bytes = Builder::tls13(NAME).bytes();
    let Hello { name, facts } = accepted(&bytes);
    assert_eq!(name.as_str(), NAME);
    let expected = HelloFacts {
        legacy_version: 0x0303,
        versions: [0x0304, 0x0303].into_iter().collect(),
        alpn: [&b"x-amzn-mqtt-ca"[..], b"http/1.1"].into_iter().collect(),
        ech: false,
        traits: facts.traits.clone(),
        records: 1,
        bytes: bytes.len(),
        trailing_bytes: 0,
        notes: Vec::new(),
    };
    assert_eq!(facts, expected);
    assert!(facts.ja4().as_str().starts_with("t13d0306xa_"), "{}", facts.ja4());
    assert_eq!(facts.highest_version(), 0x0304);
}

#[test]
fn every_byte_is_kept() {
    let mut reader = HelloReader::new();
    let bytes = Builder::tls12(NAME).bytes();
    assert!(matches!(reader.push(&bytes), Progress::Hello(_)));
    assert_eq!(reader.raw(), bytes);
    assert_eq!(reader.into_raw(), bytes);
}

#[test]
fn old_versions_are_read_with_and_without_extensions() {
    for version in [0x0300, 0x0301, 0x0302, 0x0303] {
        let mut hello = Builder { legacy_version: version, ..Builder::bare() };
        let (reason, _) = refused_with_facts(&hello.bytes());
        assert_eq!(reason, Reason::NameMissing);
        hello = hello.with(SNI, sni(NAME.as_bytes()));
        let read = accepted(&hello.bytes());
        assert_eq!(read.facts.highest_version(), version);
        assert_eq!(read.name.as_str(), NAME);
        hello.extensions = Some(Vec::new());
        assert_eq!(refused(&hello.bytes()).reason, Reason::NameMissing);
    }
}

#[test]
fn a_post_quantum_hello_in_two_segments_is_the_normal_case() {
    let share = [&[0x11, 0xec][..], &list16(&[5; 1216])].concat();
    let bytes = Builder::tls13(NAME).replacing(KEY_SHARE, list16(&share)).bytes();
    let (first, second) = bytes.split_at(1400);
    let mut reader = HelloReader::new();
    assert_eq!(reader.push(first), Progress::Incomplete);
    assert!(matches!(reader.push(second), Progress::Hello(_)));
}

/// A hello whose handshake message, header included, has `size` bytes.
fn sized(size: usize) -> Builder {
    let bare = Builder::tls13(NAME).with(PADDING, Vec::new());
    let padding = size - bare.message().len();
    let most = padding.min(50_000);
    // One more extension where the padding is too large for the length of one.
    let hello = bare.replacing(PADDING, vec![0; most]);
    if padding > most { hello.with(0x7777, vec![0; padding - most - 4]) } else { hello }
}

#[test]
fn a_hello_may_have_64_kib_over_several_records() {
    // A ClientHello of exactly 64 KiB cannot hold its own extensions list, which ends at 65,535.
    let bytes = sized(65_500).bytes();
    let hello = accepted(&bytes);
    assert_eq!((hello.facts.records, hello.facts.bytes), (4, 65_500 + 4 * 5));

    let announced = |length: u32| {
        let [_, high, middle, low] = length.to_be_bytes();
        read(&record(22, 0x0301, &[1, high, middle, low]))
    };
    assert_eq!(announced(65_536), Progress::Incomplete);
    let Progress::Refused(refusal) = announced(65_537) else { panic!("not refused at once") };
    assert_eq!(refusal.reason, Reason::HelloTooLarge);
}

#[test]
fn a_small_hello_may_have_any_number_of_records_and_a_large_one_64() {
    assert_eq!(accepted(&sized(2_048).in_records(1)).facts.records, 2_048);
    assert!(malformed(&sized(2_049).in_records(1)).contains("64 records"));
    assert_eq!(accepted(&sized(2_049).in_records(33)).facts.records, 63);
    assert_eq!(accepted(&sized(64 * 300).in_records(300)).facts.records, 64);
    assert!(malformed(&sized(64 * 300 + 1).in_records(300)).contains("64 records"));
    // Refused with the header of the record that is too many, not at the end.
    let bytes = sized(60_000).in_records(20);
    assert_eq!(read(&bytes[..64 * 25 + 4]), Progress::Incomplete);
    malformed(&bytes[..64 * 25 + 5]);
}

#[test]
fn a_record_has_one_to_16384_bytes_of_the_right_type() {
    let whole = Builder::tls13(NAME);
    let message = whole.message();
    let (first, rest) = message.split_at(60);
    let then =
        |middle: Vec<u8>| [record(22, 0x0301, first), middle, record(22, 0x0301, rest)].concat();
    assert_eq!(accepted(&then(Vec::new())).facts.records, 2);
    assert!(malformed(&then(record(22, 0x0301, &[]))).contains("empty"));
    assert!(malformed(&then(record(21, 0x0301, &[1, 0]))).contains("type 21"));
    assert!(malformed(&then(record(23, 0x0301, &[0]))).contains("type 23"));
    assert!(malformed(&then(record(22, 0x0201, &[0]))).contains("major version 2"));
    assert!(malformed(&record(22, 0x0301, &[])).contains("empty"));
    assert_eq!(read(&[22, 3, 1, 0x40, 0]), Progress::Incomplete);
    assert!(malformed(&[22, 3, 1, 0x40, 1]).contains("16385"));
}

#[test]
fn only_a_client_hello_is_a_client_hello() {
    assert!(malformed(&[22, 3, 1, 0, 50, 2]).contains("type 2"));
    assert!(malformed(&record(22, 0x0301, &handshake(1, &[]))).contains("longer"));
    let alert = malformed(&record(21, 0x0301, &[2, 40]));
    assert!(alert.contains("handshake_failure"), "{alert}");
    assert!(malformed(&record(23, 0x0303, &[0; 20])).contains("type 23"));
}

#[test]
fn sslv2_hellos_are_named() {
    // A two-byte header, then one of three bytes; version 2, cipher list, no session, challenge.
    let body = [1, 0, 2, 0, 3, 0, 0, 0, 16, 1, 0, 128];
    let challenge = [9; 16];
    let long = [&[0x80, 28][..], &body, &challenge].concat();
    let padded = [&[0x00, 28, 0][..], &body, &challenge].concat();
    let for_tls10 = [&[0x80, 28, 1, 3, 1][..], &body[3..], &challenge].concat();
    for bytes in [long, padded, for_tls10] {
        let refusal = refused(&bytes);
        assert_eq!(refusal.reason, Reason::Sslv2Hello);
        assert_eq!(refusal.first_bytes, bytes[..16]);
        assert_eq!(refusal.facts, None);
    }
}

#[test]
fn what_is_not_tls_is_refused_at_once_with_its_first_bytes() {
    let cases: [&[u8]; 9] = [
        b"GET / HTTP/1.1\r\nHost: device.example.com\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x10\x18\x00\x04MQTT\x04\x02\x00\x3c\x00\x0cdevice",
        b"\r\n\r\n",
        b"\x00\x00\x00\x00\x00\x00",
        b"\x03\x00\x00\x13\x0e\xe0\x00\x00",
        b"\xff\xff\xff",
        b"\x16\xfe\xfd\x00",
        b"EHLO x",
    ];
    for bytes in cases {
        let refusal = refused(bytes);
        assert_eq!(refusal.reason, Reason::NotTls, "{bytes:02x?}");
        assert_eq!(refusal.first_bytes, bytes[..bytes.len().min(16)]);
    }
    assert_eq!(refused(b"G").first_bytes, b"G");
}

#[test]
fn no_name_is_missing() {
    let cases = [Builder::tls13(NAME).without(SNI).bytes(), named(list16(&[])), named(Vec::new())];
    for bytes in cases {
        assert_eq!(refused_with_facts(&bytes).0, Reason::NameMissing);
    }
}

#[test]
fn more_than_one_name_is_ambiguous() {
    let one = NAME.as_bytes();
    let twice = Builder::tls13(NAME).with(SNI, sni(b"other.example.com")).bytes();
    let cases = [
        named(sni_entries(&[(0, one), (0, b"other.example.com")])),
        named(sni_entries(&[(0, one), (0, one)])),
        twice,
        Builder::tls13(NAME).with(SNI, Vec::new()).bytes(),
    ];
    for bytes in cases {
        assert_eq!(refused_with_facts(&bytes).0, Reason::NameAmbiguous);
    }
}

#[test]
fn a_list_of_names_that_cannot_be_read_is_malformed() {
    let one = NAME.as_bytes();
    let cases = [
        named(sni_entries(&[(1, one)])),
        named(sni_entries(&[(1, one), (0, one)])),
        named(sni_entries(&[(0, one), (1, one)])),
        named([sni(one), vec![0]].concat()),
        named(list16(&[0, 0])),
        named(list16(&[0, 0, 9, b'a'])),
        named(vec![0]),
        named(vec![0, 9, 0, 0, 1, b'a']),
    ];
    for bytes in cases {
        assert_eq!(refused_with_facts(&bytes).0, Reason::HelloMalformed);
    }
}

#[test]
fn a_duplicate_extension_is_malformed() {
    for kind in [ALPN, 0x7777, 0x0a0a] {
        let hello = Builder::tls12(NAME).with(kind, Vec::new()).with(kind, vec![1]);
        let detail = malformed(&hello.bytes());
        assert!(detail.contains(&format!("0x{kind:04x} comes twice")), "{detail}");
    }
}

#[test]
fn what_is_no_host_name_is_malformed_and_shown_safely() {
    let long_label = [b'a'; 64];
    let long_name = b"a.".repeat(150);
    let cases: [(&[u8], &str); 12] = [
        (b"", "empty"),
        (b".", "empty"),
        (b"a\0b.example", r"a\x00b.example"),
        (b"a\x1b[2Jb.example", r"a\x1b[2Jb"),
        ("gerät.example".as_bytes(), r"ger\xc3\xa4t"),
        (b"a..example", "empty label"),
        (b".example", "empty label"),
        (b"under_score.example", "0x5f"),
        (b"device.example:8883", "0x3a"),
        (b"10.0.0.300", "number"),
        (&long_label, "64"),
        (&long_name, "299"),
    ];
    for (name, words) in cases {
        let (reason, detail) = refused_with_facts(&named(sni(name)));
        assert_eq!(reason, Reason::NameMalformed, "{detail}");
        assert!(detail.contains(words), "{detail}");
        assert!(detail.chars().all(|char| !char.is_control()), "{detail}");
    }
}

#[test]
fn underscores_are_allowed_where_the_site_says_so() {
    let bytes = Builder::tls13("press_3.example.com").bytes();
    let options = HelloOptions { underscore: Underscore::Allow };
    let Progress::Hello(hello) = HelloReader::with_options(options).push(&bytes) else {
        panic!("refused");
    };
    assert_eq!(hello.name.as_str(), "press_3.example.com");
    assert_eq!(refused(&bytes).reason, Reason::NameMalformed);
}

#[test]
fn an_address_is_not_a_name() {
    for address in ["10.0.0.1", "10.0.0.1.", "2001:db8::1", "[2001:db8::1]", "::ffff:10.0.0.1"] {
        let (reason, detail) = refused_with_facts(&Builder::tls13(address).bytes());
        assert_eq!(reason, Reason::NameIsAddress);
        assert!(detail.contains(address), "{detail}");
    }
}

#[test]
fn a_name_in_another_form_is_made_canonical_and_noted() {
    for sent in ["Device.EXAMPLE.com", "device.example.com."] {
        let hello = accepted(&Builder::tls13(sent).bytes());
        assert_eq!(hello.name.as_str(), NAME);
        let note = format!("name was not in canonical form (as sent: {sent})");
        assert_eq!(hello.facts.notes, [note]);
    }
}

#[test]
fn grease_is_ignored_everywhere() {
    let plain = Builder::tls13(NAME);
    let mut greased = plain
        .clone()
        .replacing(VERSIONS, list8(&numbers(&[0x6a6a, 0x0304, 0x0303])))
        .replacing(ALPN, alpn(&[&[0x2a, 0x2a], b"x-amzn-mqtt-ca", b"http/1.1"]))
        .replacing(SIGNATURE_ALGORITHMS, list16(&numbers(&[0x4a4a, 0x0403, 0x0804, 0x0401])))
        .with(0xfafa, vec![0]);
    greased.ciphers.insert(0, 0x8a8a);
    greased.extensions.get_or_insert_default().insert(0, (0x1a1a, Vec::new()));
    let (plain, greased) = (accepted(&plain.bytes()), accepted(&greased.bytes()));
    assert_eq!(greased.name, plain.name);
    let bytes = greased.facts.bytes;
    assert_eq!(greased.facts, HelloFacts { bytes, ..plain.facts });
}

#[test]
fn ech_is_flagged_and_the_outer_name_read() {
    let hello = accepted(&Builder::tls13(NAME).with(0xfe0d, vec![0; 120]).bytes());
    assert!(hello.facts.ech);
    assert_eq!((hello.name.as_str(), hello.facts.notes.len()), (NAME, 0));
    for (kind, word) in [(0xff02, "ECH"), (0xffce, "ESNI")] {
        let hello = accepted(&Builder::tls13(NAME).with(kind, vec![0; 12]).bytes());
        assert!(!hello.facts.ech);
        assert!(hello.facts.notes[0].contains(word), "{:?}", hello.facts.notes);
    }
}

#[test]
fn bytes_behind_the_hello_are_kept_and_counted() {
    let hello = Builder::tls13(NAME).with(42, Vec::new()).with(PSK, vec![0; 40]).bytes();
    let early_data = record(23, 0x0303, &[1; 200]);
    let bytes = [&hello[..], &record(20, 0x0303, &[1]), &early_data].concat();
    let mut reader = HelloReader::new();
    let Progress::Hello(read) = reader.push(&bytes) else { panic!("refused") };
    assert_eq!(read.facts.trailing_bytes, 6 + early_data.len());
    assert_eq!(read.facts.bytes, hello.len());
    assert_eq!(reader.raw(), bytes);
    // What follows is not for the reader to judge.
    assert_eq!(accepted(&[&hello[..], b"\0"].concat()).facts.trailing_bytes, 1);
    let second = [&hello[..], &record(22, 0x0301, &handshake(1, &[]))].concat();
    assert_eq!(accepted(&second).facts.trailing_bytes, 9);
}

#[test]
fn a_second_message_in_the_record_of_the_hello_is_malformed() {
    let hello = Builder::tls13(NAME);
    let bytes = record(22, 0x0301, &[hello.message(), handshake(11, &[0; 3])].concat());
    let refusal = refused(&bytes);
    assert_eq!(refusal.reason, Reason::HelloMalformed);
    assert!(refusal.detail.contains("7 bytes follow"), "{}", refusal.detail);
    assert_eq!(refusal.facts.unwrap().versions[..], [0x0304, 0x0303]);
    // The same before the message has arrived: its record announces it.
    assert_eq!(refused(&bytes[..bytes.len() - 7]).reason, Reason::HelloMalformed);
}

#[test]
fn a_cut_or_overlong_structure_is_malformed() {
    let good = Builder::tls13(NAME).message();
    for length in 0..good.len() - 4 {
        // From the end of the compression methods on, the hello of an old client may just end.
        let old_end = 2 + 32 + 33 + 8 + 2;
        let bytes = record(22, 0x0301, &handshake(1, &good[4..4 + length]));
        let expected = if length == old_end { Reason::NameMissing } else { Reason::HelloMalformed };
        assert_eq!(refused(&bytes).reason, expected, "body of {length} bytes");
    }
    let longer = handshake(1, &[&good[4..], &[0]].concat());
    assert!(malformed(&record(22, 0x0301, &longer)).contains("follow the extensions"));
    let odd = [&good[4..4 + 67], &list16(&[0x13, 0x01, 0x13]), &list8(&[0])].concat();
    assert!(malformed(&record(22, 0x0301, &handshake(1, &odd))).contains("odd length"));
    let strange = Builder { legacy_version: 0x0403, ..Builder::tls13(NAME) };
    assert!(malformed(&strange.bytes()).contains("0x0403"));
}

#[test]
fn what_the_reader_does_not_need_cannot_refuse_a_hello() {
    let hello = Builder::tls13(NAME);
    let cases = [
        (hello.clone().replacing(ALPN, vec![0, 9, 1]), "alpn"),
        (hello.clone().replacing(ALPN, list16(&[])), "alpn"),
        (hello.clone().replacing(ALPN, alpn(&[b""])), "alpn"),
        (hello.clone().replacing(ALPN, [alpn(&[b"h2"]), vec![0]].concat()), "alpn"),
        (hello.clone().replacing(VERSIONS, vec![3, 3, 4, 3]), "supported_versions"),
        (hello.clone().replacing(VERSIONS, vec![]), "supported_versions"),
        (hello.clone().replacing(VERSIONS, vec![0]), "supported_versions"),
        (hello.clone().replacing(VERSIONS, vec![2, 3, 4, 0]), "supported_versions"),
        (hello.clone().replacing(SIGNATURE_ALGORITHMS, vec![1]), "signature_algorithms"),
        (Builder { session_id: vec![1; 40], ..hello.clone() }, "session id"),
    ];
    for (hello, word) in cases {
        let notes = accepted(&hello.bytes()).facts.notes;
        assert!(notes.len() == 1 && notes[0].contains(word), "{word}: {notes:?}");
    }
    let quiet = [
        hello.clone().replacing(GROUPS, vec![1, 2, 3]),
        hello.clone().replacing(KEY_SHARE, Vec::new()),
        hello.clone().with(PSK, vec![0xff]).with(0x4444, vec![]),
        Builder { compression: Vec::new(), ..hello.clone() },
        Builder { compression: vec![1, 2], ciphers: Vec::new(), ..hello },
    ];
    for hello in quiet {
        assert_eq!(accepted(&hello.bytes()).facts.notes, Vec::<String>::new());
    }
}

#[test]
fn a_flood_of_alpn_names_is_not_kept() {
    let names: Vec<u8> = [1, b'x'].repeat(20_000);
    let facts = accepted(&Builder::tls13(NAME).replacing(ALPN, list16(&names)).bytes()).facts;
    assert_eq!(facts.alpn.len(), 16);
    assert_eq!(facts.notes, ["20000 ALPN names, the first 16 kept"]);
}

#[test]
fn silence_and_half_hellos_say_how_far_they_came() {
    let stop = |bytes: &[u8], stopped| -> Refusal {
        let mut reader = HelloReader::new();
        assert_eq!(reader.push(bytes), Progress::Incomplete);
        reader.stop(stopped)
    };
    let hello = Builder::tls13(NAME).bytes();
    let all = hello.len() - 5;
    let half = stop(&hello[..105], Stopped::Deadline);
    assert_eq!(half.reason, Reason::HelloTimeout);
    assert_eq!(half.detail, format!("100 of {all} bytes of the ClientHello had arrived"));
    assert_eq!(stop(&hello[..105], Stopped::Closed).reason, Reason::HelloCut);
    let nothing = stop(b"", Stopped::Deadline);
    assert_eq!(nothing.reason, Reason::HelloTimeout);
    assert_eq!(nothing.detail, "the device sent nothing");
    assert_eq!(stop(b"\x16", Stopped::Closed).reason, Reason::HelloCut);
    let other = stop(b"\x10\x20", Stopped::Deadline);
    assert_eq!(other.reason, Reason::NotTls);
    assert_eq!(other.first_bytes, b"\x10\x20");
}

#[test]
fn the_record_version_is_known_without_a_hello() {
    let version = |bytes: &[u8]| {
        let mut reader = HelloReader::new();
        reader.push(bytes);
        reader.record_version()
    };
    assert_eq!(version(b"\x16\x03\x02\x00"), Some(0x0302));
    assert_eq!(version(b"\x15\x03\x01\x00\x02\x02\x28"), Some(0x0301));
    assert_eq!(version(b"\x16\x03"), None);
    assert_eq!(version(b"GET / HTTP"), None);
}
