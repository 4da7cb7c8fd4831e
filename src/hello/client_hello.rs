//! The ClientHello message (RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2, RFC 6101).
//!
//! Reads the structure strictly and the content leniently: lengths must fit exactly, but of the
//! fields only the server name can refuse a hello. Whether the endpoint likes the rest is for the
//! endpoint to say; an odd ALPN list is a note here, not a reason to stop a plant.

use super::HelloFacts;
use super::fault::Fault;
use super::ja4::{self, Fingerprinted};
use super::take::{Take, numbers};

/// The fields of a well-formed ClientHello, still where they arrived.
#[derive(Debug, Default)]
pub(super) struct ClientHello<'a> {
    legacy_version: u16,
    session_id: &'a [u8],
    ciphers: &'a [u8],
    /// Extension types in the client's order.
    extensions: Vec<u16>,
    /// The content of the last `server_name` extension.
    pub(super) server_name: Option<&'a [u8]>,
    alpn: Option<&'a [u8]>,
    versions: Option<&'a [u8]>,
    signature_algorithms: Option<&'a [u8]>,
}

impl<'a> ClientHello<'a> {
    /// Reads the body of the handshake message.
    pub(super) fn read(body: &'a [u8]) -> Result<Self, Fault> {
        let mut take = Take::new(body);
        let mut hello = Self::default();
        let extensions = hello.head(&mut take).ok_or_else(|| cut("a field"))?;
        if hello.legacy_version >> 8 != 3 {
            return Err(Fault::malformed(format!(
                "the ClientHello has the version 0x{:04x}",
                hello.legacy_version
            )));
        }
        if numbers(hello.ciphers).is_none() {
            return Err(Fault::malformed("the list of cipher suites has an odd length"));
        }
        // Before TLS 1.2 a hello may end here, without even an empty list of extensions.
        let Some(extensions) = extensions else { return Ok(hello) };
        if !take.is_empty() {
            return Err(Fault::malformed(format!(
                "{} bytes follow the extensions of the ClientHello",
                take.rest().len()
            )));
        }
        hello.extensions(extensions)?;
        hello.refuse_duplicates()?;
        Ok(hello)
    }

    /// How many `server_name` extensions there are.
    pub(super) fn server_names(&self) -> usize {
        self.extensions.iter().filter(|kind| **kind == SERVER_NAME).count()
    }

    /// What the hello says beside its name; the counts of the stream are left at zero.
    pub(super) fn facts(&self) -> HelloFacts {
        let mut notes = Vec::new();
        if self.session_id.len() > 32 {
            notes.push(format!("session id has {} bytes, more than 32", self.session_id.len()));
        }
        let versions = self.versions(&mut notes);
        let alpn = self.alpn(&mut notes);
        let signature_algorithms = self.signature_algorithms(&mut notes);
        for (kind, draft) in [(OLD_ECH, "ECH"), (ESNI, "ESNI")] {
            if self.extensions.contains(&kind) {
                notes.push(format!("offers an early draft of {draft} (extension 0x{kind:04x})"));
            }
        }
        let highest = versions.iter().copied().max().unwrap_or(self.legacy_version);
        let ciphers = self.ciphers();
        let ja4 = ja4::fingerprint(&Fingerprinted {
            version: highest,
            ciphers: &ciphers,
            extensions: self.extensions.clone(),
            alpn: alpn.first().copied(),
            signature_algorithms,
        });
        if alpn.len() > KEPT_ALPN {
            notes.push(format!("{} ALPN names, the first {KEPT_ALPN} kept", alpn.len()));
        }
        HelloFacts {
            legacy_version: self.legacy_version,
            alpn: alpn.into_iter().take(KEPT_ALPN).map(Box::from).collect(),
            ech: self.extensions.contains(&ECH),
            versions,
            ciphers,
            ja4,
            notes,
            ..HelloFacts::default()
        }
    }

