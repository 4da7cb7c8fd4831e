//! The pure rooms stay pure: they name no library that reaches the network or the kernel.
//!
//! What they decide can then be tested on any machine, and no decision can depend on the network.

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn pure_rooms_import_no_runtime_and_no_socket() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    for room in PURE {
        let path = root.join(room);
        assert!(path.exists(), "{room} has moved: correct the list of pure rooms");
        let before = sources.len();
        collect(&path, &mut sources);
        assert!(sources.len() > before, "{room} has no source");
    }
    let mut found = Vec::new();
    for source in &sources {
        let text = fs::read_to_string(source).expect("a readable source");
        for (number, line) in text.lines().enumerate() {
            let place = || format!("{}:{}", source.display(), number + 1);
            found.extend(impure(line).map(|word| format!("{}: {word}", place())));
        }
    }
    assert!(found.is_empty(), "impure rooms:\n{}", found.join("\n"));
}

#[test]
fn an_impure_line_is_seen() {
    for line in [
        "use tokio::time::sleep;",
        "    let x = tokio::spawn(f);",
        "use {hyper, serde};",
        "use std::net::{IpAddr, TcpStream};",
        "use std::net::*;",
        "fn f(s: std::net::UdpSocket) {}",
        "extern crate rustix as r;",
    ] {
        assert!(impure(line).is_some(), "{line}");
    }
    for line in [
        "// tokio would make this impure",
        "/// Resolved by hickory later.",
        "let tokio_free = true;",
        "use std::net::IpAddr;",
        "let text = \"use sockets\";",
    ] {
        assert_eq!(impure(line), None, "{line}");
    }
}

/// The first word of a line of code that stands for what a pure room must not use.
fn impure(line: &str) -> Option<&'static str> {
    let code = line.split("//").next().unwrap_or_default();
    if code.contains("std::net::*") {
        return Some("std::net::*");
    }
    let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.find_map(|word| IMPURE.iter().find(|impure| **impure == word).copied())
}

fn collect(path: &Path, sources: &mut Vec<PathBuf>) {
    if !path.is_dir() {
        sources.push(path.to_owned());
        return;
    }
    for entry in fs::read_dir(path).expect("a readable directory") {
        let path = entry.expect("a directory entry").path();
        if path.is_dir() || path.extension().is_some_and(|extension| extension == "rs") {
            collect(&path, sources);
        }
    }
}

const PURE: &[&str] = &["config", "hello", "policy", "name.rs", "reason.rs"];

const IMPURE: &[&str] = &[
    "tokio",
    "tokio_util",
    "hyper",
    "hyper_util",
    "hickory_proto",
    "hickory_resolver",
    "hickory_server",
    "rustix",
    "socket2",
    "rtnetlink",
    "netlink_sys",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
];
