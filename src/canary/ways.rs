//! One attempt: what is sent, and what of what comes back can only come from outside.
//!
//! The gate answers devices too: it takes connections to intercepted ports, and it may answer DNS in
//! every resolver's name. What it says there is known exactly, and everything else is a leak.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RecordType};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, ClientConnection, RootCertStore, pki_types};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Attempt, CanaryError, Outcome, Way};
use crate::attempt::{self, Failure};
use crate::config::{Dns, ForeignDns};
use crate::hello::alert::alert_for;
use crate::name::ServerName;
use crate::reason::Reason;

/// What an attempt needs to know of the configuration.
pub(super) struct Circumstances<'a> {
    /// The ports on which the gate itself takes connections.
    ports: &'a [u16],
    answers_dns: AnswersDns,
    hello: Vec<u8>,
    question: Vec<u8>,
}

/// Whether the gate answers questions to every resolver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AnswersDns {
    Yes,
    No,
}

impl<'a> Circumstances<'a> {
    pub(super) fn new(name: &ServerName, ports: &'a [u16], dns: &Dns) -> Result<Self, CanaryError> {
        let redirected = dns.lan().is_some_and(|lan| lan.foreign == ForeignDns::Redirect);
        let answers_dns = if redirected { AnswersDns::Yes } else { AnswersDns::No };
        Ok(Self { ports, answers_dns, hello: hello(name)?, question: question(name)? })
    }

    /// Tries one way.
    pub(super) async fn attempt(&self, way: Way, target: IpAddr) -> Attempt {
        let port = |port| SocketAddr::new(target, port);
        let trying = async {
            match way {
                Way::Https => self.tcp(port(443)).await,
                Way::Http => self.tcp(port(80)).await,
                Way::DnsTcp if self.answers_dns == AnswersDns::Yes => {
                    self.ask_by_tcp(port(53)).await
                }
                Way::DnsTcp => self.tcp(port(53)).await,
                Way::DnsTls => self.tcp(port(853)).await,
                Way::Dns => self.ask(port(53)).await,
                Way::Quic => quic(port(443)).await,
                Way::DnsQuic => quic(port(853)).await,
                Way::Echo => {
                    attempt::echo(target, PATIENCE).await.map(|()| "it answers".to_owned())
                }
            }
        };
        let outcome = attempt::within(PATIENCE, trying).await;
        let (outcome, detail) = judge(outcome, target);
        Attempt { way, target, outcome, detail }
    }

    /// A connection. Where the gate takes it, what comes behind the hello decides.
    async fn tcp(&self, to: SocketAddr) -> Result<String, Failure> {
        if !self.ports.contains(&to.port()) {
            return attempt::tcp_connect(to, PATIENCE)
                .await
                .map(|_| "it takes connections".to_owned());
        }
        match attempt::exchange(to, &self.hello, PATIENCE).await {
            Ok(_) => Ok("it answers the hello".to_owned()),
            // A server with a name of its own refuses the hello too, but not in the gate's words.
            Err(Failure::TlsAlert(alert)) if !is_of_the_gate(alert) => {
                Ok(format!("it answers the hello with the TLS alert {alert}"))
            }
            Err(failure) => Err(failure),
        }
    }

    async fn ask(&self, to: SocketAddr) -> Result<String, Failure> {
        let answer = attempt::udp_exchange(to, &self.question, PATIENCE).await?;
        match self.answers_dns {
            AnswersDns::Yes => read(&answer),
            AnswersDns::No => Ok("it answers".to_owned()),
        }
    }

    async fn ask_by_tcp(&self, to: SocketAddr) -> Result<String, Failure> {
        let failed = |error: std::io::Error| Failure::of(&error);
        let mut stream = attempt::tcp_connect(to, PATIENCE).await?;
        let length = u16::try_from(self.question.len()).unwrap_or(u16::MAX);
        let framed = [&length.to_be_bytes(), self.question.as_slice()].concat();
        stream.write_all(&framed).await.map_err(failed)?;
        let length = stream.read_u16().await.map_err(failed)?;
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await.map_err(failed)?;
        read(&answer)
    }
}

