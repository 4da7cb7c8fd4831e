//! Hellos as large as those of real clients, with as many suites and extensions.

use crate::client_hello::{
    ALPN, Builder, GROUPS, KEY_SHARE, PADDING, SIGNATURE_ALGORITHMS, VERSIONS, alpn, list8, list16,
    numbers, sni,
};

/// The name in all of them.
pub(crate) const NAME: &str = "a1b2c3d4e5f6g7-ats.iot.eu-central-1.amazonaws.com";

/// 517 bytes in one record: what OpenSSL pads its hellos to.
pub(crate) fn common() -> Vec<u8> {
    named(NAME)
}

/// The same with another name, of at most [`LONGEST`] bytes.
pub(crate) fn named(name: &str) -> Vec<u8> {
    padded(openssl(name, &[0x00, 0x1d], &[9; 32]), 517)
}

/// 1,800 bytes: a hello with a key share for X25519MLKEM768.
pub(crate) fn post_quantum() -> Vec<u8> {
    padded(openssl(NAME, &[0x11, 0xec], &[5; 1_216]), 1_800)
}

/// A message of 2,048 bytes, the largest that may come in records of one byte each, in such records.
pub(crate) fn worst() -> Vec<u8> {
    let hello = openssl(NAME, &[0x00, 0x1d], &[9; 32]);
    let missing = 2_048 - 4 - hello.message().len();
    hello.with(PADDING, vec![0; missing]).in_records(1)
}

/// Bytes of a name that leave room for the padding.
pub(crate) const LONGEST: usize = 200;

/// The hello of OpenSSL 3, up to the padding.
fn openssl(name: &str, group: &[u8; 2], share: &[u8]) -> Builder {
    let suites = (0x1301..=0x1303).chain(0xc023..=0xc030).chain(0xcca8..=0xccaa).chain(0x9c..=0x9f);
    let algorithms: Vec<u16> =
        (0x0403..=0x040b).chain(0x0804..=0x080b).chain(0x0501..=0x0503).collect();
    Builder {
        legacy_version: 0x0303,
        session_id: vec![7; 32],
        ciphers: suites.chain([0x003c, 0x003d, 0x002f, 0x0035, 0x00ff]).collect(),
        ..Builder::bare()
    }
    .with(0, sni(name.as_bytes()))
    .with(POINT_FORMATS, list8(&[0, 1, 2]))
    .with(GROUPS, list16(&numbers(&[0x001d, 0x0017, 0x001e, 0x0019, 0x0018])))
    .with(SESSION_TICKET, Vec::new())
    .with(ALPN, alpn(&[b"x-amzn-mqtt-ca"]))
    .with(ENCRYPT_THEN_MAC, Vec::new())
    .with(EXTENDED_MASTER_SECRET, Vec::new())
    .with(SIGNATURE_ALGORITHMS, list16(&numbers(&algorithms)))
    .with(VERSIONS, list8(&numbers(&[0x0304, 0x0303])))
    .with(PSK_MODES, list8(&[1]))
    .with(KEY_SHARE, list16(&[&group[..], &list16(share)].concat()))
}

/// The hello in one record of exactly `size` bytes.
fn padded(hello: Builder, size: usize) -> Vec<u8> {
    let missing = size - 4 - hello.bytes().len();
    let bytes = hello.with(PADDING, vec![0; missing]).bytes();
    assert_eq!(bytes.len(), size, "one record");
    bytes
}

const POINT_FORMATS: u16 = 11;
const ENCRYPT_THEN_MAC: u16 = 22;
const EXTENDED_MASTER_SECRET: u16 = 23;
const SESSION_TICKET: u16 = 35;
const PSK_MODES: u16 = 45;
