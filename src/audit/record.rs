//! The shape of a record: OCSF 1.8.0 Network Activity as structs that serialise themselves.
//!
//! A body is a whole record but for what only the writer knows: sequence, time of writing and the
//! link to the line before. [`append_line`] puts these in. For that `metadata` is the first member
//! and `unmapped` the last one, with `egress` alone in it; [`body`] is the only way to make a body.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::Write as _;
use std::net::IpAddr;

use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::chain::{Hex, Link, Prefixed};
use super::kind::{self, Kind};
use super::sign::{Context, SigningKey};
use super::uid;
use super::{NoteFacts, TrafficFacts};
use crate::config::MacAddr;

/// One record.
#[derive(Serialize)]
pub(super) struct Record<'a> {
    pub(super) metadata: Metadata<'a>,
    #[serde(flatten)]
    pub(super) class: Class,
    pub(super) time: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) start_time: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) end_time: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) duration: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) count: Option<u64>,
    pub(super) status_code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status_detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) policy: Option<Policy<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) firewall_rule: Option<FirewallRule<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) app_protocol_name: Option<&'static str>,
    pub(super) src_endpoint: SrcEndpoint<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dst_endpoint: Option<DstEndpoint<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connection_info: Option<ConnectionInfo<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) proxy_endpoint: Option<ProxyEndpoint<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) traffic: Option<Traffic>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cumulative_traffic: Option<Traffic>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tls: Option<Tls<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ja4_fingerprint_list: Option<[Fingerprint<'a>; 1]>,
    pub(super) device: Device<'a>,
    pub(super) unmapped: Unmapped<'a>,
}

/// Where a record comes from and which flow it belongs to.
#[derive(Serialize)]
pub(super) struct Metadata<'a> {
    version: &'static str,
    product: Product,
    profiles: &'static [&'static str],
    log_name: &'static str,
    log_version: &'static str,
    uid: Uid,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_uid: Option<Uid>,
    tenant_uid: &'a str,
}

impl<'a> Metadata<'a> {
    pub(super) fn new(
        site: &'a str,
        profiles: &'static [&'static str],
        flow: Option<Uuid>,
    ) -> Self {
        Self {
            version: kind::OCSF_VERSION,
            product: Product::this(),
            profiles,
            log_name: kind::LOG_NAME,
            log_version: kind::LOG_VERSION,
            uid: Uid(uid::fresh()),
            correlation_uid: flow.map(Uid),
            tenant_uid: site,
        }
    }

    /// Of a record of devices' DNS questions.
    pub(super) fn dns(site: &'a str) -> Self {
        Self { log_name: kind::LOG_NAME_DNS, ..Self::new(site, kind::PROFILES_REFUSED, None) }
    }

    /// Of a record of the box's own.
    pub(super) fn system(site: &'a str) -> Self {
        Self { log_name: kind::LOG_NAME_SYSTEM, ..Self::new(site, kind::PROFILES_SYSTEM, None) }
    }
}

/// This program.
#[derive(Serialize)]
pub(super) struct Product {
    vendor_name: &'static str,
    name: &'static str,
    version: &'static str,
}

impl Product {
    pub(super) fn this() -> Self {
        Self { vendor_name: kind::PRODUCT, name: kind::PRODUCT, version: kind::PRODUCT_VERSION }
    }
}

/// A row of the table in `kind`, spelt out.
#[derive(Serialize)]
pub(super) struct Class {
    category_uid: u8,
    class_uid: u16,
    class_name: &'static str,
    activity_id: u8,
    activity_name: &'static str,
    type_uid: u32,
    severity_id: u8,
    status_id: u8,
    status: &'static str,
    action_id: u8,
    action: &'static str,
    disposition_id: u8,
    disposition: &'static str,
    is_alert: bool,
}

impl From<&Kind> for Class {
    fn from(kind: &Kind) -> Self {
        Self {
            category_uid: kind::CATEGORY_UID,
            class_uid: kind::CLASS_UID,
            class_name: kind::CLASS_NAME,
            activity_id: kind.activity.0,
            activity_name: kind.activity.1,
            type_uid: kind.type_uid(),
            severity_id: kind.severity,
            status_id: kind.status.0,
            status: kind.status.1,
            action_id: kind.action.0,
            action: kind.action.1,
            disposition_id: kind.disposition.0,
            disposition: kind.disposition.1,
            is_alert: kind.is_alert(),
        }
    }
}

