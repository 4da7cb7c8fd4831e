//! Questions to the audit log, asked with the real program: `flows`, `audit top`, `audit stats` and
//! `audit export`.
//!
//! `UPDATE_GOLDEN=1 cargo test --test audit_query` writes the golden files anew; read the difference
//! before it is committed.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod answers;
mod filters;
mod follow;
mod forms;
mod kept;
mod large;
mod support;
