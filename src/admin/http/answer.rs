//! Requests and their answers: a few paths, GET and HEAD, nothing that changes anything.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY, TRANSFER_ENCODING,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};

use super::Hall;
use super::doors::Admission;
use super::events::Events;
use super::snapshot::Snapshots;
use crate::admin::metrics::{self, Format};
use crate::admin::report::Report;

/// An answer.
pub(super) type Answer = Response<Either<Full<Bytes>, Events>>;

/// How long a connection goes on after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lasts {
    /// Not at all.
    Ends,
    /// For another request.
    GoesOn,
    /// For as long as somebody watches.
    Streams,
}

/// Where a request came in.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) hall: &'a Hall,
    pub(super) snapshots: &'a Arc<Snapshots>,
    pub(super) from: IpAddr,
}

impl Asked<'_> {
    /// Answers a request. Nobody who is not admitted learns which paths there are.
    pub(super) async fn answer<B>(
        self,
        request: &Request<B>,
        admission: Admission,
    ) -> (Answer, Lasts) {
        if has_body(request.headers()) {
            // There is no request with a body here: one that says it has one may hide another.
            return closing(plain(StatusCode::BAD_REQUEST, "a request here has no body\n"));
        }
        match admission {
            Admission::Yes => {}
            Admission::OtherHost => {
                let text = "this is not the host that you asked for\n";
                return closing(plain(StatusCode::MISDIRECTED_REQUEST, text));
            }
            Admission::NeedsToken => return closing(needs_token()),
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return closing(answer);
        }
        let (answer, lasts) = self.page(request).await;
        if request.method() == Method::HEAD && lasts == Lasts::Streams {
            return closing(plain(StatusCode::OK, ""));
        }
        (strict(answer), lasts)
    }

    async fn page<B>(self, request: &Request<B>) -> (Answer, Lasts) {
        let answer = match request.uri().path() {
            "/" => {
                let mut answer = full(StatusCode::OK, HTML, self.hall.page.html());
                answer.headers_mut().insert(CONTENT_SECURITY_POLICY, self.hall.page.policy());
                answer
            }
            "/metrics" => {
                let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
                let format = Format::of(accept.unwrap_or_default());
                let report = self.snapshots.fresh().await.report;
                let text = metrics::render(&report, self.hall.status(), format);
                full(StatusCode::OK, format.content_type(), text.into())
            }
            "/status.json" => {
                full(StatusCode::OK, "application/json", self.snapshots.fresh().await.document)
            }
            "/livez" => health(&not_alive(&self.snapshots.fresh().await.report)),
            "/readyz" => {
                let draining = self.hall.draining.load(Ordering::Relaxed);
                let mut wrong = not_ready(&self.snapshots.fresh().await.report);
                wrong.extend(draining.then(|| "the gate is ending".to_owned()));
                health(&wrong)
            }
            "/events" => return self.events(),
            _ => plain(StatusCode::NOT_FOUND, "there is nothing here\n"),
        };
        (answer, Lasts::GoesOn)
    }

    fn events(self) -> (Answer, Lasts) {
        let Some(seat) = self.hall.crowd.watch(self.from) else {
            let text = "too many watch already\n";
            return (plain(StatusCode::SERVICE_UNAVAILABLE, text), Lasts::GoesOn);
        };
        let events = Events::new(Arc::clone(self.snapshots), seat);
        let mut answer = Response::new(Either::Right(events));
        let kind = HeaderValue::from_static("text/event-stream");
        answer.headers_mut().insert(CONTENT_TYPE, kind);
        (answer, Lasts::Streams)
    }
}

/// Why the program does not work.
fn not_alive(report: &Report) -> Vec<String> {
    let threads = report.threads;
    let stuck = threads.working < threads.all;
    stuck
        .then(|| format!("only {} of {} data threads work", threads.working, threads.all))
        .into_iter()
        .collect()
}

/// Why new flows would be refused, whatever they ask for.
fn not_ready(report: &Report) -> Vec<String> {
    let mut wrong = not_alive(report);
    let mut add = |is: bool, what: &str| wrong.extend(is.then(|| what.to_owned()));
    add(report.audit.failure.is_some() || report.audit.full, "flows cannot be recorded");
    add(!report.tunnels.iter().any(|tunnel| tunnel.up), "no tunnel is up");
    add(!report.rules.intact, "the kernel's rules are damaged");
    wrong
}

fn health(wrong: &[String]) -> Answer {
    if wrong.is_empty() {
        return plain(StatusCode::OK, "ok\n");
    }
    let text = wrong.iter().map(|line| format!("{line}\n")).collect::<String>();
    full(StatusCode::SERVICE_UNAVAILABLE, TEXT, text.into())
}

fn needs_token() -> Answer {
    let text = "the token of [admin] token-file is needed: as the password, or as a bearer token\n";
    let mut answer = plain(StatusCode::UNAUTHORIZED, text);
    let challenge = HeaderValue::from_static(r#"Basic realm="sluicegate", charset="UTF-8""#);
    answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    answer
}

fn has_body(headers: &HeaderMap) -> bool {
    let lengths = headers.get_all(CONTENT_LENGTH);
    headers.contains_key(TRANSFER_ENCODING) || lengths.iter().any(|length| length != "0")
}

fn closing(mut answer: Answer) -> (Answer, Lasts) {
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    (strict(answer), Lasts::Ends)
}

fn plain(status: StatusCode, text: &'static str) -> Answer {
    full(status, TEXT, Bytes::from_static(text.as_bytes()))
}

fn full(status: StatusCode, kind: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// What every answer says to browsers.
fn strict(mut answer: Answer) -> Answer {
    let headers = answer.headers_mut();
    for (name, value) in STRICT {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let nothing = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(nothing);
    answer
}

const STRICT: [(HeaderName, &str); 6] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];
const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
