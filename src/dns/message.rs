//! Wire format: a device's bytes to a question, a reply to bytes.
//!
//! Nothing here knows what is allowed. Whatever the bytes are, the outcome is a question, a reply that
//! says what is wrong with them, or silence; never a panic.

use std::net::Ipv4Addr;

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::cookie::ClientCookie;

/// How a message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// One question of a device.
#[derive(Clone, Debug)]
pub(super) struct Question {
    /// As asked, with its upper and lower case: devices compare (draft-vixie-dnsext-dns0x20).
    pub(super) query: Query,
    head: Head,
    /// The cookie to be answered.
    pub(super) cookie: Option<ClientCookie>,
}

/// What a reply takes over from its query.
#[derive(Clone, Debug)]
struct Head {
    metadata: Metadata,
    edns: Option<Offered>,
}

/// What a device's OPT record offers.
#[derive(Clone, Copy, Debug)]
struct Offered {
    payload: u16,
    dnssec_ok: bool,
}

/// What a device's bytes are.
#[derive(Debug)]
pub(super) enum Read {
    /// A question.
    Question(Box<Question>),
    /// Something that cannot be answered otherwise than with these bytes.
    Fault(Vec<u8>),
    /// Nothing that anybody answers: an answer, or too short for a header.
    Silence,
}

/// What a question is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) code: ResponseCode,
    pub(super) content: Content,
    /// Extended error (RFC 8914).
    pub(super) error: Option<Extended>,
}

/// The records of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// None.
    Empty,
    /// The name exists, but not with such a record: with the SOA that lets the device remember it for
    /// so many seconds (RFC 2308).
    NoData(u32),
    /// Addresses, with the seconds that they are valid.
    Addresses(Vec<Ipv4Addr>, u32),
    /// Those of another server.
    Forwarded { answers: Vec<Record>, authorities: Vec<Record> },
}

/// An extended error: its code (RFC 8914 section 5.2) and its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extended {
    pub(super) code: u16,
    pub(super) text: &'static str,
}

impl Reply {
    pub(super) fn error(code: ResponseCode, error: Option<Extended>) -> Self {
        Self { code, content: Content::Empty, error }
    }

    pub(super) fn no_data(seconds: u32) -> Self {
        let content = Content::NoData(seconds);
        Self { code: ResponseCode::NoError, content, error: None }
    }
}

/// Reads what a device sent.
pub(super) fn read(bytes: &[u8]) -> Read {
    // The header alone says whether and how a fault can be answered (RFC 1035 section 4.1.1).
    let Some([id @ .., flags, _]) = bytes.first_chunk::<4>() else { return Read::Silence };
    if bytes.len() < HEADER || flags & RESPONSE != 0 {
        return Read::Silence;
    }
    let id = u16::from_be_bytes(*id);
    let op_code = OpCode::from_u8((flags >> 3) & 0x0f);
    let fault = |code| Read::Fault(bare(id, op_code, code));
    if op_code != OpCode::Query {
        return fault(ResponseCode::NotImp);
    }
    // Counted before the rest is read: room is made for as many as the header says.
    if bytes.get(4..6) != Some(&[0, 1]) {
        return fault(ResponseCode::FormErr);
    }
    let Ok(message) = Message::from_vec(bytes) else { return fault(ResponseCode::FormErr) };
    let [query] = message.queries.as_slice() else { return fault(ResponseCode::FormErr) };
    let edns = message.edns.as_ref();
    let head = Head {
        metadata: Metadata::response_from_request(&message.metadata),
        edns: edns
            .map(|edns| Offered { payload: edns.max_payload(), dnssec_ok: edns.flags().dnssec_ok }),
    };
    let cookie = match edns.and_then(|edns| edns.option(EdnsCode::Cookie)) {
        Some(EdnsOption::Unknown(_, data)) => match ClientCookie::read(data) {
            Ok(cookie) => Some(cookie),
            Err(_) => return fault(ResponseCode::FormErr),
        },
        _ => None,
    };
    let question = Question { query: query.clone(), head, cookie };
    if edns.is_some_and(|edns| edns.version() > 0) {
        let reply = Reply::error(ResponseCode::BADVERS, None);
        return Read::Fault(question.encode(&reply, None, Transport::Udp));
    }
    Read::Question(Box::new(question))
}

impl Question {
    /// The type that is asked for.
    pub(super) fn kind(&self) -> RecordType {
        self.query.query_type()
    }

    /// Whether it is about the Internet.
    pub(super) fn is_internet(&self) -> bool {
        self.query.query_class() == DNSClass::IN
    }

