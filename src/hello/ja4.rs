//! JA4, the fingerprint of a TLS client.
//!
//! Two devices with the same TLS stack have the same fingerprint, so a record tells a PLC from a
//! laptop that took its address. It is recorded, never judged by: a client can choose its own.
//!
//! JA4 for TLS clients is by FoxIO and free under the BSD 3-Clause License; the notice is in the
//! file NOTICE at the root of the repository. The other methods of the JA4+ family are not free and
//! must not be added here.

use std::fmt;

use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use super::client_hello::{ALPN, SERVER_NAME, is_grease};

/// What JA4 is computed over, and nothing else: hellos that agree in it have the same fingerprint.
///
/// Made without an allocation for hellos of the usual size. The digests are left to
/// [`ClientTraits::ja4`], because most hellos are those of a client that was seen before.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientTraits {
    /// The version, the ends of the first ALPN name, and how many of the values behind are ciphers
    /// and how many extensions; ciphers in the client's order, extensions sorted, signature
    /// algorithms in the client's order; without GREASE.
    values: SmallVec<[u16; INLINE]>,
}

impl ClientTraits {
    /// Takes the highest version, the first ALPN name, and three lists, of which the first two may
    /// have GREASE in them. `extensions` is sorted.
    pub(crate) fn new(
        version: u16,
        alpn: Option<&[u8]>,
        ciphers: impl Iterator<Item = u16>,
        extensions: &[u16],
        signature_algorithms: impl Iterator<Item = u16>,
    ) -> Self {
        let mut values =
            SmallVec::from_slice(&[version, u16::from_be_bytes(alpn_ends(alpn)), 0, 0]);
        values.extend(ciphers.filter(|value| !is_grease(*value)));
        let ciphers = values.len() - HEAD;
        values.extend(extensions.iter().copied().filter(|value| !is_grease(*value)));
        let extensions = values.len() - HEAD - ciphers;
        values.extend(signature_algorithms);
        if let [_, _, first, second, ..] = values.as_mut_slice() {
            // A hello has no room for more than 65,535 of either.
            *first = u16::try_from(ciphers).unwrap_or(u16::MAX);
            *second = u16::try_from(extensions).unwrap_or(u16::MAX);
        }
        Self { values }
    }

    /// Of a client that offers these cipher suites and says nothing else.
    #[cfg(test)]
    pub(crate) fn offering(ciphers: &[u16]) -> Self {
        Self::new(0, None, ciphers.iter().copied(), &[], std::iter::empty())
    }

    /// The cipher suites in the client's order, GREASE left out.
    pub fn ciphers(&self) -> &[u16] {
        let count = self.values.get(HEAD - 2).copied().unwrap_or_default();
        self.values.get(HEAD..HEAD + usize::from(count)).unwrap_or_default()
    }

    /// How many values they are.
    pub(crate) fn count(&self) -> usize {
        self.values.len()
    }

    /// The fingerprint: two digests, so ask once per client.
    pub fn ja4(&self) -> Ja4 {
        let (head, lists) = self.values.split_first_chunk::<HEAD>().unwrap_or((&[0; HEAD], &[]));
        let [protocol, alpn, ciphers, extensions] = *head;
        let (ciphers, lists) = lists.split_at_checked(ciphers.into()).unwrap_or((lists, &[]));
        let (extensions, ordered) =
            lists.split_at_checked(extensions.into()).unwrap_or((lists, &[]));
        let named = if extensions.contains(&SERVER_NAME) { b'd' } else { b'i' };
        let mut ja4 = Ja4 { text: [b'_'; LENGTH] };
        let [major, minor] = version(protocol);
        let [suites, more_suites] = two_digits(ciphers.len());
        let [offered, more_offered] = two_digits(extensions.len());
        let [first, last] = alpn.to_be_bytes();
        let mut sorted: Vec<u16> = ciphers.to_vec();
        sorted.sort_unstable();
        let mut list = Vec::with_capacity(5 * (lists.len() + ciphers.len()));
        let suites_hash = hash(&mut list, &sorted, &[]);
        sorted.clear();
        sorted.extend(extensions.iter().filter(|kind| ![SERVER_NAME, ALPN].contains(kind)));
        let extensions_hash = hash(&mut list, &sorted, ordered);
        let head =
            [b't', major, minor, named, suites, more_suites, offered, more_offered, first, last];
        let text = head.into_iter().chain(*b"_").chain(suites_hash).chain(*b"_");
        for (slot, byte) in ja4.text.iter_mut().zip(text.chain(extensions_hash)) {
            *slot = byte;
        }
        ja4
    }
}

/// The traits of a hello that offers nothing.
impl Default for ClientTraits {
    fn default() -> Self {
        Self::new(0, None, std::iter::empty(), &[], std::iter::empty())
    }
}

