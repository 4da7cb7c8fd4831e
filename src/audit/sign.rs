//! Ed25519 signatures of the log: keys, what a signature covers, and how keys are written down.
//!
//! A signed line ends with `,"key":"<id>","sig":"<base64>"` and the braces that close it. The
//! signature covers a context and the exact bytes of the line up to the comma before `"sig"`, so
//! that no canonical form of JSON is needed; the context keeps a signature of one kind of line from
//! standing under another. Ed25519 is RFC 8032.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// Which kind of line a signature belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Context {
    /// A line of the chain.
    Line,
    /// A line of `manifest.ndjson`.
    Manifest,
    /// A line of `keys.ndjson`.
    Key,
}

impl Context {
    fn prefix(self) -> &'static [u8] {
        match self {
            Self::Line => b"sluicegate line v1\n",
            Self::Manifest => b"sluicegate manifest v1\n",
            Self::Key => b"sluicegate key v1\n",
        }
    }

    /// What stands behind the signature's last quote.
    fn closing(self) -> &'static str {
        match self {
            // The ends of `chain`, `unmapped` and the record.
            Self::Line => "}}}",
            Self::Manifest | Self::Key => "}",
        }
    }

    fn message(self, signed: &[u8]) -> Vec<u8> {
        [self.prefix(), signed].concat()
    }
}

/// The first 16 hex digits of the SHA-256 of a public key: what lines name their key by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub struct KeyId(String);

impl KeyId {
    /// As lines spell it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The public half of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

/// A file or text that holds no public key of an audit log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no public key of an audit log: it should hold a line `{KEY_WORD} <base64> <site>`, as \
    `sluicegate audit key show` prints it"
)]
pub struct NoPublicKey;

impl PublicKey {
    /// Reads what [`fmt::Display`] and `audit key show` write: lines of which one begins with
    /// `sluicegate-audit-ed25519`; `#` begins a comment.
    ///
    /// # Errors
    /// There is no such line, or its second word is not 32 bytes of base64.
    pub fn parse_file(text: &str) -> Result<Self, NoPublicKey> {
        let line = text.lines().map(str::trim).find(|line| line.starts_with(KEY_WORD));
        let mut words = line.ok_or(NoPublicKey)?.split_ascii_whitespace();
        if words.next() != Some(KEY_WORD) {
            return Err(NoPublicKey);
        }
        words.next().and_then(Self::parse).ok_or(NoPublicKey)
    }

    /// Reads base64.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let bytes = BASE64.decode(text).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }

    /// The key's name in lines.
    pub fn id(&self) -> KeyId {
        let mut id = self.fingerprint();
        id.truncate(ID_DIGITS);
        KeyId(id)
    }

    /// SHA-256 of the 32 bytes, hex: for reading out on the telephone.
    pub fn fingerprint(&self) -> String {
        super::chain::Hex(digest(&SHA256, &self.0).as_ref()).to_string()
    }

    /// As lines spell it.
    pub(super) fn base64(&self) -> String {
        BASE64.encode(self.0)
    }

    /// The content of a public key file for people and `--pubkey`.
    pub fn file(&self, site: &str) -> String {
        let (key, fingerprint) = (self.base64(), self.fingerprint());
        format!(
            "# Audit log of {site}: the key to pin. SHA-256 {fingerprint}\n{KEY_WORD} {key} {site}\n"
        )
    }

    /// Whether this key signed `signed` in this context.
    pub(super) fn verifies(&self, context: Context, signed: &[u8], signature: &[u8; 64]) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, &self.0);
        key.verify(&context.message(signed), signature).is_ok()
    }
}

/// A key that signs.
pub(super) struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
    id: KeyId,
}

impl SigningKey {
    /// The key of a seed (RFC 8032, section 5.1.5).
    pub(super) fn from_seed(seed: &[u8; 32]) -> Result<Self, Unspecified> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| Unspecified)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| Unspecified)?;
        let public = PublicKey(public);
        Ok(Self { pair, public, id: public.id() })
    }

    pub(super) fn public(&self) -> PublicKey {
        self.public
    }

    pub(super) fn id(&self) -> &KeyId {
        &self.id
    }

    /// Ends the line that begins at `start` of `out`: key, signature and what closes the line. What
    /// is there must end with a member, without a comma behind it.
    pub(super) fn seal(&self, context: Context, out: &mut Vec<u8>, start: usize) {
        out.extend_from_slice(b",\"key\":\"");
        out.extend_from_slice(self.id.0.as_bytes());
        out.push(b'"');
        let signed = out.get(start..).unwrap_or_default();
        let signature = self.pair.sign(&context.message(signed));
        out.extend_from_slice(SIGNATURE.as_bytes());
        out.extend_from_slice(BASE64.encode(signature.as_ref()).as_bytes());
        out.push(b'"');
        out.extend_from_slice(context.closing().as_bytes());
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.id)
    }
}

