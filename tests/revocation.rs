//! What a permission hangs on while the gate runs: on the policy in force, and on who really asks.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, a panic is the report"
)]

#[path = "revocation/flows.rs"]
mod flows;
#[path = "support/gate.rs"]
mod gate;
#[path = "revocation/identity.rs"]
mod identity;
#[path = "revocation/reload.rs"]
mod reload;
