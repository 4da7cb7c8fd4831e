//! The one canonical form of a DNS host name.
//!
//! Owns [`ServerName`], which configuration, hello, policy, DNS and records share. A name is made in
//! one place, [`ServerName::parse`], so that two spellings of one name can never be judged differently:
//! it is lower case, has no trailing dot, holds only letters, digits, hyphens and dots (underscores
//! where asked for), and is never an address literal.

use std::borrow::Borrow;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// A host name in canonical form (RFC 1123 section 2.1, RFC 6066 section 3).
///
/// Cheap to clone: the text is shared.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerName(Arc<str>);

/// Whether `_` may stand in a label. Host names do not have it (RFC 1123); some plants' own do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Underscore {
    /// `_` makes a name malformed.
    #[default]
    Refuse,
    /// `_` counts as a letter.
    Allow,
}

/// Why bytes are not a host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No bytes, or only a dot.
    #[error("the name is empty")]
    Empty,
    /// More than 253 bytes (RFC 1035 section 3.1, in presentation form).
    #[error("the name has {0} bytes; at most 253 are allowed")]
    TooLong(usize),
    /// Two dots in a row, or a leading dot.
    #[error("the name has an empty label")]
    EmptyLabel,
    /// A label of more than 63 bytes (RFC 1035 section 2.3.4).
    #[error("the name has a label of {0} bytes; at most 63 are allowed")]
    LabelTooLong(usize),
    /// A byte that no host name has: control characters, NUL, non-ASCII, punctuation.
    #[error("the name has the byte 0x{0:02x}, which no host name has")]
    BadByte(u8),
    /// A label begins or ends with a hyphen (RFC 952).
    #[error("the name has a label that begins or ends with a hyphen")]
    Hyphen,
    /// The last label is a number, decimal or `0x…` hexadecimal (RFC 1123 section 2.1): such a name
    /// is a mistyped address, and some resolvers read it as one.
    #[error("the last label of the name is a number, as in an address")]
    NumericEnd,
    /// An IPv4 or IPv6 literal (RFC 6066 section 3 forbids them in SNI).
    #[error("the name is an IP address, not a host name")]
    IsAddress,
}

/// A canonical name, and whether the input was already canonical.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The canonical name.
    pub name: ServerName,
    /// The input had upper-case letters or a trailing dot.
    pub rewritten: bool,
}

impl ServerName {
    /// Reads a name from wire or configuration bytes.
    ///
    /// # Errors
    /// A [`NameError`] that says which rule the bytes break.
    pub fn parse(bytes: &[u8], underscore: Underscore) -> Result<Parsed, NameError> {
        let bare = bytes.strip_suffix(b".").unwrap_or(bytes);
        if bare.is_empty() {
            return Err(NameError::Empty);
        }
        let text = std::str::from_utf8(bare).unwrap_or_default();
        let literal = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        if literal.parse::<Ipv4Addr>().is_ok() || literal.parse::<Ipv6Addr>().is_ok() {
            return Err(NameError::IsAddress);
        }
        if let Some(bad) = bare.iter().copied().find(|b| !allowed(*b, underscore)) {
            return Err(NameError::BadByte(bad));
        }
        if bare.len() > MAX_NAME {
            return Err(NameError::TooLong(bare.len()));
        }
        for label in bare.split(|b| *b == b'.') {
            if label.is_empty() {
                return Err(NameError::EmptyLabel);
            }
            if label.len() > MAX_LABEL {
                return Err(NameError::LabelTooLong(label.len()));
            }
            if label.starts_with(b"-") || label.ends_with(b"-") {
                return Err(NameError::Hyphen);
            }
        }
        if bare.rsplit(|b| *b == b'.').next().is_some_and(is_number) {
            return Err(NameError::NumericEnd);
        }
        // Every byte is allowed, hence ASCII, hence `text` is all of them.
        let upper = bare.iter().any(u8::is_ascii_uppercase);
        let name = if upper { Arc::from(text.to_ascii_lowercase()) } else { Arc::from(text) };
        Ok(Parsed { name: Self(name), rewritten: upper || bare.len() != bytes.len() })
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The labels, leftmost first.
    pub fn labels(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('.')
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerName({})", self.0)
    }
}

impl Borrow<str> for ServerName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for ServerName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl std::str::FromStr for ServerName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text.as_bytes(), Underscore::Refuse).map(|parsed| parsed.name)
    }
}

/// RFC 1035 section 3.1: 255 octets on the wire, which is 253 in presentation form.
const MAX_NAME: usize = 253;
/// RFC 1035 section 2.3.4.
const MAX_LABEL: usize = 63;

fn allowed(byte: u8, underscore: Underscore) -> bool {
    byte.is_ascii_alphanumeric()
        || byte == b'-'
        || byte == b'.'
        || (byte == b'_' && underscore == Underscore::Allow)
}

fn is_number(label: &[u8]) -> bool {
    match label {
        [b'0', b'x' | b'X', digits @ ..] => digits.iter().all(u8::is_ascii_hexdigit),
        digits => digits.iter().all(u8::is_ascii_digit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &[u8]) -> Result<Parsed, NameError> {
        ServerName::parse(text, Underscore::Refuse)
    }

    #[test]
    fn one_name_has_one_form() {
        let plain = parse(b"s3.eu-central-1.amazonaws.com").expect("a plain name");
        assert!(!plain.rewritten);
        for other in [&b"S3.EU-central-1.amazonaws.COM"[..], b"s3.eu-central-1.amazonaws.com."] {
            let parsed = parse(other).expect("the same name");
            assert_eq!(parsed.name, plain.name);
            assert!(parsed.rewritten);
        }
    }

    #[test]
    fn every_rule_has_its_own_error() {
        let long_label = [b'a'; 64];
        let long_name = [b"a.".repeat(127).as_slice(), b"a"].concat();
        let cases: [(&[u8], NameError); 17] = [
            (b"", NameError::Empty),
            (b".", NameError::Empty),
            (b".a", NameError::EmptyLabel),
            (b"a..b", NameError::EmptyLabel),
            (b"a..", NameError::EmptyLabel),
            (b"a\0b", NameError::BadByte(0)),
            (b"a_b", NameError::BadByte(b'_')),
            ("ä.example".as_bytes(), NameError::BadByte(0xc3)),
            (b"-a.example", NameError::Hyphen),
            (b"10.0.0.1", NameError::IsAddress),
            (b"10.0.0.1.", NameError::IsAddress),
            (b"[2001:db8::1]", NameError::IsAddress),
            (b"10.0.0.256", NameError::NumericEnd),
            (b"127.1", NameError::NumericEnd),
            (b"host.0x7F", NameError::NumericEnd),
            (b"host.0x", NameError::NumericEnd),
            (&long_label, NameError::LabelTooLong(64)),
        ];
        for (input, expected) in cases {
            assert_eq!(parse(input), Err(expected), "{input:?}");
        }
        assert_eq!(parse(&long_name), Err(NameError::TooLong(255)));
        assert!(ServerName::parse(b"a_b.example", Underscore::Allow).is_ok());
        for fine in [&b"1.example"[..], b"10.0.0.1a", b"host.0xyz", b"localhost", b"1a"] {
            assert!(parse(fine).is_ok(), "{fine:?}");
        }
    }
}