    /// The name in presentation form without the last dot; `None` for one that has a dot inside of a
    /// label, which would read like another name.
    pub(super) fn name_bytes(&self) -> Option<Vec<u8>> {
        let mut text = Vec::with_capacity(64);
        for label in self.query.name().iter() {
            if label.contains(&b'.') {
                return None;
            }
            if !text.is_empty() {
                text.push(b'.');
            }
            text.extend_from_slice(label);
        }
        Some(text)
    }

    /// The bytes of a reply. One that does not fit into a datagram that the device takes is cut short
    /// with TC set, so that the device asks again by TCP (RFC 2181 section 9).
    pub(super) fn encode(
        &self,
        reply: &Reply,
        cookie: Option<Vec<u8>>,
        transport: Transport,
    ) -> Vec<u8> {
        let message = self.message(reply, cookie);
        let encoded = message.to_vec();
        let most = match transport {
            Transport::Udp => usize::from(self.most_payload()),
            Transport::Tcp => usize::from(u16::MAX),
        };
        match encoded {
            Ok(bytes) if bytes.len() <= most => bytes,
            Ok(_) => message.truncate().to_vec().unwrap_or_default(),
            // A record of another server's that cannot be written again.
            Err(_) => {
                let (id, op) = (message.metadata.id, message.metadata.op_code);
                bare(id, op, ResponseCode::ServFail)
            }
        }
    }

    /// How large a datagram the device takes (RFC 6891 section 6.2.5), and no larger than what passes
    /// every link unfragmented.
    fn most_payload(&self) -> u16 {
        self.head.edns.map_or(WITHOUT_EDNS, |edns| edns.payload.clamp(WITHOUT_EDNS, PAYLOAD))
    }

    fn message(&self, reply: &Reply, cookie: Option<Vec<u8>>) -> Message {
        let mut message = Message::new(self.head.metadata.id, MessageType::Response, OpCode::Query);
        message.metadata = self.head.metadata;
        message.metadata.recursion_available = true;
        message.metadata.response_code = reply.code;
        message.add_query(self.query.clone());
        let owner = || self.query.name().clone();
        match &reply.content {
            Content::Empty => {}
            Content::NoData(seconds) => {
                message.add_authority(soa(owner(), *seconds));
            }
            Content::Addresses(addresses, seconds) => {
                let record =
                    |ip: &Ipv4Addr| Record::from_rdata(owner(), *seconds, RData::A(A(*ip)));
                message.add_answers(addresses.iter().map(record));
            }
            Content::Forwarded { answers, authorities } => {
                message.add_answers(answers.iter().cloned());
                message.add_authorities(authorities.iter().cloned());
            }
        }
        if let Some(offered) = self.head.edns {
            message.set_edns(own_edns(offered, reply, cookie));
        }
        message
    }
}

fn own_edns(offered: Offered, reply: &Reply, cookie: Option<Vec<u8>>) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD).set_version(0).set_dnssec_ok(offered.dnssec_ok);
    edns.set_rcode_high(reply.code.high());
    let options = edns.options_mut();
    if let Some(cookie) = cookie {
        options.insert(EdnsOption::Unknown(EdnsCode::Cookie.into(), cookie));
    }
    if let Some(error) = reply.error {
        let mut data = error.code.to_be_bytes().to_vec();
        data.extend_from_slice(error.text.as_bytes());
        options.insert(EdnsOption::Unknown(EXTENDED_ERROR, data));
    }
    edns
}

/// A reply of a header alone.
fn bare(id: u16, op_code: OpCode, code: ResponseCode) -> Vec<u8> {
    Message::error_msg(id, op_code, code).to_vec().unwrap_or_default()
}

/// The private hosted zone of an endpoint is called like the endpoint, so its apex is the name.
fn soa(owner: Name, seconds: u32) -> Record {
    let none = || Name::from_labels([&b"invalid"[..]]).unwrap_or_else(|_| Name::root());
    let data = SOA::new(none(), none(), 1, 3_600, 600, 86_400, seconds);
    Record::from_rdata(owner, seconds, RData::SOA(data))
}

/// RFC 1035 section 4.1.1.
const HEADER: usize = 12;
/// The QR bit of the first byte of flags.
const RESPONSE: u8 = 0x80;
/// RFC 1035 section 4.2.1.
const WITHOUT_EDNS: u16 = 512;
/// The least that IPv6 carries unfragmented, less headers: what the DNS operators agreed on in 2020.
const PAYLOAD: u16 = 1_232;
/// RFC 8914 section 2.
const EXTENDED_ERROR: u16 = 15;