impl Class {
    /// A row of DNS Activity.
    pub(super) fn dns(kind: &Kind) -> Self {
        Self {
            class_uid: kind::CLASS_UID_DNS,
            class_name: kind::CLASS_NAME_DNS,
            type_uid: u32::from(kind::CLASS_UID_DNS) * 100 + u32::from(kind.activity.0),
            ..Self::from(kind)
        }
    }
}

#[derive(Serialize)]
pub(super) struct Policy<'a> {
    pub(super) uid: Text<Prefixed<&'a str>>,
    pub(super) name: &'a str,
    pub(super) version: &'a str,
    pub(super) is_applied: bool,
}

impl<'a> Policy<'a> {
    /// The configuration with this hash.
    pub(super) fn applied(site: &'a str, hash: &'a str) -> Self {
        let version = hash.get(..SHORT_HASH).unwrap_or(hash);
        Self { uid: Text(Prefixed(hash)), name: site, version, is_applied: true }
    }
}

#[derive(Serialize)]
pub(super) struct FirewallRule<'a> {
    uid: &'a str,
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    match_location: &'static str,
}

impl<'a> FirewallRule<'a> {
    /// A rule of the policy, and what it was matched against.
    pub(super) fn new(name: &'a str, match_location: &'static str) -> Self {
        let kind = match name {
            "learn" => "learn",
            name if name.starts_with("device ") => "device",
            _ => "default",
        };
        Self { uid: name, name, kind, match_location }
    }
}

#[derive(Serialize)]
pub(super) struct SrcEndpoint<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) uid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mac: Option<Text<MacAddr>>,
    pub(super) type_id: u8,
}

impl SrcEndpoint<'_> {
    /// Behind a record that counts many. OCSF wants an endpoint with a name or address.
    pub(super) fn several() -> Self {
        Self {
            uid: None,
            name: Some("several devices"),
            ip: None,
            port: None,
            mac: None,
            type_id: kind::TYPE_IOT,
        }
    }
}

#[derive(Serialize)]
pub(super) struct DstEndpoint<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hostname: Option<&'a str>,
    pub(super) ip: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) svc_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) proxy_endpoint: Option<ProxyEndpoint<'a>>,
}

/// The ENI behind the address that the device dialled, or the box's own outgoing address.
#[derive(Serialize)]
pub(super) struct ProxyEndpoint<'a> {
    pub(super) ip: IpAddr,
    pub(super) port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) interface_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) zone: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct ConnectionInfo<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) uid: Option<Uid>,
    pub(super) direction_id: u8,
    pub(super) protocol_num: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) protocol_name: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) protocol_ver_id: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) boundary_id: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) community_uid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) flag_history: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct Traffic {
    bytes: u64,
    bytes_out: u64,
    bytes_in: u64,
}

impl From<TrafficFacts> for Traffic {
    fn from(facts: TrafficFacts) -> Self {
        let bytes = facts.up.saturating_add(facts.down);
        Self { bytes, bytes_out: facts.up, bytes_in: facts.down }
    }
}

#[derive(Serialize)]
pub(super) struct Tls<'a> {
    pub(super) version: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cipher: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sni: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) alert: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tls_extension_list: Option<[TlsExtension<'a>; 1]>,
}

#[derive(Serialize)]
pub(super) struct TlsExtension<'a> {
    pub(super) type_id: u8,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) data: &'a [String],
}

#[derive(Serialize)]
pub(super) struct Fingerprint<'a> {
    pub(super) type_id: u8,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) value: &'a str,
}

/// The box.
#[derive(Serialize)]
pub(super) struct Device<'a> {
    uid: &'a str,
    name: &'a str,
    type_id: u8,
    region: &'a str,
}

