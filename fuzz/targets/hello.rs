#![no_main]

#[path = "../properties/mod.rs"]
#[allow(dead_code, reason = "each target uses its part of it")]
mod properties;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| properties::hello::check(bytes));
