//! Questions for the plant's own zones, asked of the plant's own servers.
//!
//! The configuration lets these be in `devices.networks` only, and the sockets have the mark of answers
//! to devices, which leaves by device interfaces only: nothing a device asks gets into a tunnel here.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use aws_lc_rs::rand;
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::message::{Content, Extended, Reply};
use crate::net::socket;

/// Asks the plant's servers.
#[derive(Debug)]
pub(super) struct Forwarder {
    places: Semaphore,
}

/// The reply of a server, or that none came.
#[derive(Debug)]
pub(super) struct Relayed {
    pub(super) reply: Reply,
    /// Whose it is.
    pub(super) server: Option<SocketAddr>,
}

impl Forwarder {
    pub(super) fn new() -> Self {
        Self { places: Semaphore::new(AT_ONCE) }
    }

    /// Asks one server after the other until one answers.
    pub(super) async fn ask(&self, query: &Query, servers: &[SocketAddr]) -> Relayed {
        let nobody = || {
            let error = Extended { code: UNREACHABLE, text: "no server of the zone answers" };
            let reply = Reply::error(ResponseCode::ServFail, Some(error));
            Relayed { reply, server: None }
        };
        let Ok(_place) = self.places.try_acquire() else { return nobody() };
        let mut last = nobody();
        for server in servers.iter().take(MOST_SERVERS) {
            let Ok(Ok(message)) = timeout(PATIENCE, ask_one(query, *server)).await else {
                continue;
            };
            let code = message.metadata.response_code;
            let (answers, authorities) = (message.answers, message.authorities);
            let content = Content::Forwarded { answers, authorities };
            let reply = Reply { code, content, error: None };
            last = Relayed { reply, server: Some(*server) };
            if !matches!(code, ResponseCode::ServFail | ResponseCode::Refused) {
                break;
            }
        }
        last
    }
}

async fn ask_one(query: &Query, server: SocketAddr) -> io::Result<Message> {
    let mut id = [0; 2];
    rand::fill(&mut id).map_err(|_| io::Error::other("no random numbers"))?;
    let mut question = Message::new(u16::from_be_bytes(id), MessageType::Query, OpCode::Query);
    question.metadata.recursion_desired = true;
    question.add_query(query.clone());
    let bytes = question.to_vec().map_err(io::Error::other)?;
    let socket = socket::plant_udp(server)?;
    socket.connect(server).await?;
    socket.send(&bytes).await?;
    let mut buffer = vec![0; LARGEST];
    loop {
        let size = socket.recv(&mut buffer).await?;
        // Anything else is not the answer, whoever sent it.
        let Some(answer) = buffer.get(..size).and_then(|bytes| answer_to(&question, bytes)) else {
            continue;
        };
        if answer.metadata.truncation {
            return ask_by_tcp(&question, &bytes, server).await;
        }
        return Ok(answer);
    }
}

async fn ask_by_tcp(question: &Message, bytes: &[u8], server: SocketAddr) -> io::Result<Message> {
    let mut stream = socket::plant_tcp(server)?.connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), bytes].concat()).await?;
    let size = stream.read_u16().await?;
    let mut buffer = vec![0; usize::from(size)];
    stream.read_exact(&mut buffer).await?;
    answer_to(question, &buffer).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn answer_to(question: &Message, bytes: &[u8]) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let fits = answer.metadata.id == question.metadata.id
        && answer.metadata.message_type == MessageType::Response
        && answer.queries == question.queries;
    fits.then_some(answer)
}

/// Questions under way.
const AT_ONCE: usize = 256;
/// Two servers fit into a device's patience.
const MOST_SERVERS: usize = 3;
const PATIENCE: Duration = Duration::from_millis(800);
/// Without EDNS an answer has at most 512 bytes (RFC 1035 section 4.2.1); some servers send more.
const LARGEST: usize = 4_096;
/// RFC 8914 section 4.23.
const UNREACHABLE: u16 = 22;
