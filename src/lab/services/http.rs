//! What the services say over HTTP/1.1.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};

use super::blob::{Blob, hex};
use super::{Handshake, Kind, Ledger, Seen, listen};
use crate::lab::error::LabError;

/// What is kept of an object: enough to see that it arrived whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its length in bytes.
    pub bytes: u64,
    /// Its SHA-256 in lower-case hex.
    pub sha256: String,
}

/// Serves one connection to its end.
pub(super) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    kind: Kind,
    seen: Seen,
    ledger: Arc<Ledger>,
) {
    let service = service_fn(|request| {
        let ledger = Arc::clone(&ledger);
        let seen = seen.clone();
        async move {
            let mut response = match answer(request, kind, &seen, &ledger).await {
                Ok(response) => response,
                Err(error) => {
                    reply(StatusCode::BAD_REQUEST, &json!({ "message": error.to_string() }))
                }
            };
            if let Ok(endpoint) = HeaderValue::try_from(seen.endpoint.ip().to_string()) {
                response.headers_mut().insert(ENDPOINT_HEADER, endpoint);
            }
            Ok::<_, Infallible>(response)
        }
    });
    // A connection that breaks is the client's to see.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// Serves HTTP without TLS.
pub(super) fn start_plain(ledger: &Arc<Ledger>, at: SocketAddr) -> Result<(), LabError> {
    let listener = listen(at)?;
    let ledger = Arc::clone(ledger);
    tokio::task::spawn_local(async move {
        loop {
            let Ok((stream, peer)) = listener.accept().await else { continue };
            ledger.arrived(peer, at);
            let handshake = Handshake::None;
            let seen = Seen { peer, endpoint: at, name: None, alpn: None, handshake };
            tokio::task::spawn_local(serve(stream, Kind::Plain, seen, Arc::clone(&ledger)));
        }
    });
    Ok(())
}

/// The header that says which address gave the answer.
pub(crate) const ENDPOINT_HEADER: &str = "x-endpoint";

type Answer = Response<BoxBody<Bytes, Infallible>>;

async fn answer(
    request: Request<Incoming>,
    kind: Kind,
    seen: &Seen,
    ledger: &Ledger,
) -> Result<Answer, hyper::Error> {
    let path = request.uri().path().to_owned();
    Ok(match (kind, request.method()) {
        (Kind::S3, &Method::PUT) => return put(request, ledger).await,
        (Kind::S3 | Kind::Ecr, &Method::GET) if path.ends_with("/blob") => blob(&request),
        (Kind::S3, &Method::GET | &Method::HEAD) => stat(&request, ledger),
        (Kind::IotCredentials, &Method::GET) if path.starts_with("/role-aliases/") => {
            credentials(seen)
        }
        (Kind::Ecr, &Method::POST) => reply(StatusCode::OK, &registry_token()),
        _ => {
            // An unread body would end the connection for clients that keep it open.
            request.into_body().collect().await?;
            reply(StatusCode::OK, &json!({ "name": seen.name, "path": path, "message": "OK" }))
        }
    })
}

async fn put(request: Request<Incoming>, ledger: &Ledger) -> Result<Answer, hyper::Error> {
    let key = object_key(&request);
    let mut body = request.into_body();
    let mut hash = Sha256::new();
    let mut bytes: u64 = 0;
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            hash.update(data);
            bytes += data.len() as u64;
        }
    }
    let object = Stored { bytes, sha256: hex(&hash.finalize()) };
    let response = reply(StatusCode::OK, &stored_json(&object));
    ledger.store(key, object);
    Ok(response)
}

fn stat(request: &Request<Incoming>, ledger: &Ledger) -> Answer {
    match ledger.object(&object_key(request)) {
        Some(object) => reply(StatusCode::OK, &stored_json(&object)),
        None => reply(StatusCode::NOT_FOUND, &json!({ "message": "NoSuchKey" })),
    }
}

fn blob(request: &Request<Incoming>) -> Answer {
    let size = request.uri().query().and_then(|query| query.strip_prefix("size="));
    match size.map(str::parse) {
        Some(Ok(size)) => Response::new(Blob::new(size).boxed()),
        _ => reply(StatusCode::BAD_REQUEST, &json!({ "message": "ask for /blob?size=BYTES" })),
    }
}

fn credentials(seen: &Seen) -> Answer {
    if seen.handshake != Handshake::Certificate {
        return reply(StatusCode::FORBIDDEN, &json!({ "message": "Invalid certificate" }));
    }
    let credentials = json!({
        "accessKeyId": "ASIAIOSFODNN7EXAMPLE",
        "secretAccessKey": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "sessionToken": "lab-session-token-EXAMPLE",
        "expiration": "2099-01-01T00:00:00Z",
    });
    reply(StatusCode::OK, &json!({ "credentials": credentials }))
}

fn registry_token() -> Value {
    let proxy = format!("https://{}", super::REGISTRY);
    json!({ "authorizationData": [{
        "authorizationToken": "QVdTOkVYQU1QTEU=",
        "expiresAt": 4_070_908_800_u64,
        "proxyEndpoint": proxy,
    }] })
}

fn object_key<T>(request: &Request<T>) -> String {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    format!("{host}{}", request.uri().path())
}

fn stored_json(object: &Stored) -> Value {
    json!({ "bytes": object.bytes, "sha256": object.sha256 })
}

fn reply(status: StatusCode, body: &Value) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
