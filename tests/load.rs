//! The traffic of `benches/compare`, over loopback: each workload does what it counts.

#[cfg(test)]
#[path = "support/client_hello.rs"]
mod client_hello;
#[cfg(test)]
#[allow(dead_code, reason = "the tests are inside and need no command line")]
#[path = "../benches/side_by_side/load/mod.rs"]
mod load;
