//! A stored record as those see it who ask the log.
//!
//! Borrows from the line, and reads only what questions are asked about. Flows, DNS, refused packets
//! and records of the box's own all fit; what a record does not have is `None`.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;

use serde::de::{Deserialize, Deserializer, Visitor};

/// A record. Members are those of OCSF with the same names; times are Unix times in ms.
#[derive(Debug, serde::Deserialize)]
#[expect(missing_docs, reason = "the names are OCSF's")]
pub struct View<'a> {
    #[serde(borrow)]
    pub metadata: Metadata<'a>,
    pub class_uid: u16,
    pub activity_id: u8,
    pub time: u64,
    pub start_time: Option<u64>,
    pub end_time: Option<u64>,
    pub duration: Option<u64>,
    pub count: Option<u64>,
    pub status_id: Option<u8>,
    pub action_id: Option<u8>,
    #[serde(default)]
    pub severity_id: u8,
    #[serde(default)]
    pub status_code: Text<'a>,
    pub status_detail: Option<Text<'a>>,
    pub policy: Option<Policy<'a>>,
    pub firewall_rule: Option<Named<'a>>,
    #[serde(default)]
    pub src_endpoint: Endpoint<'a>,
    #[serde(default)]
    pub dst_endpoint: Endpoint<'a>,
    pub connection_info: Option<Connection<'a>>,
    pub proxy_endpoint: Option<ProxyEndpoint<'a>>,
    pub traffic: Option<Traffic>,
    pub cumulative_traffic: Option<Traffic>,
    pub tls: Option<Tls<'a>>,
    #[serde(default)]
    pub ja4_fingerprint_list: Vec<Fingerprint<'a>>,
    pub query: Option<Question<'a>>,
    pub rcode_id: Option<u8>,
    pub device: Option<Named<'a>>,
    #[serde(default)]
    pub unmapped: Unmapped<'a>,
}

/// `metadata`.
#[derive(Debug, serde::Deserialize)]
#[expect(missing_docs, reason = "the names are OCSF's")]
pub struct Metadata<'a> {
    pub sequence: u64,
    pub logged_time: u64,
    #[serde(borrow)]
    pub uid: Option<Text<'a>>,
    pub correlation_uid: Option<Text<'a>>,
}

/// What has a name.
#[derive(Debug, serde::Deserialize)]
#[expect(missing_docs, reason = "the names are OCSF's")]
pub struct Named<'a> {
    #[serde(borrow)]
    pub name: Text<'a>,
}

/// `policy`.
#[derive(Debug, serde::Deserialize)]
#[expect(missing_docs, reason = "the names are OCSF's")]
pub struct Policy<'a> {
    #[serde(borrow)]
    pub version: Text<'a>,
}

/// `src_endpoint` and `dst_endpoint`.
#[derive(Debug, Default, serde::Deserialize)]
#[expect(missing_docs, reason = "the names are OCSF's")]
pub struct Endpoint<'a> {
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    pub hostname: Option<Text<'a>>,
    pub ip: Option<IpAddr>,
    pub port: Option<u16>,
    pub mac: Option<Text<'a>>,
    pub svc_name: Option<Text<'a>>,
    pub proxy_endpoint: Option<ProxyEndpoint<'a>>,
}

/// The ENI behind what was dialled, or the box's own outgoing address.
#[derive(Debug, serde::Deserialize)]
#[expect(missing_docs, reason = "the names are OCSF's")]
pub struct ProxyEndpoint<'a> {
    pub ip: IpAddr,
    pub port: Option<u16>,
    #[serde(borrow)]
    pub interface_uid: Option<Text<'a>>,
    pub interface_name: Option<Text<'a>>,
    pub zone: Option<Text<'a>>,
}