/// What an attempt proves. Its success is the leak, and so is the target's own refusal.
fn judge(outcome: Result<String, Failure>, target: IpAddr) -> (Outcome, String) {
    match outcome {
        Ok(how) => (Outcome::Leaked, how),
        Err(failure) => {
            let outcome = match failure {
                Failure::Icmp { from, .. } if from == target => Outcome::Leaked,
                Failure::TimedOut => Outcome::Silent,
                Failure::Unreachable(_) | Failure::Unexpected(_) => Outcome::Untried,
                _ => Outcome::Refused,
            };
            (outcome, failure.to_string())
        }
    }
}

/// What a resolver says of a name that nobody may ask for: the gate refuses it, or denies that there
/// is one, and says why in its own words. Others refuse too, for example what is not their zone.
fn read(answer: &[u8]) -> Result<String, Failure> {
    let Ok(message) = Message::from_vec(answer) else {
        return Ok("it answers with something else than DNS".to_owned());
    };
    let code = message.metadata.response_code;
    let refused = matches!(code, ResponseCode::Refused | ResponseCode::NXDomain);
    match message.answers.len() {
        0 if refused && reason_of_the_gate(&message).is_some() => Err(Failure::Refused),
        0 => Ok(format!("it answers the question with {code}")),
        records => Ok(format!("it answers the question with {records} records")),
    }
}

/// The reason in an extended error, if it is one of the gate's.
fn reason_of_the_gate(message: &Message) -> Option<Reason> {
    let option = message.edns.as_ref()?.option(EdnsCode::from(EXTENDED_ERROR))?;
    let EdnsOption::Unknown(_, data) = option else { return None };
    Reason::from_code(std::str::from_utf8(data.get(2..)?).ok()?)
}

/// Whether an alert is the one that the gate has for a hello that it does not let pass.
fn is_of_the_gate(alert: u8) -> bool {
    alert_for(Reason::NameNotAllowed, Some(TLS_1_2)).is_some_and(|own| own.description == alert)
}

/// Any answer can only come from outside: the gate speaks no QUIC.
async fn quic(to: SocketAddr) -> Result<String, Failure> {
    attempt::udp_exchange(to, &initial(), PATIENCE).await.map(|_| "it answers".to_owned())
}

/// A ClientHello as a device of today sends it.
fn hello(name: &ServerName) -> Result<Vec<u8>, CanaryError> {
    let failed = |error: &dyn std::fmt::Display| CanaryError::NoHello(error.to_string());
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = pki_types::ServerName::try_from(name.to_string()).map_err(|error| failed(&error))?;
    let mut connection =
        ClientConnection::new(Arc::new(config), name).map_err(|error| failed(&error))?;
    let mut hello = Vec::new();
    while connection.wants_write() {
        connection.write_tls(&mut hello).map_err(|error| failed(&error))?;
    }
    Ok(hello)
}

fn question(name: &ServerName) -> Result<Vec<u8>, CanaryError> {
    let failed = |error: &dyn std::fmt::Display| CanaryError::NoHello(error.to_string());
    let name = Name::from_ascii(format!("{name}.")).map_err(|error| failed(&error))?;
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, RecordType::A));
    // Without it nobody says why (RFC 8914 section 3).
    message.set_edns(Edns::new());
    message.to_vec().map_err(|error| failed(&error))
}

/// A QUIC packet of a version that is reserved so that every server answers with those it knows
/// (RFC 9000 sections 6.1, 14.1 and 15).
fn initial() -> Vec<u8> {
    let mut packet = vec![0xc0, 0x1a, 0x2a, 0x3a, 0x4a];
    for connection_id in [[0x53_u8; 8], [0x47; 8]] {
        packet.push(8);
        packet.extend(connection_id);
    }
    packet.resize(LEAST_INITIAL, 0);
    packet
}

