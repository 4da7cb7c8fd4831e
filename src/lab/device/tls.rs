//! TLS connections with the lab's trust, and HTTP and MQTT over them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Body;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::shape::Shaped;
use super::{DEADLINE, Failure, HelloShape, tcp_connect, within};
use crate::lab::pki::{Credential, Pki};
use crate::lab::services::{Blob, ENDPOINT_HEADER, hex, read_packet};

/// A TLS connection to be made.
#[derive(Clone, Debug)]
pub struct Call {
    /// Where the device sends its packets.
    pub to: SocketAddr,
    /// The name it asks for, and checks the certificate against.
    pub name: String,
    /// Application protocols it offers.
    pub alpn: Vec<String>,
    /// What it shows of itself.
    pub credential: Credential,
    /// Whether it sends the name.
    pub sni: Sni,
    /// How its hello is cut.
    pub shape: HelloShape,
    /// How long each step may take.
    pub deadline: Duration,
}

/// Whether a hello carries the server name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sni {
    /// As every client should.
    #[default]
    Sent,
    /// Left out.
    Omitted,
}

impl Call {
    /// A plain call: no ALPN, no certificate, the hello in one piece.
    pub fn new(to: impl Into<SocketAddr>, name: &str) -> Self {
        Self {
            to: to.into(),
            name: name.to_owned(),
            alpn: Vec::new(),
            credential: Credential::None,
            sni: Sni::Sent,
            shape: HelloShape::Whole,
            deadline: DEADLINE,
        }
    }

    /// Offers this application protocol as well.
    #[must_use]
    pub fn alpn(mut self, name: &str) -> Self {
        self.alpn.push(name.to_owned());
        self
    }

    /// Shows the devices' certificate.
    #[must_use]
    pub fn with_certificate(mut self) -> Self {
        self.credential = Credential::Device;
        self
    }

    /// Leaves the name out of the hello.
    #[must_use]
    pub fn without_sni(mut self) -> Self {
        self.sni = Sni::Omitted;
        self
    }

    /// Cuts the hello.
    #[must_use]
    pub fn shaped(mut self, shape: HelloShape) -> Self {
        self.shape = shape;
        self
    }

    /// Gives each step this long.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
}

/// Connects and shakes hands.
///
/// # Errors
/// What a device would notice.
pub async fn tls_connect(pki: &Pki, call: &Call) -> Result<Session, Failure> {
    let unusable = |error: String| Failure::Unexpected(format!("no usable call: {error}"));
    let config = pki.client_config(call.credential);
    let mut config = config.map_err(|error| unusable(error.to_string()))?;
    config.enable_sni = call.sni == Sni::Sent;
    config.alpn_protocols = call.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(call.name.clone()).map_err(|e| unusable(e.to_string()))?;
    let stream = tcp_connect(call.to, call.deadline).await?;
    let stream = Shaped::new(stream, call.shape);
    let connector = TlsConnector::from(Arc::new(config));
    let shaking =
        async { connector.connect(name, stream).await.map_err(|error| Failure::of(&error)) };
    let stream = within(call.deadline, shaking).await?;
    Ok(Session { stream, name: call.name.clone(), deadline: call.deadline })
}

/// An answer over HTTP. Of its body, all is kept up to 64 KiB, and of any its length and digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpReply {
    /// The status code.
    pub status: u16,
    /// The address that answered, as the server says.
    pub endpoint: Option<String>,
    /// The body's beginning.
    pub body: Vec<u8>,
    /// The body's length in bytes.
    pub bytes: u64,
    /// The body's SHA-256 in lower-case hex.
    pub sha256: String,
}

/// An open TLS connection.
#[derive(Debug)]
pub struct Session {
    stream: TlsStream<Shaped<TcpStream>>,
    name: String,
    deadline: Duration,
}

impl Session {
    /// The stream, to read and write.
    pub fn stream(&mut self) -> &mut TlsStream<Shaped<TcpStream>> {
        &mut self.stream
    }

    /// Gets a path.
    ///
    /// # Errors
    /// When the connection breaks, or nothing moves for as long as the call's deadline.
    pub async fn get(self, path: &str) -> Result<HttpReply, Failure> {
        self.request("GET", path, Full::new(Bytes::new())).await
    }

    /// Puts this many pseudo-random bytes to a path.
    ///
    /// # Errors
    /// As [`Session::get`].
    pub async fn put_blob(self, path: &str, size: u64) -> Result<HttpReply, Failure> {
        self.request("PUT", path, Blob::new(size)).await
    }