/// `connection_info`.
#[derive(Debug, serde::Deserialize)]
#[expect(missing_docs, reason = "the names are OCSF's")]
pub struct Connection<'a> {
    #[serde(borrow)]
    pub uid: Option<Text<'a>>,
    pub protocol_name: Option<Text<'a>>,
    pub protocol_ver_id: Option<u8>,
    pub community_uid: Option<Text<'a>>,
}

/// `traffic`: bytes; out is device to endpoint.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[expect(missing_docs, reason = "the names are OCSF's")]
pub struct Traffic {
    #[serde(default)]
    pub bytes: u64,
    #[serde(default)]
    pub bytes_out: u64,
    #[serde(default)]
    pub bytes_in: u64,
}

/// `tls`.
#[derive(Debug, serde::Deserialize)]
#[expect(missing_docs, reason = "the names are OCSF's")]
pub struct Tls<'a> {
    #[serde(borrow)]
    pub version: Text<'a>,
    pub cipher: Option<Text<'a>>,
    pub sni: Option<Text<'a>>,
    #[serde(default)]
    pub tls_extension_list: Vec<TlsExtension<'a>>,
}

/// One extension, with what it holds.
#[derive(Debug, serde::Deserialize)]
#[expect(missing_docs, reason = "the names are OCSF's")]
pub struct TlsExtension<'a> {
    pub type_id: u8,
    #[serde(borrow, default)]
    pub data: Vec<Text<'a>>,
}

/// A fingerprint.
#[derive(Debug, serde::Deserialize)]
#[expect(missing_docs, reason = "the names are OCSF's")]
pub struct Fingerprint<'a> {
    #[serde(borrow)]
    pub value: Text<'a>,
}

/// `query` of a DNS record.
#[derive(Debug, serde::Deserialize)]
#[expect(missing_docs, reason = "the names are OCSF's")]
pub struct Question<'a> {
    #[serde(borrow)]
    pub hostname: Text<'a>,
    #[serde(rename = "type")]
    pub kind: Option<Text<'a>>,
}

/// `unmapped`.
#[derive(Debug, Default, serde::Deserialize)]
#[expect(missing_docs, reason = "the names are the record's")]
pub struct Unmapped<'a> {
    #[serde(borrow, default)]
    pub egress: Egress<'a>,
}

/// `unmapped.egress`.
#[derive(Debug, Default, serde::Deserialize)]
#[expect(missing_docs, reason = "the names are the record's")]
pub struct Egress<'a> {
    #[serde(borrow)]
    pub reason: Option<Text<'a>>,
    pub stage: Option<Text<'a>>,
    pub would_refuse: Option<Text<'a>>,
    pub identity: Option<Text<'a>>,
}

/// What sort of record it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Of a flow.
    Flow,
    /// Of a name that a device asked for.
    Dns,
    /// Of packets that never were a flow.
    Packet,
    /// Of the box itself.
    System,
}

/// What became of a flow, as far as a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Let through by the rules.
    Allow,
    /// Refused, or cut because the permission was withdrawn.
    Deny,
    /// Let through by learn mode only.
    Learn,
    /// Let through, but it could not be connected, or the box failed it.
    Error,
}

impl<'a> View<'a> {
    /// Reads a line.
    ///
    /// # Errors
    /// It is no record of this log.
    pub fn parse(line: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(line)
    }

    /// What sort of record it is.
    pub fn sort(&self) -> Sort {
        match self.class_uid {
            CLASS_SYSTEM => Sort::System,
            CLASS_DNS => Sort::Dns,
            _ if self.unmapped.egress.stage.as_deref() == Some("packet") => Sort::Packet,
            _ => Sort::Flow,
        }
    }

    /// What became of the flow; `None` for a record of the box itself.
    pub fn verdict(&self) -> Option<Verdict> {
        Some(match (self.action_id?, self.activity_id) {
            (DENIED, _) => Verdict::Deny,
            (_, FAIL) if self.class_uid == CLASS_NETWORK => Verdict::Error,
            _ if &*self.status_code == "internal_error" => Verdict::Error,
            (OBSERVED, _) => Verdict::Learn,
            _ if self.unmapped.egress.would_refuse.is_some() => Verdict::Learn,
            _ => Verdict::Allow,
        })
    }

