//! Community ID v1: one name for a flow that flow logs and sensors agree on.
//!
//! The definition asks for SHA-1; it names flows here and protects nothing.

use std::net::{IpAddr, SocketAddr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

/// The Community ID v1 of a TCP flow, with seed 0. The direction does not matter.
pub(super) fn community_id(one: SocketAddr, other: SocketAddr) -> String {
    let one = (one.ip().to_canonical(), one.port());
    let other = (other.ip().to_canonical(), other.port());
    let (low, high) = if one <= other { (one, other) } else { (other, one) };
    let mut hash = Sha1::new();
    hash.update(SEED.to_be_bytes());
    for ip in [low.0, high.0] {
        match ip {
            IpAddr::V4(ip) => hash.update(ip.octets()),
            IpAddr::V6(ip) => hash.update(ip.octets()),
        }
    }
    hash.update([TCP, 0]);
    hash.update(low.1.to_be_bytes());
    hash.update(high.1.to_be_bytes());
    let mut text = String::with_capacity(30);
    text.push_str("1:");
    STANDARD.encode_string(hash.finalize(), &mut text);
    text
}

const SEED: u16 = 0;
/// The protocol number of TCP (RFC 9293).
const TCP: u8 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected values come from a separate computation of the definition.
    #[test]
    fn both_directions_have_the_defined_id() {
        let cases = [
            ("10.10.3.7:51522", "203.0.113.80:443", "1:gpjwzodcJiuHrrTEQVw5uOYFNf4="),
            ("198.51.100.9:8883", "198.51.100.9:40000", "1:r9KsS2SAua3IXCR9a24BOHjrVq4="),
            ("[2001:db8::7]:51522", "[2001:db8:1::80]:8883", "1:DZlRdjKY42CxykOoub4FX3dTVYM="),
        ];
        for (one, other, expected) in cases {
            let one: SocketAddr = one.parse().unwrap();
            let other: SocketAddr = other.parse().unwrap();
            assert_eq!(community_id(one, other), expected);
            assert_eq!(community_id(other, one), expected);
        }
        let mapped: SocketAddr = "[::ffff:10.10.3.7]:51522".parse().unwrap();
        let plain: SocketAddr = "203.0.113.80:443".parse().unwrap();
        assert_eq!(community_id(mapped, plain), "1:gpjwzodcJiuHrrTEQVw5uOYFNf4=");
    }
}