/// How long one attempt may take as a whole.
pub(super) const PATIENCE: Duration = Duration::from_secs(4);
const TLS_1_2: u16 = 0x0303;
/// RFC 8914 section 2.
const EXTENDED_ERROR: u16 = 15;
/// RFC 9000 section 14.1.
const LEAST_INITIAL: usize = 1_200;

#[cfg(test)]
mod tests {
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{RData, Record};

    use super::*;

    fn name() -> ServerName {
        let parsed = ServerName::parse(b"example.com", crate::name::Underscore::Refuse);
        parsed.expect("a name").name
    }

    fn answer(code: ResponseCode, records: usize, why: &str) -> Vec<u8> {
        let mut message = Message::from_vec(&question(&name()).unwrap()).unwrap();
        message.metadata.response_code = code;
        let why = [&[0, 18], why.as_bytes()].concat();
        let mut edns = Edns::new();
        edns.options_mut().insert(EdnsOption::Unknown(EXTENDED_ERROR, why));
        message.set_edns(edns);
        let owner = Name::from_ascii("example.com.").unwrap();
        let record = Record::from_rdata(owner, 60, RData::A(A::new(192, 0, 2, 1)));
        message.add_answers(std::iter::repeat_n(record, records));
        message.to_vec().unwrap()
    }

    #[test]
    fn only_the_gates_own_refusal_is_one() {
        let own = Reason::NameNotAllowed.code();
        for code in [ResponseCode::Refused, ResponseCode::NXDomain] {
            assert_eq!(read(&answer(code, 0, own)), Err(Failure::Refused), "{code}");
            assert!(read(&answer(code, 1, own)).is_ok(), "{code} with a record");
            for others in ["", "not authoritative", "name_not_allowed."] {
                assert!(read(&answer(code, 0, others)).is_ok(), "{code} by {others}");
            }
            let mut silent = Message::from_vec(&answer(code, 0, own)).unwrap();
            silent.edns = None;
            assert!(read(&silent.to_vec().unwrap()).is_ok(), "{code} without a reason");
        }
        for code in [ResponseCode::NoError, ResponseCode::ServFail, ResponseCode::NotImp] {
            assert!(read(&answer(code, 0, own)).is_ok(), "{code}");
        }
        assert!(read(b"hello").is_ok());
        assert!(is_of_the_gate(49) && !is_of_the_gate(40) && !is_of_the_gate(112));
    }

    #[test]
    fn what_was_not_sent_proves_nothing_and_the_targets_word_is_a_leak() {
        let target = IpAddr::from([192, 0, 2, 1]);
        let judged = |outcome| judge(outcome, target).0;
        let unreachable = Failure::Unreachable("no route".to_owned());
        assert_eq!(judged(Err(unreachable)), Outcome::Untried);
        assert_eq!(judged(Err(Failure::TimedOut)), Outcome::Silent);
        assert_eq!(judged(Err(Failure::Reset)), Outcome::Refused);
        assert_eq!(judged(Err(Failure::Closed)), Outcome::Refused);
        assert_eq!(judged(Ok(String::new())), Outcome::Leaked);
        let icmp = |from| Failure::Icmp { kind: 3, code: 3, from };
        assert_eq!(judged(Err(icmp([10, 10, 0, 1].into()))), Outcome::Refused);
        assert_eq!(judged(Err(icmp(target))), Outcome::Leaked);
    }

    #[test]
    fn the_hello_asks_for_the_name() {
        let mut reader = crate::hello::HelloReader::new();
        let hello = hello(&name()).unwrap();
        let crate::hello::Progress::Hello(read) = reader.push(&hello) else {
            panic!("the whole hello in one piece")
        };
        assert_eq!(read.name, name());
    }
}
