//! The first bytes of a stream: whether they can still become TLS.
//!
//! Bytes that can never become a ClientHello are refused as soon as that is certain, so that a device
//! that speaks something else learns it at once instead of at the deadline. A prefix that may still
//! become TLS, or an SSLv2 hello that deserves its own name, is undecided.

use super::alert::alert_name;
use super::fault::Fault;
use crate::reason::Reason;

/// What the first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// Too few bytes to say.
    Undecided,
    /// The beginning of a TLS record of the handshake type.
    Tls,
}

/// Judges the first bytes of a stream.
pub(super) fn judge(first: &[u8]) -> Result<Opening, Fault> {
    match first {
        [] | [HANDSHAKE] => Ok(Opening::Undecided),
        [HANDSHAKE, MAJOR, ..] => Ok(Opening::Tls),
        [HANDSHAKE, ..] => Err(not_tls(first)),
        [ALERT, MAJOR, ..] => Err(Fault::malformed(early_alert(first))),
        [other @ (CHANGE_CIPHER_SPEC | APPLICATION_DATA | HEARTBEAT), MAJOR, ..] => {
            Err(Fault::malformed(format!("a record of type {other} comes before the ClientHello")))
        }
        _ => match sslv2(first) {
            Sslv2::Undecided => Ok(Opening::Undecided),
            Sslv2::No => Err(not_tls(first)),
            Sslv2::Yes => Err(Fault::new(
                Reason::Sslv2Hello,
                "an SSLv2-format CLIENT-HELLO; that format has no place for a server name",
            )),
        },
    }
}

/// The record version, if the bytes begin like a TLS record of any type.
pub(super) fn record_version(first: &[u8]) -> Option<u16> {
    match first {
        [CHANGE_CIPHER_SPEC..=HEARTBEAT, MAJOR, minor, ..] => {
            Some(u16::from_be_bytes([MAJOR, *minor]))
        }
        _ => None,
    }
}

/// RFC 8446 section 5.1.
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const MAJOR: u8 = 3;
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const APPLICATION_DATA: u8 = 23;
const HEARTBEAT: u8 = 24;

enum Sslv2 {
    Undecided,
    Yes,
    No,
}

/// RFC 6101 appendix E: a record header of two bytes (high bit set) or three (high bit clear, then
/// a padding length), the message type 1, and the version.
fn sslv2(first: &[u8]) -> Sslv2 {
    let kind_at: usize = match first.first() {
        None => return Sslv2::Undecided,
        Some(byte) if byte & 0x80 != 0 => 2,
        // Bit 0x40 marks an escape record, which is never a hello.
        Some(byte) if byte & 0x40 == 0 => 3,
        Some(_) => return Sslv2::No,
    };
    match first.get(kind_at..).unwrap_or_default() {
        [] | [1] | [1, 0 | 2] => Sslv2::Undecided,
        [1, 0, 2, ..] | [1, 2, 0, ..] | [1, 3, ..] => Sslv2::Yes,
        _ => Sslv2::No,
    }
}

fn early_alert(first: &[u8]) -> String {
    match first {
        [_, _, _, 0, 2, _, description, ..] => {
            let name = alert_name(*description).unwrap_or("unknown");
            format!("the device sent a TLS alert instead of a ClientHello: {name} ({description})")
        }
        _ => "the device sent a TLS alert instead of a ClientHello".into(),
    }
}

fn not_tls(first: &[u8]) -> Fault {
    let detail = match protocol(first) {
        Some(protocol) => format!("the first bytes look like {protocol}"),
        None => "the first bytes are not a TLS record".into(),
    };
    Fault::new(Reason::NotTls, detail)
}

/// What plant devices speak in clear by mistake. A hint for people, nothing is decided by it.
fn protocol(first: &[u8]) -> Option<&'static str> {
    const HTTP: [&[u8]; 9] = [
        b"GET ",
        b"POST ",
        b"PUT ",
        b"HEAD ",
        b"DELETE ",
        b"OPTIONS ",
        b"PATCH ",
        b"CONNECT ",
        b"PRI ",
    ];
    let within = |word: &[u8]| first.windows(word.len()).any(|window| window == word);
    match first {
        _ if HTTP.iter().any(|method| first.starts_with(method)) => Some("HTTP without TLS"),
        _ if first.starts_with(b"SSH-") => Some("SSH"),
        [0x10, ..] if within(b"MQTT") || within(b"MQIs") => Some("MQTT without TLS"),
        [HANDSHAKE, 0xfe, ..] => Some("DTLS"),
        [3, 0, ..] => Some("TPKT (S7 or RDP)"),
        _ if first.starts_with(b"AMQP") => Some("AMQP without TLS"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(first: &[u8]) -> Option<Reason> {
        judge(first).err().map(|fault| fault.reason)
    }

    #[test]
    fn a_byte_too_few_is_undecided_and_the_next_decides() {
        let cases: [(&[u8], Reason); 12] = [
            (b"G", Reason::NotTls),
            (b"SSH-2.0-OpenSSH_9.2", Reason::NotTls),
            (&[0x16, 0x47], Reason::NotTls),
            (&[0x10, 0x25, 0x00, 0x04], Reason::NotTls),
            (&[0x15, 0x03], Reason::HelloMalformed),
            (&[0x17, 0x03], Reason::HelloMalformed),
            (&[0x80, 0x2e, 0x01, 0x00, 0x02], Reason::Sslv2Hello),
            (&[0x80, 0x2e, 0x01, 0x03], Reason::Sslv2Hello),
            (&[0x00, 0x2e, 0x00, 0x01, 0x03], Reason::Sslv2Hello),
            (&[0x00, 0x2e, 0x00, 0x01, 0x00, 0x02], Reason::Sslv2Hello),
            (&[0x80, 0x2e, 0x02], Reason::NotTls),
            (&[0x00, 0x2e, 0x00, 0x01, 0x04], Reason::NotTls),
        ];
        for (bytes, expected) in cases {
            assert_eq!(reason(bytes), Some(expected), "{bytes:02x?}");
            if !bytes.starts_with(b"S") {
                assert_eq!(reason(&bytes[..bytes.len() - 1]), None, "{bytes:02x?}");
            }
        }
        assert_eq!(judge(&[0x16]), Ok(Opening::Undecided));
        assert_eq!(judge(&[0x16, 0x03]), Ok(Opening::Tls));
    }

    #[test]
    fn people_are_told_what_it_looks_like() {
        let cases: [(&[u8], &str); 7] = [
            (b"GET / HTTP/1.1\r\n", "HTTP"),
            (b"SSH-2.0-x", "SSH"),
            (b"\x10\x10\x00\x04MQTT\x04\x02", "MQTT"),
            (b"\x10\x12\x00\x06MQIsdp\x03", "MQTT"),
            (b"\x16\xfe\xfd\x00", "DTLS"),
            (b"\x03\x00\x00\x16\x11\xe0", "S7"),
            (b"\x15\x03\x01\x00\x02\x02\x28", "handshake_failure"),
        ];
        for (bytes, word) in cases {
            let fault = judge(bytes).expect_err("not a hello");
            assert!(fault.detail.contains(word), "{}", fault.detail);
        }
    }
}
