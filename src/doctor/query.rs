//! One question to one resolver by one way, and whatever it answers.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::name::ServerName;
use crate::net::socket::{self, Way};

/// What came back.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// What the resolver says of it.
    pub(super) code: ResponseCode,
    /// The IPv4 addresses in it.
    pub(super) addresses: Vec<Ipv4Addr>,
    /// How long it took.
    pub(super) took: Duration,
}

/// Asks for the addresses of a name.
pub(super) async fn addresses(
    way: &Way,
    resolver: SocketAddr,
    name: &ServerName,
) -> io::Result<Answer> {
    let name = Name::from_ascii(format!("{name}.")).map_err(io::Error::other)?;
    ask(way, resolver, Query::query(name, RecordType::A)).await
}

/// Asks what every resolver knows.
pub(super) async fn soa_of_root(way: &Way, resolver: SocketAddr) -> io::Result<Answer> {
    ask(way, resolver, Query::query(Name::root(), RecordType::SOA)).await
}

async fn ask(way: &Way, resolver: SocketAddr, query: Query) -> io::Result<Answer> {
    let began = Instant::now();
    let mut message = Message::query();
    let [high, low, ..] = RandomState::new().hash_one(began).to_be_bytes();
    message.metadata.id = u16::from_be_bytes([high, low]);
    message.metadata.recursion_desired = true;
    message.add_query(query);
    let question = message.to_vec().map_err(io::Error::other)?;
    let mut last = io::Error::from(io::ErrorKind::TimedOut);
    for _ in 0..ATTEMPTS {
        match timed(by_udp(way, resolver, &question)).await {
            Ok(answer) if answer.metadata.truncation => {
                return read(&timed(by_tcp(way, resolver, &question)).await?, began);
            }
            Ok(answer) => return read(&answer, began),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn read(message: &Message, began: Instant) -> io::Result<Answer> {
    let addresses = message.answers.iter().filter_map(|record| match record.data {
        RData::A(address) => Some(address.0),
        _ => None,
    });
    Ok(Answer {
        code: message.metadata.response_code,
        addresses: addresses.collect(),
        took: began.elapsed(),
    })
}

async fn by_udp(way: &Way, resolver: SocketAddr, question: &[u8]) -> io::Result<Message> {
    let socket = socket::tunnel_udp(way)?;
    socket.connect(resolver).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; LONGEST];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let bytes = buffer.get(..length).unwrap_or_default();
        // Whatever is no answer to this question is somebody else's.
        if bytes.get(..2) == question.get(..2)
            && let Ok(message) = Message::from_vec(bytes)
        {
            return Ok(message);
        }
    }
}

async fn by_tcp(way: &Way, resolver: SocketAddr, question: &[u8]) -> io::Result<Message> {
    let mut stream = socket::tunnel_tcp(way)?.connect(resolver).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let length = stream.read_u16().await?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await?;
    Message::from_vec(&bytes).map_err(io::Error::other)
}

async fn timed<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer within 1 s");
    tokio::time::timeout(PATIENCE, work).await.map_err(late)?
}

const PATIENCE: Duration = Duration::from_secs(1);
/// A lost packet is no fault.
const ATTEMPTS: usize = 3;
const LONGEST: usize = 4_096;
