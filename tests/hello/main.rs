//! The ClientHello reader against everything a device may send.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure, as it should be"
)]

#[path = "../support/client_hello.rs"]
mod client_hello;
mod cut;
mod ja4;
mod oracle;
mod recorded;
#[path = "../support/rustls_oracle.rs"]
mod rustls_oracle;
mod table;

use sluicegate::hello::{Hello, HelloReader, Progress, Refusal};

/// What the reader says of bytes that arrive at once.
fn read(bytes: &[u8]) -> Progress {
    HelloReader::new().push(bytes)
}

fn accepted(bytes: &[u8]) -> Hello {
    match read(bytes) {
        Progress::Hello(hello) => hello,
        other => panic!("expected a hello, got {other:?}"),
    }
}

fn refused(bytes: &[u8]) -> Refusal {
    match read(bytes) {
        Progress::Refused(refusal) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// What the reader says of bytes that arrive in these pieces; it is not asked after its answer.
fn read_in<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Progress {
    let mut reader = HelloReader::new();
    for piece in pieces {
        let progress = reader.push(piece);
        if progress != Progress::Incomplete {
            return progress;
        }
    }
    Progress::Incomplete
}