    /// Everything in front of the extensions; `None` when a field is cut, `Some(None)` when the
    /// message ends without extensions.
    fn head(&mut self, take: &mut Take<'a>) -> Option<Option<&'a [u8]>> {
        self.legacy_version = take.u16()?;
        take.bytes(RANDOM)?;
        self.session_id = take.vector8()?;
        self.ciphers = take.vector16()?;
        take.vector8()?;
        if take.is_empty() {
            return Some(None);
        }
        take.vector16().map(Some)
    }

    fn extensions(&mut self, bytes: &'a [u8]) -> Result<(), Fault> {
        let mut take = Take::new(bytes);
        while !take.is_empty() {
            let (Some(kind), Some(content)) = (take.u16(), take.vector16()) else {
                return Err(cut("an extension"));
            };
            self.extensions.push(kind);
            match kind {
                SERVER_NAME => self.server_name = Some(content),
                SIGNATURE_ALGORITHMS => self.signature_algorithms = Some(content),
                ALPN => self.alpn = Some(content),
                SUPPORTED_VERSIONS => self.versions = Some(content),
                _ => {}
            }
        }
        Ok(())
    }

    /// RFC 8446 section 4.2. A second `server_name` is left to the reading of the name, which has a
    /// reason of its own for it.
    fn refuse_duplicates(&self) -> Result<(), Fault> {
        let mut sorted: Vec<u16> =
            self.extensions.iter().copied().filter(|kind| *kind != SERVER_NAME).collect();
        sorted.sort_unstable();
        let twice = sorted.windows(2).find_map(|pair| match pair {
            [one, other] if one == other => Some(*one),
            _ => None,
        });
        twice.map_or(Ok(()), |kind| {
            Err(Fault::malformed(format!("the extension 0x{kind:04x} comes twice")))
        })
    }

    fn ciphers(&self) -> Vec<u16> {
        let mut ciphers = Vec::with_capacity(self.ciphers.len() / 2);
        let offered = numbers(self.ciphers).into_iter().flatten();
        ciphers.extend(offered.filter(|value| !is_grease(*value)));
        ciphers
    }

    fn versions(&self, notes: &mut Vec<String>) -> Vec<u16> {
        listed(self.versions, "supported_versions", notes, |take| take.vector8())
    }

    fn signature_algorithms(&self, notes: &mut Vec<String>) -> Vec<u16> {
        let name = "signature_algorithms";
        listed(self.signature_algorithms, name, notes, |take| take.vector16())
    }

    fn alpn(&self, notes: &mut Vec<String>) -> Vec<&'a [u8]> {
        let Some(content) = self.alpn else { return Vec::new() };
        let names = || {
            let mut take = Take::new(content);
            let mut list = Take::new(take.vector16().filter(|_| take.is_empty())?);
            let mut names = Vec::new();
            while !list.is_empty() {
                names.push(list.vector8().filter(|name| !name.is_empty())?);
            }
            Some(names)
        };
        let Some(mut names) = names().filter(|names| !names.is_empty()) else {
            notes.push("malformed alpn extension ignored".into());
            return Vec::new();
        };
        names.retain(|name| !is_grease_alpn(name));
        names
    }
}

/// RFC 8701: values that mean nothing and that every reader must ignore.
pub(super) fn is_grease(value: u16) -> bool {
    let [high, low] = value.to_be_bytes();
    high == low && low & 0x0f == 0x0a
}

fn is_grease_alpn(name: &[u8]) -> bool {
    <[u8; 2]>::try_from(name).is_ok_and(|pair| is_grease(u16::from_be_bytes(pair)))
}

/// A list of 16-bit values behind the length that `length` takes, GREASE left out.
fn listed<'a>(
    content: Option<&'a [u8]>,
    name: &str,
    notes: &mut Vec<String>,
    length: impl Fn(&mut Take<'a>) -> Option<&'a [u8]>,
) -> Vec<u16> {
    let Some(content) = content else { return Vec::new() };
    let mut take = Take::new(content);
    let list = length(&mut take).filter(|list| take.is_empty() && !list.is_empty());
    let Some(values) = list.and_then(numbers) else {
        notes.push(format!("malformed {name} extension ignored"));
        return Vec::new();
    };
    values.filter(|value| !is_grease(*value)).collect()
}

fn cut(what: &str) -> Fault {
    Fault::malformed(format!("{what} of the ClientHello is longer than the message"))
}

const RANDOM: usize = 32;
/// IANA TLS ExtensionType values.
pub(super) const SERVER_NAME: u16 = 0;
const SIGNATURE_ALGORITHMS: u16 = 13;
pub(super) const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;
/// `encrypted_client_hello`, RFC 9849.
const ECH: u16 = 0xfe0d;
/// Code points of drafts that some clients still send.
const OLD_ECH: u16 = 0xff02;
const ESNI: u16 = 0xffce;
/// ALPN names kept for the record: no client offers more than a handful, and a hello has room for
/// thirty thousand.
const KEPT_ALPN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grease_is_sixteen_values() {
        let grease: Vec<u16> = (0..=u16::MAX).filter(|value| is_grease(*value)).collect();
        assert_eq!(grease.len(), 16);
        assert_eq!((grease[0], grease[15]), (0x0a0a, 0xfafa));
        assert!(is_grease_alpn(&[0x3a, 0x3a]));
        assert!(!is_grease_alpn(b"h2"));
    }
}
