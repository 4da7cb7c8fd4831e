//! The ClientHello: bytes in, a name or a named refusal out.
//!
//! Sans-I/O and pure: the reader is pushed bytes and never reads a socket or a clock. It keeps every
//! byte it was given, because those bytes are the first that go to the endpoint.

use crate::name::ServerName;
use crate::reason::Reason;

/// What a ClientHello says, beside its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HelloFacts {
    /// `legacy_version` of the hello (RFC 8446 section 4.1.2), for example 0x0303.
    pub legacy_version: u16,
    /// The `supported_versions` extension in the client's order, GREASE left out; empty when absent.
    pub versions: Vec<u16>,
    /// ALPN protocol names (RFC 7301) in the client's order.
    pub alpn: Vec<Box<[u8]>>,
    /// An `encrypted_client_hello` extension is present.
    pub ech: bool,
    /// The JA4 fingerprint of the client.
    pub ja4: String,
    /// TLS records the hello came in.
    pub records: usize,
    /// Bytes of the hello with its record headers.
    pub bytes: usize,
    /// Bytes received behind the hello.
    pub trailing_bytes: usize,
    /// What else is worth a note, one short phrase each (`name was not in canonical form`).
    pub notes: Vec<String>,
}

impl HelloFacts {
    /// The highest version offered: of `versions`, else the legacy version.
    pub fn highest_version(&self) -> u16 {
        self.versions.iter().copied().max().unwrap_or(self.legacy_version)
    }
}

/// A well-formed ClientHello with exactly one server name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The server name, canonical.
    pub name: ServerName,
    /// The rest.
    pub facts: HelloFacts,
}

/// Why there is no [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason, of stage hello.
    pub reason: Reason,
    /// What exactly was wrong, for the record and for people.
    pub detail: String,
    /// What could be read of the hello: present when it was well-formed but its name was not usable.
    pub facts: Option<Box<HelloFacts>>,
    /// For `not_tls`: the first bytes, at most 16.
    pub first_bytes: Vec<u8>,
}

/// What [`HelloReader::push`] found so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are needed.
    Incomplete,
    /// The hello is complete and names a server.
    Hello(Hello),
    /// The bytes can never become a hello that names a server.
    Refused(Refusal),
}

/// Why no more bytes come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The deadline passed.
    Deadline,
    /// The device closed or reset the connection.
    Closed,
}

/// Reassembles records and reads the ClientHello in them.
#[derive(Debug, Default)]
pub struct HelloReader {
    raw: Vec<u8>,
}

impl HelloReader {
    /// A reader with no bytes; allocates nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream. After anything but [`Progress::Incomplete`] it must not
    /// be called again.
    pub fn push(&mut self, bytes: &[u8]) -> Progress {
        self.raw.extend_from_slice(bytes);
        Progress::Incomplete
    }

    /// Says that no more bytes come, and what that makes of the bytes so far.
    pub fn stop(self, stopped: Stopped) -> Refusal {
        let reason = match stopped {
            Stopped::Deadline => Reason::HelloTimeout,
            Stopped::Closed => Reason::HelloCut,
        };
        Refusal { reason, detail: String::new(), facts: None, first_bytes: Vec::new() }
    }

    /// Every byte pushed so far.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Every byte pushed, given away.
    pub fn into_raw(self) -> Vec<u8> {
        self.raw
    }
}
