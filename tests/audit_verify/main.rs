//! `sluicegate audit verify`, with nothing but files and a public key: what it finds, and what it
//! calls by which exit code.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets the unexpected has to fail"
)]

mod changed;
mod forged;
mod missing;
mod support;
mod whole;
