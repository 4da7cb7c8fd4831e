//! JA4, the fingerprint of a TLS client.
//!
//! Two devices with the same TLS stack have the same fingerprint, so a record tells a PLC from a
//! laptop that took its address. It is recorded, never judged by: a client can choose its own.
//!
//! JA4 for TLS clients is by FoxIO and free under the BSD 3-Clause License; the notice is in the
//! file NOTICE at the root of the repository. The other methods of the JA4+ family are not free and
//! must not be added here.

use sha2::{Digest, Sha256};

use super::client_hello::{ALPN, SERVER_NAME, is_grease};

/// What goes into the fingerprint; GREASE may still be in the lists of ciphers and extensions.
#[derive(Clone, Debug)]
pub(super) struct Fingerprinted<'a> {
    pub(super) version: u16,
    pub(super) ciphers: &'a [u16],
    /// Types, in the client's order.
    pub(super) extensions: Vec<u16>,
    /// The first protocol name offered.
    pub(super) alpn: Option<&'a [u8]>,
    /// In the client's order.
    pub(super) signature_algorithms: Vec<u16>,
}

/// The three parts, joined by `_`.
pub(super) fn fingerprint(hello: &Fingerprinted<'_>) -> String {
    let ciphers = sorted(hello.ciphers);
    let mut extensions = sorted(&hello.extensions);
    let named = if extensions.contains(&SERVER_NAME) { 'd' } else { 'i' };
    let offered = extensions.len();
    extensions.retain(|kind| ![SERVER_NAME, ALPN].contains(kind));
    let mut text = String::with_capacity(LENGTH);
    text.push('t');
    text.push_str(version(hello.version));
    text.push(named);
    for count in [ciphers.len(), offered] {
        push_count(&mut text, count);
    }
    text.extend(alpn_ends(hello.alpn));
    // One buffer for both lists: this runs for every flow.
    let mut list = Vec::with_capacity(5 * (ciphers.len().max(extensions.len()) + 32));
    push_hash(&mut text, &mut list, &ciphers, &[]);
    push_hash(&mut text, &mut list, &extensions, &hello.signature_algorithms);
    text
}

fn sorted(values: &[u16]) -> Vec<u16> {
    let mut values: Vec<u16> = values.iter().copied().filter(|value| !is_grease(*value)).collect();
    values.sort_unstable();
    values
}

fn version(version: u16) -> &'static str {
    match version {
        0x0304 => "13",
        0x0303 => "12",
        0x0302 => "11",
        0x0301 => "10",
        0x0300 => "s3",
        _ => "00",
    }
}

/// First and last character of the protocol name; of its hexadecimal form when one of them is not a
/// letter or digit.
fn alpn_ends(alpn: Option<&[u8]>) -> [char; 2] {
    let Some((first, last)) = alpn.and_then(|name| name.first().zip(name.last())) else {
        return ['0', '0'];
    };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        return [char::from(*first), char::from(*last)];
    }
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    [digit(first >> 4), digit(last & 0x0f)]
}

/// Two digits, at most 99.
fn push_count(text: &mut String, count: usize) {
    let count = u8::try_from(count.min(99)).unwrap_or(99);
    text.extend([count / 10, count % 10].map(|digit| char::from(b'0' + digit)));
}

/// An underscore and the first twelve digits of SHA-256 over the values, and the ordered ones behind
/// an underscore; zeros when there are no values.
fn push_hash(text: &mut String, list: &mut Vec<u8>, values: &[u16], ordered: &[u16]) {
    text.push('_');
    if values.is_empty() {
        text.push_str("000000000000");
        return;
    }
    list.clear();
    push_list(list, values);
    if !ordered.is_empty() {
        list.push(b'_');
        push_list(list, ordered);
    }
    for byte in Sha256::digest(&list).iter().take(6) {
        text.extend(digits(*byte).map(char::from));
    }
}

/// The values in hexadecimal, joined by commas.
fn push_list(list: &mut Vec<u8>, values: &[u16]) {
    for (place, value) in values.iter().enumerate() {
        if place > 0 {
            list.push(b',');
        }
        let [high, low] = value.to_be_bytes();
        list.extend(digits(high));
        list.extend(digits(low));
    }
}

/// A byte in lower-case hexadecimal.
fn digits(byte: u8) -> [u8; 2] {
    [byte >> 4, byte & 0x0f].map(|nibble| match nibble {
        0..10 => b'0' + nibble,
        _ => b'a' + (nibble - 10),
    })
}

/// `t13d1516h2_8daaf6152771_e5627efa2ab1`
const LENGTH: usize = 36;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_the_protocol_name() {
        let cases: [(Option<&[u8]>, [char; 2]); 8] = [
            (None, ['0', '0']),
            (Some(b""), ['0', '0']),
            (Some(b"h2"), ['h', '2']),
            (Some(b"http/1.1"), ['h', '1']),
            (Some(b"x"), ['x', 'x']),
            (Some(&[0xab]), ['a', 'b']),
            (Some(&[0xab, 0xcd]), ['a', 'd']),
            (Some(&[0x30, 0xab]), ['3', 'b']),
        ];
        for (alpn, expected) in cases {
            assert_eq!(alpn_ends(alpn), expected, "{alpn:02x?}");
        }
    }

    #[test]
    fn counts_stop_at_99_and_empty_lists_are_zeros() {
        let many: Vec<u16> = (0..120).collect();
        let mut hello = Fingerprinted {
            version: 0x0300,
            ciphers: &many,
            extensions: (1..=100).collect(),
            alpn: None,
            signature_algorithms: Vec::new(),
        };
        assert!(fingerprint(&hello).starts_with("ts3i999900_"));
        hello.ciphers = &[0x1a1a];
        hello.extensions.clear();
        hello.version = 0x7f1c;
        assert_eq!(fingerprint(&hello), "t00i000000_000000000000_000000000000");
    }
}
