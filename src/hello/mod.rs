//! The ClientHello: bytes in, a name or a named refusal out.
//!
//! Sans-I/O and pure: the reader is pushed bytes and never reads a socket or a clock. It keeps every
//! byte it was given, because those bytes are the first that go to the endpoint.
//!
//! Invariants:
//! - The answer does not depend on how the bytes were cut, over TCP or over TLS records. Only the
//!   bytes that happened to arrive behind the hello differ ([`HelloFacts::trailing_bytes`]), and how
//!   many of the first bytes of something else were seen ([`Refusal::first_bytes`]).
//! - Time is linear in the bytes, also when they come one at a time; memory is the bytes themselves,
//!   and a hello that announces more than 64 KiB, or comes in too many records, is refused as soon
//!   as that is known.
//! - Nothing is allocated for a usual hello but its bytes and its name.
//! - A hello in doubt is refused. One handshake message is one hello: another message in the same
//!   record makes it malformed, as it does for TLS servers, while further records (0-RTT data) are
//!   kept and forwarded unread.
//!
//! JA4 for TLS clients is by FoxIO, used under the BSD 3-Clause License; see the file NOTICE.

pub mod alert;
mod alpn;
mod cipher;
mod client_hello;
mod fault;
pub mod input;
mod ja4;
pub mod observe;
mod opening;
mod records;
mod report;
mod sni;
mod take;
mod version;

pub use self::alpn::Alpn;
pub use self::cipher::cipher_name;
pub use self::ja4::{ClientTraits, Ja4};
pub use self::report::report;
pub use self::version::version_name;

use smallvec::SmallVec;

use self::client_hello::ClientHello;
use self::fault::Fault;
use self::records::{Records, Whole};
use crate::name::{ServerName, Underscore};
use crate::reason::Reason;

/// What a ClientHello says, beside its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HelloFacts {
    /// `legacy_version` of the hello (RFC 8446 section 4.1.2), for example 0x0303.
    pub legacy_version: u16,
    /// The `supported_versions` extension in the client's order, GREASE left out; empty when absent.
    pub versions: Versions,
    /// ALPN protocol names (RFC 7301) in the client's order, GREASE left out; at most 16.
    pub alpn: Alpn,
    /// An `encrypted_client_hello` extension is present.
    pub ech: bool,
    /// What the JA4 fingerprint of the client is computed over.
    pub traits: ClientTraits,
    /// TLS records the hello came in.
    pub records: usize,
    /// Bytes of the hello with its record headers.
    pub bytes: usize,
    /// Bytes received behind the hello.
    pub trailing_bytes: usize,
    /// What else is worth a note, one short phrase each (`name was not in canonical form`).
    pub notes: Vec<String>,
}

/// Protocol versions; those of all real clients fit in without an allocation.
pub type Versions = SmallVec<[u16; 8]>;

impl HelloFacts {
    /// The JA4 fingerprint of the client. Computed anew: see [`ClientTraits::ja4`].
    pub fn ja4(&self) -> Ja4 {
        self.traits.ja4()
    }

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
    /// For `not_tls` and `sslv2_hello`: the first bytes, at most 16.
    pub first_bytes: Vec<u8>,
}

/// What [`HelloReader::push`] found so far.
#[allow(clippy::large_enum_variant, reason = "a box would be an allocation for each hello")]
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

/// What a site may choose about reading hellos.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HelloOptions {
    /// Whether a server name may have underscores.
    pub underscore: Underscore,
}

/// Reassembles records and reads the ClientHello in them.
#[derive(Debug, Default)]
pub struct HelloReader {
    raw: Vec<u8>,
    records: Records,
    options: HelloOptions,
}

impl HelloReader {
    /// A reader with no bytes and the default options; allocates nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// A reader with no bytes; allocates nothing.
    pub fn with_options(options: HelloOptions) -> Self {
        Self { options, ..Self::default() }
    }

    /// Takes the next bytes of the stream. After anything but [`Progress::Incomplete`] it must not
    /// be called again.
    ///
    /// All of `bytes` is kept, so how much one call brings is for the caller to bound.
    pub fn push(&mut self, bytes: &[u8]) -> Progress {
        self.raw.extend_from_slice(bytes);
        match self.records.advance(&self.raw) {
            Ok(None) => Progress::Incomplete,
            Ok(Some(whole)) => match self.judge(whole) {
                Ok(hello) => Progress::Hello(hello),
                Err(refusal) => Progress::Refused(refusal),
            },
            Err(fault) => Progress::Refused(self.refusal(fault, None)),
        }
    }

    /// Says that no more bytes come, and what that makes of the bytes so far.
    ///
    /// Bytes that do not begin like TLS are `not_tls` also when there were too few to say so before.
    pub fn stop(self, stopped: Stopped) -> Refusal {
        let (got, announced) = self.records.gathered();
        let detail = match announced {
            _ if self.raw.is_empty() => "the device sent nothing".to_owned(),
            Some(all) => format!("{got} of {all} bytes of the ClientHello had arrived"),
            None => format!("only {} bytes had arrived", self.raw.len()),
        };
        let reason = match stopped {
            _ if self.raw.first().is_some_and(|first| *first != opening::HANDSHAKE) => {
                Reason::NotTls
            }
            Stopped::Deadline => Reason::HelloTimeout,
            Stopped::Closed => Reason::HelloCut,
        };
        self.refusal(Fault::new(reason, detail), None)
    }

    /// The version of the first TLS record, if the bytes begin like one: what an alert to a device
    /// without a readable hello is framed with.
    pub fn record_version(&self) -> Option<u16> {
        opening::record_version(&self.raw)
    }

    /// Every byte pushed so far.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Every byte pushed, given away.
    pub fn into_raw(self) -> Vec<u8> {
        self.raw
    }

    fn judge(&self, whole: Whole) -> Result<Hello, Refusal> {
        let body = records::body(&self.raw, whole);
        let hello = ClientHello::read(&body).map_err(|fault| self.refusal(fault, None))?;
        let mut facts = HelloFacts {
            records: whole.records,
            bytes: whole.end,
            trailing_bytes: self.raw.len().saturating_sub(whole.end),
            ..hello.facts()
        };
        if whole.surplus > 0 {
            let detail = format!("{} bytes follow the ClientHello in its record", whole.surplus);
            return Err(self.refusal(Fault::malformed(detail), Some(facts)));
        }
        match sni::read(&hello, self.options.underscore) {
            Ok(named) => {
                facts.notes.extend(named.note);
                Ok(Hello { name: named.name, facts })
            }
            Err(fault) => Err(self.refusal(fault, Some(facts))),
        }
    }

    fn refusal(&self, fault: Fault, facts: Option<HelloFacts>) -> Refusal {
        let first_bytes = match fault.reason {
            Reason::NotTls | Reason::Sslv2Hello => records::first_bytes(&self.raw).to_vec(),
            _ => Vec::new(),
        };
        let Fault { reason, detail } = fault;
        Refusal { reason, detail, facts: facts.map(Box::new), first_bytes }
    }
}
