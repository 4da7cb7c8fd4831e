//! Real peers, other people's programs and bare sockets, through the real daemon in the lab.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test a panic is a failure, as it should be"
)]

mod curl;
mod ends;
mod handshake;
mod mqtt;
mod openssl;
mod program;
#[path = "../support/proof.rs"]
mod proof;
mod raw;
mod records;
mod slow;
mod stand;

use std::time::Duration;

/// For what must come: generous, because a deadline that is not reached costs nothing.
const SOON: Duration = Duration::from_secs(30);
/// For bulk transfers through TLS on a machine that has other things to do.
const LATER: Duration = Duration::from_secs(150);
