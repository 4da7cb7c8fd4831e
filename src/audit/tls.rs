//! What a flow's records say of TLS: what the device offered, what came of it, and who gave up.

use std::borrow::Cow;

use super::event::Event;
use super::record;
use super::{AlertFacts, AlertFrom, HandshakeFacts, NoteFacts, kind};
use crate::hello::alert::alert_name;
use crate::hello::{HelloFacts, Ja4, cipher_name};
use crate::name::ServerName;

/// What is kept of a flow's hello, and known before of how it will be taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct TlsPart {
    hello: Option<HelloPart>,
    pub(super) outlook: Box<[NoteFacts]>,
}

/// What is kept of the hello.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct HelloPart {
    name: Option<ServerName>,
    name_from: NameFrom,
    /// The highest version offered.
    version: u16,
    alpn: Vec<String>,
    ech: bool,
    ja4: Ja4,
    notes: Vec<String>,
}

/// Where a flow's name is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum NameFrom {
    Hello,
    Address,
}

impl HelloPart {
    fn sni(&self) -> Option<&str> {
        let name = self.name.as_ref().filter(|_| self.name_from == NameFrom::Hello);
        name.map(ServerName::as_str)
    }
}

impl TlsPart {
    pub(super) fn set_hello(&mut self, name: Option<&ServerName>, facts: &HelloFacts, ja4: Ja4) {
        let alpn = facts.alpn.iter().take(MAX_LIST);
        self.hello = Some(HelloPart {
            name: name.cloned(),
            name_from: NameFrom::Hello,
            version: facts.highest_version(),
            alpn: alpn.map(|protocol| protocol.escape_ascii().to_string()).collect(),
            ech: facts.ech,
            ja4,
            notes: facts.notes.iter().take(MAX_LIST).cloned().collect(),
        });
    }

    /// The hello had no name; the address that was dialled stands for this one.
    pub(super) fn set_inferred(&mut self, name: &ServerName, facts: &HelloFacts, ja4: Ja4) {
        self.set_hello(Some(name), facts, ja4);
        if let Some(hello) = &mut self.hello {
            hello.name_from = NameFrom::Address;
        }
    }

    /// A hello was read.
    pub(super) fn heard(&self) -> bool {
        self.hello.is_some()
    }

    pub(super) fn name(&self) -> Option<&ServerName> {
        self.hello.as_ref().and_then(|hello| hello.name.as_ref())
    }

    /// What the device wants to speak inside TLS: the one protocol that all its ALPN offers belong to,
    /// by IANA's service name, else `tls`.
    pub(super) fn application(&self) -> Option<&'static str> {
        let offers = &self.hello.as_ref()?.alpn;
        let mut services = offers.iter().map(|offer| match offer.as_str() {
            "h2" | "http/1.1" | "http/1.0" => Some("https"),
            "mqtt" | "x-amzn-mqtt-ca" => Some("secure-mqtt"),
            _ => None,
        });
        let first = services.next().flatten();
        let one = first.filter(|first| services.all(|service| service == Some(first)));
        Some(one.unwrap_or("tls"))
    }

    /// The record's `tls`: the version chosen, or the highest one offered where none was.
    pub(super) fn object(
        &self,
        handshake: HandshakeFacts,
        event: &Event<'_>,
    ) -> Option<record::Tls<'_>> {
        let hello = self.hello.as_ref()?;
        Some(record::Tls {
            version: version_text(handshake.version.unwrap_or(hello.version)),
            cipher: handshake.cipher.map(cipher_name),
            sni: hello.sni(),
            alert: last_alert(handshake, event).map(|alert| alert.description),
            tls_extension_list: (!hello.alpn.is_empty()).then(|| {
                [record::TlsExtension {
                    type_id: kind::EXTENSION_ALPN,
                    kind: "application_layer_protocol_negotiation",
                    data: &hello.alpn,
                }]
            }),
        })
    }

    pub(super) fn fingerprint(&self) -> Option<[record::Fingerprint<'_>; 1]> {
        self.hello.as_ref().map(|hello| {
            let value = hello.ja4.as_str();
            [record::Fingerprint { type_id: kind::FINGERPRINT_JA4, kind: "JA4", value }]
        })
    }

    /// Adds what OCSF has no place for.
    pub(super) fn add_to<'a>(
        &'a self,
        egress: &mut record::Egress<'a>,
        handshake: HandshakeFacts,
        event: &Event<'_>,
    ) {
        egress.alert = event.alert.filter(|_| self.hello.is_none());
        egress.tls_alert = last_alert(handshake, event).map(|alert| record::TlsAlert {
            from: alert.from.word(),
            level: match alert.level {
                1 => "warning",
                _ => "fatal",
            },
            name: alert_name(alert.description)
                .map_or_else(|| alert.description.to_string().into(), Cow::Borrowed),
        });
        egress.outlook = Some(&*self.outlook).filter(|outlook| !outlook.is_empty());
        let Some(hello) = &self.hello else { return };
        egress.tls_version_from = Some(match handshake.version {
            Some(_) => "server_hello",
            None => "client_hello_offer",
        });
        egress.ech = Some(hello.ech);
        egress.name_from = (hello.name_from == NameFrom::Address).then_some("address");
        egress.notes = Some(&*hello.notes).filter(|notes| !notes.is_empty());
    }
}

impl AlertFrom {
    fn word(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Endpoint => "endpoint",
            Self::Gate => "gate",
        }
    }
}

/// What the gate itself sent, else what it saw.
fn last_alert(handshake: HandshakeFacts, event: &Event<'_>) -> Option<AlertFacts> {
    let own = |description| AlertFacts { from: AlertFrom::Gate, level: FATAL, description };
    event.alert.map(own).or(handshake.alert)
}

/// A TLS version as people write it (RFC 8446 section 4.2.1); unknown ones in hex.
fn version_text(version: u16) -> Cow<'static, str> {
    match version {
        0x0300 => "3.0".into(),
        0x0301 => "1.0".into(),
        0x0302 => "1.1".into(),
        0x0303 => "1.2".into(),
        0x0304 => "1.3".into(),
        _ => format!("0x{version:04x}").into(),
    }
}

/// How many ALPN names, notes or addresses a record holds: a hostile hello must not make it huge.
pub(super) const MAX_LIST: usize = 16;
const FATAL: u8 = 2;
