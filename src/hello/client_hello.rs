//! The ClientHello message (RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2, RFC 6101).
//!
//! Reads the structure strictly and the content leniently: lengths must fit exactly, but of the
//! fields only the server name can refuse a hello. Whether the endpoint likes the rest is for the
//! endpoint to say; an odd ALPN list is a note here, not a reason to stop a plant.

use smallvec::SmallVec;

use super::fault::Fault;
use super::ja4::ClientTraits;
use super::take::{Take, numbers};
use super::{HelloFacts, Versions};

/// The fields of a well-formed ClientHello, still where they arrived.
#[derive(Debug, Default)]
pub(super) struct ClientHello<'a> {
    legacy_version: u16,
    session_id: &'a [u8],
    ciphers: &'a [u8],
    /// Extension types, sorted.
    extensions: SmallVec<[u16; 32]>,
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
        let name = "supported_versions";
        let versions: Versions = listed(self.versions, name, &mut notes, Take::vector8).collect();
        let alpn = self.alpn(&mut notes);
        let name = "signature_algorithms";
        let algorithms = listed(self.signature_algorithms, name, &mut notes, Take::vector16);
        for (kind, draft) in [(OLD_ECH, "ECH"), (ESNI, "ESNI")] {
            if self.has(kind) {
                notes.push(format!("offers an early draft of {draft} (extension 0x{kind:04x})"));
            }
        }
        let highest = versions.iter().copied().max().unwrap_or(self.legacy_version);
        let first = alpn.clone().next();
        let ciphers = numbers(self.ciphers).into_iter().flatten();
        let traits = ClientTraits::new(highest, first, ciphers, &self.extensions, algorithms);
        let offered = alpn.clone().count();
        if offered > KEPT_ALPN {
            notes.push(format!("{offered} ALPN names, the first {KEPT_ALPN} kept"));
        }
        HelloFacts {
            legacy_version: self.legacy_version,
            alpn: alpn.take(KEPT_ALPN).collect(),
            ech: self.has(ECH),
            versions,
            traits,
            notes,
            ..HelloFacts::default()
        }
    }

    fn has(&self, kind: u16) -> bool {
        self.extensions.contains(&kind)
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
        self.extensions.sort_unstable();
        Ok(())
    }

    /// RFC 8446 section 4.2. A second `server_name` is left to the reading of the name, which has a
    /// reason of its own for it.
    fn refuse_duplicates(&self) -> Result<(), Fault> {
        let twice = self.extensions.windows(2).find_map(|pair| match pair {
            [one, other] if one == other && *one != SERVER_NAME => Some(*one),
            _ => None,
        });
        twice.map_or(Ok(()), |kind| {
            Err(Fault::malformed(format!("the extension 0x{kind:04x} comes twice")))
        })
    }

    /// The protocol names, GREASE left out.
    fn alpn(&self, notes: &mut Vec<String>) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        let list = self.alpn.and_then(|content| {
            let list = alpn_list(content);
            if list.is_none() {
                notes.push("malformed alpn extension ignored".into());
            }
            list
        });
        let mut take = Take::new(list.unwrap_or_default());
        std::iter::from_fn(move || take.vector8()).filter(|name| !is_grease_alpn(name))
    }
}

/// The list in an ALPN extension: at least one name, and none of them empty or cut.
fn alpn_list(content: &[u8]) -> Option<&[u8]> {
    let mut take = Take::new(content);
    let list = take.vector16().filter(|list| take.is_empty() && !list.is_empty())?;
    let mut names = Take::new(list);
    while !names.is_empty() {
        names.vector8().filter(|name| !name.is_empty())?;
    }
    Some(list)
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
fn listed<'a, F>(
    content: Option<&'a [u8]>,
    name: &str,
    notes: &mut Vec<String>,
    length: F,
) -> impl Iterator<Item = u16> + use<'a, F>
where
    F: Fn(&mut Take<'a>) -> Option<&'a [u8]>,
{
    let values = content.and_then(|content| {
        let mut take = Take::new(content);
        let list = length(&mut take).filter(|list| take.is_empty() && !list.is_empty());
        let values = list.and_then(numbers);
        if values.is_none() {
            notes.push(format!("malformed {name} extension ignored"));
        }
        values
    });
    values.into_iter().flatten().filter(|value| !is_grease(*value))
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