/// A JA4 fingerprint, `t13d1516h2_8daaf6152771_e5627efa2ab1`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ja4 {
    /// ASCII.
    text: [u8; LENGTH],
}

impl Ja4 {
    /// Its text, the three parts joined by `_`.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text).unwrap_or_default()
    }
}

impl fmt::Display for Ja4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Ja4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn version(version: u16) -> [u8; 2] {
    *match version {
        0x0304 => b"13",
        0x0303 => b"12",
        0x0302 => b"11",
        0x0301 => b"10",
        0x0300 => b"s3",
        _ => b"00",
    }
}

/// First and last character of the protocol name; of its hexadecimal form when one of them is not a
/// letter or digit.
fn alpn_ends(alpn: Option<&[u8]>) -> [u8; 2] {
    let Some((first, last)) = alpn.and_then(|name| name.first().zip(name.last())) else {
        return *b"00";
    };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        return [*first, *last];
    }
    let ([high, _], [_, low]) = (digits(*first), digits(*last));
    [high, low]
}

/// Two digits, at most 99.
fn two_digits(count: usize) -> [u8; 2] {
    let count = u8::try_from(count.min(99)).unwrap_or(99);
    [count / 10, count % 10].map(|digit| b'0' + digit)
}

/// The first twelve digits of SHA-256 over the values, and the ordered ones behind an underscore;
/// zeros when there are no values. `list` is room to write them.
fn hash(list: &mut Vec<u8>, values: &[u16], ordered: &[u16]) -> [u8; 12] {
    let mut text = [b'0'; 12];
    if values.is_empty() {
        return text;
    }
    list.clear();
    push_list(list, values);
    if !ordered.is_empty() {
        list.push(b'_');
        push_list(list, ordered);
    }
    let digest = Sha256::digest(&list);
    for (slot, digit) in text.iter_mut().zip(digest.iter().flat_map(|byte| digits(*byte))) {
        *slot = digit;
    }
    text
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

const LENGTH: usize = 36;
/// Values in front of the lists.
const HEAD: usize = 4;
/// Room for the traits of real clients: OpenSSL 1.0, with the longest lists of all, has about 90.
const INLINE: usize = 96;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_the_protocol_name() {
        let cases: [(Option<&[u8]>, &[u8; 2]); 8] = [
            (None, b"00"),
            (Some(b""), b"00"),
            (Some(b"h2"), b"h2"),
            (Some(b"http/1.1"), b"h1"),
            (Some(b"x"), b"xx"),
            (Some(&[0xab]), b"ab"),
            (Some(&[0xab, 0xcd]), b"ad"),
            (Some(&[0x30, 0xab]), b"3b"),
        ];
        for (alpn, expected) in cases {
            assert_eq!(alpn_ends(alpn), *expected, "{alpn:02x?}");
        }
    }

    #[test]
    fn counts_stop_at_99_and_empty_lists_are_zeros() {
        let extensions: Vec<u16> = (1..=100).collect();
        let none = || std::iter::empty();
        let many = ClientTraits::new(0x0300, None, 0..120, &extensions, none());
        assert!(many.ja4().as_str().starts_with("ts3i999900_"));
        let greased = ClientTraits::new(0x7f1c, None, [0x1a1a].into_iter(), &[], none());
        assert_eq!(greased.ja4().as_str(), "t00i000000_000000000000_000000000000");
        assert_eq!(ClientTraits::default().ja4(), greased.ja4());
    }

    #[test]
    fn whatever_changes_the_fingerprint_changes_the_traits() {
        let new = |alpn: &[u8], ciphers: &[u16], extensions: &[u16], algorithms: &[u16]| {
            let (ciphers, algorithms) = (ciphers.iter().copied(), algorithms.iter().copied());
            ClientTraits::new(0x0303, Some(alpn), ciphers, extensions, algorithms)
        };
        let plain = new(b"h2", &[1, 2], &[0, 13], &[7, 8]);
        // The same values, told apart by the list they stand in, by order, or by what is counted.
        for other in [
            new(b"h1", &[1, 2], &[0, 13], &[7, 8]),
            new(b"h2", &[1, 2, 3], &[13], &[7, 8]),
            new(b"h2", &[1], &[0, 2, 13], &[7, 8]),
            new(b"h2", &[1, 2], &[0, 7, 13], &[8]),
            new(b"h2", &[1, 2], &[1, 13], &[7, 8]),
            new(b"h2", &[1, 2], &[0, 13], &[8, 7]),
            new(b"h2", &[1, 2], &[0, 13], &[]),
        ] {
            assert_ne!(plain, other);
            assert_ne!(plain.ja4(), other.ja4());
        }
        let greased = new(b"h2", &[0x0a0a, 1, 2], &[0, 13, 0x1a1a], &[7, 8]);
        assert_eq!(plain, greased);
    }
}
