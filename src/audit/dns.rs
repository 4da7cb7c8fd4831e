//! Records of devices' DNS questions, counted together: OCSF 1.8.0 DNS Activity.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use super::inbox::Shared;
use super::packets::{protocol_name, unix_ms};
use super::{clock, kind, record};
use crate::config::MacAddr;
use crate::reason::Reason;

/// Questions that are alike, counted together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsQueries {
    /// Who asked; `None` for several.
    pub device: Option<DnsDevice>,
    /// What for.
    pub names: DnsNames,
    /// The response code (IANA), with the bits of EDNS.
    pub code: u16,
    /// Why there was no answer.
    pub reason: Option<Reason>,
    /// The policy's own reason behind it.
    pub why: Option<Reason>,
    /// The fact behind it.
    pub detail: Option<String>,
    /// What to do, where there is more to say than the reason's own remedy.
    pub remedy: Option<String>,
    /// Hash of the configuration in force.
    pub policy: Arc<str>,
    /// The rule that decided.
    pub rule: Option<Arc<str>>,
    /// The `[endpoint.*]` table.
    pub endpoint: Option<Arc<str>>,
    /// The endpoint service.
    pub service: Option<Arc<str>>,
    /// What the first of them was answered with.
    pub answers: DnsAnswers,
    /// The server of the plant's own that answered.
    pub forwarded_to: Option<SocketAddr>,
    /// The resolver that the device asked.
    pub to: SocketAddr,
    /// The number of the transport's protocol (IANA).
    pub protocol: u8,
    /// How many.
    pub count: u64,
    /// When the first of them came.
    pub first: SystemTime,
    /// When the last of them came.
    pub began: SystemTime,
    /// When the last of them was answered.
    pub last: SystemTime,
}

/// Who asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsDevice {
    /// Its address.
    pub address: IpAddr,
    /// Its hardware address, where known.
    pub mac: Option<MacAddr>,
    /// The `[[device]]` entry's name.
    pub name: Option<Arc<str>>,
    /// What it was recognised by: `mac`, `address`, `network` or `none`.
    pub identity: &'static str,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsNames {
    /// One name, and the type of record.
    One {
        /// In lower case, without the last dot.
        name: String,
        /// For example `A`.
        kind: String,
    },
    /// Several names, of which these are some.
    Several(Vec<String>),
}

/// What a question was answered with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsAnswers {
    /// The addresses, in their order.
    pub addresses: Vec<Ipv4Addr>,
    /// How long they are valid.
    pub seconds: u32,
}

#[derive(Serialize)]
struct DnsRecord<'a> {
    metadata: record::Metadata<'a>,
    #[serde(flatten)]
    class: record::Class,
    time: u64,
    query_time: u64,
    response_time: u64,
    start_time: u64,
    end_time: u64,
    duration: u64,
    count: u64,
    status_code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_detail: Option<&'a str>,
    policy: record::Policy<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    firewall_rule: Option<record::FirewallRule<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<Query<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    answers: Vec<Answer>,
    rcode_id: u8,
    rcode: &'static str,
    src_endpoint: record::SrcEndpoint<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dst_endpoint: Option<record::DstEndpoint<'a>>,
    connection_info: record::ConnectionInfo<'a>,
    device: record::Device<'a>,
    unmapped: record::Unmapped<'a>,
}

#[derive(Serialize)]
struct Query<'a> {
    hostname: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    class: &'static str,
    opcode_id: u8,
    opcode: &'static str,
}

#[derive(Serialize)]
struct Answer {
    rdata: Ipv4Addr,
    #[serde(rename = "type")]
    kind: &'static str,
    class: &'static str,
    ttl: u32,
}

