//! The reader against the one of rustls: the comparison, and where the two differ on purpose.

use std::io::Read;

use rustls::server::Acceptor;
use sluicegate::hello::{HelloOptions, HelloReader, Progress, Refusal};
use sluicegate::name::Underscore;

/// What the gate refuses although rustls accepts it, by the words of the detail.
pub(crate) const STRICTER: [(&str, &str); 4] = [
    ("a server name has the unknown type", "what follows a host name cannot be read to its end"),
    ("the ClientHello has the version", "no version but 0x03.. was ever TLS; OpenSSL refuses it"),
    (
        "at most 16384 are allowed",
        "a plaintext record has at most 2^14 bytes (RFC 8446 section 5.1)",
    ),
    ("in more than 64 records", "no TLS library cuts a large hello so fine"),
];

/// The name that rustls reads, if it accepts the hello and finds one.
pub(crate) fn rustls_name(mut bytes: &[u8]) -> Option<String> {
    let mut acceptor = Acceptor::default();
    loop {
        // Small steps, because an acceptor refuses to read on when it could already accept.
        let mut step = Read::take(&mut bytes, 4096);
        if acceptor.read_tls(&mut step).ok()? == 0 {
            return None;
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                return accepted.client_hello().server_name().map(str::to_ascii_lowercase);
            }
            Ok(None) => {}
            Err(_) => return None,
        }
    }
}

/// What the gate reads.
pub(crate) fn ours(bytes: &[u8]) -> Progress {
    // rustls allows underscores always, the gate where the site says so.
    HelloReader::with_options(HelloOptions { underscore: Underscore::Allow }).push(bytes)
}

/// Says what is wrong when the two disagree.
pub(crate) fn disagreement(bytes: &[u8]) -> Option<String> {
    let theirs = rustls_name(bytes)?;
    match ours(bytes) {
        Progress::Hello(hello) if hello.name.as_str() == theirs.trim_end_matches('.') => None,
        Progress::Refused(Refusal { detail, .. })
            if STRICTER.iter().any(|(words, _)| detail.contains(words)) =>
        {
            None
        }
        other => Some(format!("rustls reads {theirs:?}, the gate {other:?}")),
    }
}
