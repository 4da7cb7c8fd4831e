//! Builds ClientHellos, good and bad, for tests.

#![allow(dead_code, reason = "each test program uses its part of it")]

/// The parts of a ClientHello, freely combined.
#[derive(Clone, Debug)]
pub(crate) struct Builder {
    pub(crate) record_version: u16,
    pub(crate) legacy_version: u16,
    pub(crate) session_id: Vec<u8>,
    pub(crate) ciphers: Vec<u16>,
    pub(crate) compression: Vec<u8>,
    /// `None` leaves even the length of the extensions out.
    pub(crate) extensions: Option<Vec<(u16, Vec<u8>)>>,
}

impl Builder {
    /// A TLS 1.0 hello that ends behind its compression methods.
    pub(crate) fn bare() -> Self {
        Self {
            record_version: 0x0301,
            legacy_version: 0x0301,
            session_id: Vec::new(),
            ciphers: vec![0x002f, 0x000a],
            compression: vec![0],
            extensions: None,
        }
    }

    /// A TLS 1.2 hello as an embedded stack sends it.
    pub(crate) fn tls12(name: &str) -> Self {
        Self { legacy_version: 0x0303, ciphers: vec![0xc02f, 0xc030, 0x009c], ..Self::bare() }
            .with(SNI, sni(name.as_bytes()))
            .with(GROUPS, list16(&numbers(&[0x001d, 0x0017])))
            .with(SIGNATURE_ALGORITHMS, list16(&numbers(&[0x0403, 0x0804, 0x0401])))
    }

    /// A TLS 1.3 hello with ALPN and a key share.
    pub(crate) fn tls13(name: &str) -> Self {
        Self { session_id: vec![7; 32], ciphers: vec![0x1301, 0x1302, 0xc02f], ..Self::tls12(name) }
            .with(VERSIONS, list8(&numbers(&[0x0304, 0x0303])))
            .with(ALPN, alpn(&[b"x-amzn-mqtt-ca", b"http/1.1"]))
            .with(KEY_SHARE, list16(&[&[0x00, 0x1d][..], &list16(&[9; 32])].concat()))
    }

    /// Adds an extension at the end.
    pub(crate) fn with(mut self, kind: u16, content: Vec<u8>) -> Self {
        self.extensions.get_or_insert_default().push((kind, content));
        self
    }

    /// Leaves every extension of this type out.
    pub(crate) fn without(mut self, kind: u16) -> Self {
        self.extensions.get_or_insert_default().retain(|(other, _)| *other != kind);
        self
    }

    /// Puts this content in place of the one the extension has, where it stands.
    pub(crate) fn replacing(mut self, kind: u16, content: Vec<u8>) -> Self {
        for (other, old) in self.extensions.get_or_insert_default() {
            if *other == kind {
                old.clone_from(&content);
            }
        }
        self
    }

    /// The handshake message, with its header.
    pub(crate) fn message(&self) -> Vec<u8> {
        let mut body = self.legacy_version.to_be_bytes().to_vec();
        body.extend(0..32);
        body.extend(list8(&self.session_id));
        body.extend(list16(&numbers(&self.ciphers)));
        body.extend(list8(&self.compression));
        if let Some(extensions) = &self.extensions {
            let all: Vec<u8> = extensions
                .iter()
                .flat_map(|(kind, content)| [&kind.to_be_bytes()[..], &list16(content)].concat())
                .collect();
            body.extend(list16(&all));
        }
        handshake(1, &body)
    }

    /// The whole hello, in as few records as it fits.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.in_records(1 << 14)
    }

    /// The whole hello, in records of `size` bytes.
    pub(crate) fn in_records(&self, size: usize) -> Vec<u8> {
        self.message().chunks(size).flat_map(|part| record(22, self.record_version, part)).collect()
    }
}

pub(crate) const SNI: u16 = 0;
pub(crate) const GROUPS: u16 = 10;
pub(crate) const SIGNATURE_ALGORITHMS: u16 = 13;
pub(crate) const ALPN: u16 = 16;
pub(crate) const PADDING: u16 = 21;
pub(crate) const PSK: u16 = 41;
pub(crate) const VERSIONS: u16 = 43;
pub(crate) const KEY_SHARE: u16 = 51;

/// A handshake message.
pub(crate) fn handshake(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind, length[1], length[2], length[3]], body].concat()
}

/// A TLS record.
pub(crate) fn record(kind: u8, version: u16, content: &[u8]) -> Vec<u8> {
    [&[kind][..], &version.to_be_bytes(), &list16(content)].concat()
}

/// The content of a `server_name` extension with one host name.
pub(crate) fn sni(name: &[u8]) -> Vec<u8> {
    sni_entries(&[(0, name)])
}

/// The content of a `server_name` extension with these entries.
pub(crate) fn sni_entries(entries: &[(u8, &[u8])]) -> Vec<u8> {
    let list: Vec<u8> =
        entries.iter().flat_map(|(kind, name)| [&[*kind][..], &list16(name)].concat()).collect();
    list16(&list)
}

/// The content of an ALPN extension.
pub(crate) fn alpn(names: &[&[u8]]) -> Vec<u8> {
    list16(&names.iter().flat_map(|name| list8(name)).collect::<Vec<u8>>())
}

pub(crate) fn numbers(values: &[u16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_be_bytes()).collect()
}

/// A vector behind one byte of length.
pub(crate) fn list8(content: &[u8]) -> Vec<u8> {
    [&[u8::try_from(content.len()).unwrap()], content].concat()
}

/// A vector behind two bytes of length.
pub(crate) fn list16(content: &[u8]) -> Vec<u8> {
    [&u16::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
}