/// The body of a record of questions.
pub(super) fn body(shared: &Shared, queries: &DnsQueries) -> Vec<u8> {
    let first = unix_ms(queries.first);
    let began = unix_ms(queries.began).max(first);
    let last = unix_ms(queries.last).max(began);
    let reason = queries.reason;
    let (rcode_id, rcode) = response_code(queries.code);
    let kind = match reason {
        None => &kind::DNS_ANSWERED,
        // Allowed, but without an answer that may be used.
        Some(_) if rcode_id == SERVFAIL => &kind::DNS_FAILED,
        Some(_) => &kind::DNS_REFUSED,
    };
    let samples = match &queries.names {
        DnsNames::Several(samples) if !samples.is_empty() => Some(samples.as_slice()),
        _ => None,
    };
    record::body(&DnsRecord {
        metadata: record::Metadata::dns(&shared.site),
        class: record::Class::dns(kind),
        time: last,
        query_time: began,
        response_time: last,
        start_time: first,
        end_time: last,
        duration: last.saturating_sub(first),
        count: queries.count,
        status_code: reason.map_or(ANSWERED, Reason::code),
        status_detail: reason.map(Reason::sentence),
        policy: record::Policy::applied(&shared.site, &queries.policy),
        firewall_rule: queries.rule.as_deref().map(|rule| record::FirewallRule::new(rule, MATCHED)),
        query: query(&queries.names),
        answers: answers(&queries.answers),
        rcode_id,
        rcode,
        src_endpoint: source(queries.device.as_ref()),
        dst_endpoint: queries.device.as_ref().map(|_| record::DstEndpoint {
            hostname: None,
            ip: queries.to.ip(),
            port: Some(queries.to.port()),
            svc_name: queries.service.as_deref(),
            proxy_endpoint: None,
        }),
        connection_info: record::ConnectionInfo {
            uid: None,
            direction_id: kind::OUTBOUND,
            protocol_num: queries.protocol,
            protocol_name: protocol_name(queries.protocol),
            protocol_ver_id: queries.device.as_ref().map(|device| kind::ip_version(device.address)),
            boundary_id: None,
            community_uid: None,
            flag_history: None,
        },
        device: record::Device::new(&shared.site, &shared.region),
        unmapped: record::Unmapped { egress: egress(shared, queries, samples) },
    })
}

fn egress<'a>(
    shared: &Shared,
    queries: &'a DnsQueries,
    names: Option<&'a [String]>,
) -> record::Egress<'a> {
    let reason = queries.reason;
    let remedy = queries.remedy.as_deref();
    record::Egress {
        v: kind::EGRESS_VERSION,
        reason: reason.map(Reason::code),
        stage: reason.map(|reason| reason.stage().as_str()),
        detail: queries.why.map(Reason::code).or(queries.detail.as_deref()),
        remedy: remedy.or_else(|| Some(queries.why.or(reason)?.remedy())),
        identity: queries.device.as_ref().map(|device| device.identity),
        endpoint: queries.endpoint.as_deref(),
        names,
        forwarded_to: queries.forwarded_to,
        clock: shared.clock(),
        mono_ns: clock::mono_ns(),
        ..record::Egress::default()
    }
}

fn query(names: &DnsNames) -> Option<Query<'_>> {
    match names {
        DnsNames::One { name, kind } => {
            Some(Query { hostname: name, kind, class: "IN", opcode_id: 0, opcode: "Query" })
        }
        DnsNames::Several(_) => None,
    }
}

fn answers(answers: &DnsAnswers) -> Vec<Answer> {
    let answer = |address: &Ipv4Addr| Answer {
        rdata: *address,
        kind: "A",
        class: "IN",
        ttl: answers.seconds,
    };
    answers.addresses.iter().map(answer).collect()
}

fn source(device: Option<&DnsDevice>) -> record::SrcEndpoint<'_> {
    let Some(device) = device else { return record::SrcEndpoint::several() };
    record::SrcEndpoint {
        uid: device.name.as_deref(),
        name: device.name.as_deref(),
        ip: Some(device.address.to_canonical()),
        port: None,
        mac: device.mac.map(record::Text),
        type_id: kind::TYPE_IOT,
    }
}

/// OCSF `rcode_id` and caption; 99 for what it does not list.
fn response_code(code: u16) -> (u8, &'static str) {
    match code {
        0 => (0, "NoError"),
        1 => (1, "FormError"),
        2 => (SERVFAIL, "ServError"),
        3 => (3, "NXDomain"),
        4 => (4, "NotImp"),
        5 => (5, "Refused"),
        _ => (99, "Other"),
    }
}

/// `status_code` of an answer.
const ANSWERED: &str = "answered";
const SERVFAIL: u8 = 2;
/// What a rule was matched against.
const MATCHED: &str = "dns.query";