    /// It is the first record of a flow, or its only one.
    pub fn begins(&self) -> bool {
        self.class_uid == CLASS_NETWORK && matches!(self.activity_id, OPEN | REFUSE)
    }

    /// It is a record of a flow that goes on: neither its first nor its last one.
    pub fn goes_on(&self) -> bool {
        self.class_uid == CLASS_NETWORK && self.activity_id == TRAFFIC
    }

    /// It is the last record of a flow that was opened.
    pub fn ends(&self) -> bool {
        self.class_uid == CLASS_NETWORK && matches!(self.activity_id, CLOSE | RESET | FAIL)
    }

    /// What the device asked for.
    pub fn name(&self) -> Option<&str> {
        let asked = self.query.as_ref().map(|query| &query.hostname);
        let sni = || self.tls.as_ref().and_then(|tls| tls.sni.as_ref());
        self.dst_endpoint.hostname.as_ref().or(asked).or_else(sni).map(Deref::deref)
    }

    /// The flow's id.
    pub fn flow(&self) -> Option<&str> {
        self.metadata.correlation_uid.as_deref()
    }

    /// The ENI.
    pub fn eni(&self) -> Option<&ProxyEndpoint<'a>> {
        self.dst_endpoint.proxy_endpoint.as_ref()
    }

    /// The device's JA4.
    pub fn ja4(&self) -> Option<&str> {
        self.ja4_fingerprint_list.first().map(|fingerprint| &*fingerprint.value)
    }

    /// The application protocols that the device offered.
    pub fn alpn(&self) -> &[Text<'a>] {
        let extensions = self.tls.iter().flat_map(|tls| &tls.tls_extension_list);
        let alpn = extensions.into_iter().find(|extension| extension.type_id == EXTENSION_ALPN);
        alpn.map_or(&[], |alpn| &alpn.data)
    }

    /// The rule that decided.
    pub fn rule(&self) -> Option<&str> {
        self.firewall_rule.as_ref().map(|rule| &*rule.name)
    }

    /// Bytes of the whole flow, as far as the record knows them.
    pub fn bytes(&self) -> Option<u64> {
        self.total().map(|traffic| traffic.bytes)
    }

    /// What the whole flow moved, as far as the record knows.
    pub fn total(&self) -> Option<Traffic> {
        self.cumulative_traffic.or(self.traffic)
    }

    /// How many flows, questions or packets the record stands for.
    pub fn weight(&self) -> u64 {
        self.count.unwrap_or(1)
    }
}

impl Verdict {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Learn => "learn",
            Self::Error => "error",
        }
    }
}

impl Sort {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Flow => "flow",
            Self::Dns => "dns",
            Self::Packet => "packet",
            Self::System => "system",
        }
    }
}

/// Text that is borrowed where the line has no escapes in it. (Behind an `Option`, serde copies a
/// `Cow`.)
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text<'a>(Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowed;

        impl<'de> Visitor<'de> for Borrowed {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Borrowed)
    }
}

/// OCSF `class_uid`.
const CLASS_NETWORK: u16 = 4001;
const CLASS_DNS: u16 = 4003;
const CLASS_SYSTEM: u16 = 6002;
/// OCSF Network Activity `activity_id`.
pub(crate) const OPEN: u8 = 1;
const CLOSE: u8 = 2;
const RESET: u8 = 3;
const FAIL: u8 = 4;
pub(crate) const REFUSE: u8 = 5;
const TRAFFIC: u8 = 6;
/// OCSF `action_id`.
const DENIED: u8 = 2;
const OBSERVED: u8 = 3;
/// TLS ExtensionType of ALPN (RFC 7301).
const EXTENSION_ALPN: u8 = 16;