/// A line taken apart at its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signed<'a> {
    /// What the signature covers, beside its context.
    pub(super) covered: &'a [u8],
    /// Which key it names.
    pub(super) key: &'a str,
    pub(super) signature: [u8; 64],
}

impl<'a> Signed<'a> {
    /// Takes a line apart; `None` when it does not end as signed lines do.
    pub(super) fn parse(context: Context, line: &'a [u8]) -> Option<Self> {
        let rest = line.strip_suffix(context.closing().as_bytes())?.strip_suffix(b"\"")?;
        let (rest, signature) = rest.split_at_checked(rest.len().checked_sub(SIGNATURE_DIGITS)?)?;
        let signature = BASE64.decode(signature).ok()?.try_into().ok()?;
        let covered = rest.strip_suffix(SIGNATURE.as_bytes())?;
        let text = std::str::from_utf8(covered).ok()?;
        let (_, key) = text.strip_suffix('"')?.rsplit_once(",\"key\":\"")?;
        (key.len() == ID_DIGITS).then_some(Self { covered, key, signature })
    }

    /// Whether it is of this key, and the signature is right.
    pub(super) fn is_by(&self, key: &PublicKey, context: Context) -> bool {
        key.id().as_str() == self.key && key.verifies(context, self.covered, &self.signature)
    }
}

/// The first word of a public key in a file.
const KEY_WORD: &str = "sluicegate-audit-ed25519";
const SIGNATURE: &str = ",\"sig\":\"";
/// 64 bytes in base64, with padding.
const SIGNATURE_DIGITS: usize = 88;
const ID_DIGITS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SigningKey {
        SigningKey::from_seed(&[byte; 32]).unwrap()
    }

    fn sealed(context: Context) -> Vec<u8> {
        let mut line = b"before ".to_vec();
        line.extend_from_slice(b"{\"a\":1");
        key(1).seal(context, &mut line, 7);
        line.split_off(7)
    }

    #[test]
    fn the_published_vector_has_its_public_key() {
        // RFC 8032, section 7.1, test 1.
        let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let seed: Vec<u8> =
            (0..32).map(|at| u8::from_str_radix(&seed[at * 2..at * 2 + 2], 16).unwrap()).collect();
        let key = SigningKey::from_seed(&seed.try_into().unwrap()).unwrap();
        let public = super::super::chain::Hex(&key.public().0).to_string();
        assert_eq!(public, "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
    }

    #[test]
    fn a_signature_holds_for_its_bytes_key_and_context_alone() {
        for context in [Context::Line, Context::Manifest, Context::Key] {
            let line = sealed(context);
            let signed = Signed::parse(context, &line).unwrap();
            assert!(signed.is_by(&key(1).public(), context));
            assert!(!signed.is_by(&key(2).public(), context));
            for other in [Context::Line, Context::Manifest, Context::Key] {
                assert_eq!(signed.is_by(&key(1).public(), other), other == context);
            }
            for at in 0..line.len() {
                let mut changed = line.clone();
                changed[at] ^= 1;
                let holds = Signed::parse(context, &changed)
                    .is_some_and(|signed| signed.is_by(&key(1).public(), context));
                assert!(!holds, "byte {at} of {context:?}");
            }
        }
    }

    #[test]
    fn a_public_key_file_is_read_back() {
        let public = key(3).public();
        assert_eq!(PublicKey::parse_file(&public.file("augsburg-2")), Ok(public));
        for wrong in ["", "sluicegate-audit-ed25519", "sluicegate-audit-ed25519 AAAA x", "# x\n"] {
            assert_eq!(PublicKey::parse_file(wrong), Err(NoPublicKey), "{wrong}");
        }
    }
}
