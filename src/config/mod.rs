//! The site's configuration: TOML text to [`Site`], with every problem found in one run.
//!
//! Owns the file format and its diagnostics. Never touches the network or the kernel: a
//! configuration is checked on any machine. A [`Site`] that exists is valid.

mod site;

pub use site::*;
