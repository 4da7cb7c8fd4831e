//! The reader against the one of rustls: what a real server accepts with a name, the gate accepts
//! with the same name, or else the two could disagree on where a flow belongs.
//!
//! The other way round the gate reads more than rustls does, on purpose: hellos of old devices that
//! have no signature algorithms, or odd content in fields that the gate does not need.

use std::sync::Arc;

use proptest::prelude::*;
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion, version};
use sluicegate::hello::Progress;

use crate::client_hello::{
    ALPN, Builder, KEY_SHARE, PADDING, SNI, list16, record, sni, sni_entries,
};
use crate::rustls_oracle::{STRICTER, disagreement, ours, rustls_name};

/// The hello of a rustls client.
fn rustls_hello(
    name: &str,
    versions: &[&'static SupportedProtocolVersion],
    alpn: &[&str],
) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = name.to_owned().try_into().unwrap();
    let mut bytes = Vec::new();
    ClientConnection::new(Arc::new(config), name).unwrap().write_tls(&mut bytes).unwrap();
    bytes
}

fn rustls_hellos() -> Vec<Vec<u8>> {
    let name = "a1b2c3d4e5f6g7-ats.iot.eu-central-1.amazonaws.com";
    vec![
        rustls_hello(name, &[&version::TLS13, &version::TLS12], &[]),
        rustls_hello(name, &[&version::TLS13], &["h2", "http/1.1"]),
        rustls_hello("device.example.com", &[&version::TLS12], &["x-amzn-mqtt-ca"]),
    ]
}

#[test]
fn hellos_of_rustls_are_read_alike() {
    for bytes in rustls_hellos() {
        let theirs = rustls_name(&bytes).expect("rustls reads its own hello");
        let Progress::Hello(hello) = ours(&bytes) else { panic!("refused") };
        assert_eq!(hello.name.as_str(), theirs);
        assert_eq!((hello.facts.trailing_bytes, hello.facts.notes.len()), (0, 0));
    }
    let post_quantum = &rustls_hellos()[0];
    assert!(post_quantum.len() > 1_300, "the hello offers X25519MLKEM768");
    let Progress::Hello(hello) = ours(post_quantum) else { panic!("refused") };
    assert_eq!(hello.facts.versions[..], [0x0304, 0x0303]);
    assert!(hello.facts.ja4().as_str().starts_with("t13d"), "{}", hello.facts.ja4());

    let address = rustls_hello("10.0.0.1", &[&version::TLS13], &[]);
    let Progress::Refused(refusal) = ours(&address) else { panic!("accepted") };
    assert_eq!(refusal.reason, sluicegate::reason::Reason::NameMissing);
}

#[test]
fn built_hellos_are_accepted_by_both() {
    let hello = Builder::tls13("device.example.com");
    let share = [&[0x11, 0xec][..], &list16(&[5; 1216])].concat();
    let accepted = [
        hello.clone(),
        Builder::tls12("Device.Example.com"),
        Builder::tls12("press_3.example.com"),
        hello.clone().replacing(KEY_SHARE, list16(&share)),
        hello.clone().with(PADDING, vec![0; 40_000]),
        hello.clone().with(0x0a0a, vec![]),
    ];
    for built in accepted {
        for bytes in [built.bytes(), built.in_records(1_000)] {
            assert!(rustls_name(&bytes).is_some());
            assert!(matches!(ours(&bytes), Progress::Hello(_)));
            assert_eq!(disagreement(&bytes), None);
        }
    }
}

#[test]
fn each_difference_is_real() {
    let hello = Builder::tls13("device.example.com");
    let after = sni_entries(&[(0, b"device.example.com"), (1, b"x")]);
    let mut strange = Builder { legacy_version: 0x0403, ..hello.clone() };
    strange.record_version = 0x0301;
    let large = hello.clone().with(PADDING, vec![0; 16_300]);
    let inputs = [
        hello.clone().replacing(SNI, after).bytes(),
        strange.bytes(),
        record(22, 0x0301, &large.message()),
        hello.with(PADDING, vec![0; 3_000]).in_records(20),
    ];
    for (bytes, (words, _)) in inputs.iter().zip(STRICTER) {
        assert_eq!(rustls_name(bytes).as_deref(), Some("device.example.com"), "{words}");
        let Progress::Refused(refusal) = ours(bytes) else { panic!("accepted: {words}") };
        assert!(refusal.detail.contains(words), "{} lacks: {words}", refusal.detail);
    }
}

#[derive(Clone, Debug)]
enum Mutation {
    Set(usize, u8),
    Insert(usize, u8),
    Remove(usize),
    Add(usize, i8),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = 0..2_000_usize;
    prop_oneof![
        (at.clone(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        (at.clone(), any::<u8>()).prop_map(|(at, byte)| Mutation::Insert(at, byte)),
        at.clone().prop_map(Mutation::Remove),
        (at, -3..=3_i8).prop_map(|(at, by)| Mutation::Add(at, by)),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation) {
    let length = bytes.len();
    match *mutation {
        Mutation::Set(at, byte) => bytes[at % length] = byte,
        Mutation::Insert(at, byte) => bytes.insert(at % length, byte),
        Mutation::Remove(at) => drop(bytes.remove(at % length)),
        Mutation::Add(at, by) => bytes[at % length] = bytes[at % length].wrapping_add_signed(by),
    }
}

fn bases() -> Vec<Vec<u8>> {
    let hello = Builder::tls13("device.example.com");
    let built = [
        hello.clone(),
        Builder::tls12("s3.eu-central-1.amazonaws.com"),
        hello.clone().without(ALPN).with(0xfe0d, vec![3; 30]),
    ];
    let cut = [hello.in_records(40), hello.in_records(3)];
    built.iter().map(Builder::bytes).chain(cut).chain(rustls_hellos()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn mutated_hellos_are_read_alike(
        base in prop::sample::select(bases()),
        mutations in prop::collection::vec(mutation(), 0..5),
    ) {
        let mut bytes = base;
        for mutation in &mutations {
            mutate(&mut bytes, mutation);
        }
        prop_assert_eq!(disagreement(&bytes), None);
    }

    #[test]
    fn any_name_is_read_alike(
        name in "[a-zA-Z0-9._-]{0,8}(\\.[a-z0-9x_-]{1,5}){0,3}\\.?",
        prefix in prop::collection::vec(any::<u8>(), 0..3),
        record_size in 30_usize..400,
    ) {
        let hello = Builder::tls12("placeholder.example");
        for name in [name.as_bytes().to_vec(), [&prefix, name.as_bytes()].concat()] {
            let bytes = hello.clone().replacing(SNI, sni(&name)).in_records(record_size);
            prop_assert_eq!(disagreement(&bytes), None);
        }
    }

    #[test]
    fn any_list_of_names_is_read_alike(
        entries in prop::collection::vec((0..3_u8, "[a-z]{1,5}\\.example"), 0..4),
        tail in prop::collection::vec(any::<u8>(), 0..3),
    ) {
        let entries: Vec<(u8, &[u8])> =
            entries.iter().map(|(kind, name)| (*kind, name.as_bytes())).collect();
        let content = [sni_entries(&entries), tail].concat();
        let bytes = Builder::tls13("placeholder.example").replacing(SNI, content).bytes();
        prop_assert_eq!(disagreement(&bytes), None);
    }
}
