//! Sluicegate: a transparent, TLS-aware egress gate for plant devices that must reach AWS over
//! private networks only.
//!
//! A flow passes these rooms in order, and each hands the next a type that only it can make:
//!
//! ```text
//! accept -> Intercepted -> Hello -> Grant -> Endpoint -> Dialed -> Relay -> Outcome -> FlowRecord
//! intercept                hello    policy   resolve     proxy     relay              audit
//! ```
//!
//! Dependencies point one way:
//! `cli -> app -> doctor -> {dns, proxy, admin, tunnel, intercept, health} -> canary ->
//! {relay, resolve, audit, policy, hello, net, attempt} -> config -> {name, reason}`.

pub mod admin;
pub mod app;
pub mod attempt;
pub mod audit;
pub mod canary;
pub mod cli;
pub mod config;
pub mod dns;
pub mod doctor;
pub mod health;
pub mod hello;
pub mod intercept;
pub mod intern;
pub mod lab;
pub mod name;
pub mod net;
pub mod policy;
pub mod proxy;
pub mod reason;
pub mod relay;
pub mod resolve;
pub mod tunnel;