impl<'a> Device<'a> {
    pub(super) fn new(site: &'a str, region: &'a str) -> Self {
        Self { uid: site, name: site, type_id: kind::TYPE_FIREWALL, region }
    }
}

#[derive(Serialize)]
pub(super) struct Unmapped<'a> {
    pub(super) egress: Egress<'a>,
}

/// What OCSF has no place for.
#[derive(Default, Serialize)]
pub(super) struct Egress<'a> {
    pub(super) v: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stage: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) identity: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) endpoint: Option<&'a str>,
    /// `address` where the hello has no name, and the dialled address stands for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name_from: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tls_version_from: Option<&'static str>,
    /// The alert behind `tls.alert`: whose it is, and its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tls_alert: Option<TlsAlert>,
    /// What the endpoint will have against the hello.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) outlook: Option<&'a [NoteFacts]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ech: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) notes: Option<&'a [String]>,
    /// The device has not shown this fingerprint before, but another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ja4_new: Option<bool>,
    /// Learn mode: the reason that was not enforced, in every record of the flow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) would_refuse: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_bytes: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) alert: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dns: Option<DnsPart<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) connect_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) destination_match: Option<bool>,
    /// Some of the places to which counted packets went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) destinations: Option<&'a [String]>,
    /// Some of the names of counted questions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) names: Option<&'a [String]>,
    /// The DNS server of the plant's own that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) forwarded_to: Option<std::net::SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) conn_state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) spliced: Option<u64>,
    pub(super) clock: &'static str,
    pub(super) mono_ns: u64,
}

#[derive(Serialize)]
pub(super) struct TlsAlert {
    pub(super) from: &'static str,
    pub(super) level: &'static str,
    /// The number where it has no name.
    pub(super) name: Cow<'static, str>,
}

#[derive(Serialize)]
pub(super) struct DnsPart<'a> {
    pub(super) resolver: std::net::SocketAddr,
    pub(super) ttl: u32,
    pub(super) age_ms: u64,
    pub(super) last_good: bool,
    pub(super) addresses: &'a [IpAddr],
}

/// A UUID as records spell it.
#[derive(Clone, Copy)]
pub(super) struct Uid(pub(super) Uuid);

impl Serialize for Uid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.hyphenated().encode_lower(&mut Uuid::encode_buffer()))
    }
}

/// Anything that displays itself, as a string.
pub(super) struct Text<T>(pub(super) T);

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Serialises a record but for what [`append_line`] adds.
pub(super) fn body(record: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(TYPICAL_BODY);
    serde_json::to_writer(&mut bytes, record)
        .expect("a record has string keys only, and a Vec takes every write");
    debug_assert!(bytes.starts_with(HEAD) && bytes.ends_with(TAIL), "metadata first, egress last");
    bytes
}

/// Appends the line of a body, without its newline, and returns where it begins. With a key the
/// line is signed.
pub(super) fn append_line(
    out: &mut Vec<u8>,
    body: &[u8],
    chain: &str,
    link: &Link,
    logged: u64,
    key: Option<&SigningKey>,
) -> usize {
    let start = out.len();
    let inner = body.strip_prefix(HEAD).and_then(|rest| rest.strip_suffix(TAIL));
    let inner = inner.expect("`body` made it, so metadata is first and egress is last");
    let seq = link.seq;
    out.extend_from_slice(HEAD);
    let _ = write!(out, "\"sequence\":{seq},\"logged_time\":{logged},");
    out.extend_from_slice(inner);
    out.extend_from_slice(b"},\"chain\":{\"id\":");
    let _ = serde_json::to_writer(&mut *out, chain);
    let _ = write!(out, ",\"seq\":{seq},\"prev\":\"{}\"", Prefixed(Hex(&link.prev)));
    match key {
        Some(key) => key.seal(Context::Line, out, start),
        None => out.extend_from_slice(TAIL),
    }
    start
}

/// How much of the policy's hash names its version to people.
const SHORT_HASH: usize = 12;
const HEAD: &[u8] = b"{\"metadata\":{";
/// The ends of `egress`, `unmapped` and the record.
const TAIL: &[u8] = b"}}}";
const TYPICAL_BODY: usize = 2048;