    /// Sends a request and reads the whole answer. Only the wait for each part has a deadline, so
    /// that a large body may take its time.
    ///
    /// # Errors
    /// As [`Session::get`].
    pub async fn request<B>(self, method: &str, path: &str, body: B) -> Result<HttpReply, Failure>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let deadline = self.deadline.max(PATIENCE);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.name)
            .body(body)
            .map_err(|error| Failure::Unexpected(error.to_string()))?;
        let failed = |error: hyper::Error| http_failure(&error);
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(self.stream)).await.map_err(failed)?;
        let connection = tokio::task::spawn_local(connection);
        let sending = async { sender.send_request(request).await.map_err(failed) };
        let response = within(deadline, sending).await?;
        let status = response.status().as_u16();
        let endpoint = response.headers().get(ENDPOINT_HEADER);
        let endpoint = endpoint.and_then(|value| value.to_str().ok()).map(str::to_owned);
        let mut body = response.into_body();
        let mut kept = Vec::new();
        let mut bytes = 0;
        let mut hash = Sha256::new();
        loop {
            let next = async { body.frame().await.transpose().map_err(failed) };
            let Some(frame) = within(deadline, next).await? else { break };
            let Some(data) = frame.data_ref() else { continue };
            bytes += data.len() as u64;
            hash.update(data);
            let room = KEPT.saturating_sub(kept.len()).min(data.len());
            kept.extend_from_slice(data.get(..room).unwrap_or_default());
        }
        connection.abort();
        Ok(HttpReply { status, endpoint, body: kept, bytes, sha256: hex(&hash.finalize()) })
    }

    /// Connects as an MQTT client and publishes with QoS 1; returns once that is acknowledged.
    /// The connection stays open.
    ///
    /// # Errors
    /// When the connection breaks, or the broker does not acknowledge.
    pub async fn mqtt_publish(&mut self, topic: &str, payload: &[u8]) -> Result<(), Failure> {
        self.mqtt_connect().await?;
        let length = u16::try_from(topic.len()).unwrap_or(u16::MAX).to_be_bytes();
        let body = [&length[..], topic.as_bytes(), &[0, 1], payload].concat();
        let answer = self.mqtt_exchange(0x32, &body).await?;
        expect_packet(&answer, (0x40, &[0, 1]))
    }

    /// Sends CONNECT and waits for CONNACK.
    ///
    /// # Errors
    /// As [`Session::mqtt_publish`].
    pub async fn mqtt_connect(&mut self) -> Result<(), Failure> {
        // Protocol MQTT level 4, clean session, keep alive 60 s, client "lab".
        let answer = self.mqtt_exchange(0x10, b"\0\x04MQTT\x04\x02\0\x3c\0\x03lab").await?;
        expect_packet(&answer, (0x20, &[0, 0]))
    }

    /// Sends PINGREQ and waits for PINGRESP.
    ///
    /// # Errors
    /// As [`Session::mqtt_publish`].
    pub async fn mqtt_ping(&mut self) -> Result<(), Failure> {
        let answer = self.mqtt_exchange(0xc0, &[]).await?;
        expect_packet(&answer, (0xd0, &[]))
    }

    /// Waits, without a word, for as long as the connection lives; says how it ended.
    pub async fn until_closed(mut self) -> Failure {
        let mut byte = [0; 1];
        loop {
            match self.stream.read(&mut byte).await {
                Ok(0) => return Failure::Closed,
                Ok(_) => {}
                Err(error) => return Failure::of(&error),
            }
        }
    }

    /// Closes the connection in the ordinary way and waits for the other side to do so.
    ///
    /// # Errors
    /// [`Failure::TimedOut`] when it does not, [`Failure::Reset`] when it breaks.
    pub async fn close(mut self) -> Result<(), Failure> {
        let closing = async {
            self.stream.shutdown().await?;
            let mut rest = [0; 1024];
            while self.stream.read(&mut rest).await? > 0 {}
            Ok(())
        };
        within(self.deadline, async { closing.await.map_err(|e: std::io::Error| Failure::of(&e)) })
            .await
    }

    async fn mqtt_exchange(&mut self, first: u8, body: &[u8]) -> Result<(u8, Vec<u8>), Failure> {
        let mut packet = vec![first];
        let mut length = body.len();
        loop {
            let low = u8::try_from(length & 0x7f).unwrap_or_default();
            length >>= 7;
            packet.push(if length > 0 { low | 0x80 } else { low });
            if length == 0 {
                break;
            }
        }
        packet.extend_from_slice(body);
        let stream = &mut self.stream;
        let talk = async {
            stream.write_all(&packet).await?;
            stream.flush().await?;
            let answer = read_packet(stream).await?;
            Ok((answer.first, answer.body().to_vec()))
        };
        within(self.deadline, async { talk.await.map_err(|e: std::io::Error| Failure::of(&e)) })
            .await
    }
}

/// The least that a part of an HTTP exchange is given: the answer to an upload comes after its whole
/// body, which takes its time on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// How much of a body is kept.
const KEPT: usize = 64 * 1024;

fn expect_packet(
    (first, body): &(u8, Vec<u8>),
    (expected, expected_body): (u8, &[u8]),
) -> Result<(), Failure> {
    if (*first, body.as_slice()) == (expected, expected_body) {
        return Ok(());
    }
    Err(Failure::Unexpected(format!("MQTT packet {first:#04x} with {body:?}")))
}

/// hyper wraps the stream's own error, which says what happened.
fn http_failure(error: &hyper::Error) -> Failure {
    let source = std::error::Error::source(error);
    match source.and_then(|source| source.downcast_ref::<std::io::Error>()) {
        Some(io) => Failure::of(io),
        None if error.is_incomplete_message() => Failure::Closed,
        None => Failure::Unexpected(error.to_string()),
    }
}
