//! TLS alerts: their names, and the one that a refused device gets.
//!
//! A device that is refused without a word leaves its owner guessing. An alert appears in the log of
//! nearly every TLS stack by its name, so it is sent before the connection is reset. It is sent only
//! to a device that was heard speaking TLS: to any other it would be noise.

use super::opening::MAJOR;
use crate::reason::{Reason, Stage};

/// A fatal alert ready to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alert {
    /// The description (RFC 8446 section 6), for example 112 for `unrecognized_name`.
    pub description: u8,
    /// The whole TLS record.
    pub record: [u8; 7],
}

/// The alert for a device refused for `reason`, or `None` when it should get none.
///
/// `version` is what was heard of the device's TLS version: the hello's `legacy_version`, or
/// [`HelloReader::record_version`](super::HelloReader::record_version) when there is no readable
/// hello, and `None` when no TLS was heard at all. The alert's record carries it as far as it lies
/// between TLS 1.0 and TLS 1.2, the versions that a TLS record can carry (RFC 8446 section 5.1).
pub fn alert_for(reason: Reason, version: Option<u16>) -> Option<Alert> {
    let description = description_for(reason)?;
    let [_, minor] = version?.clamp(0x0301, 0x0303).to_be_bytes();
    Some(Alert { description, record: [RECORD_TYPE, MAJOR, minor, 0, 2, FATAL, description] })
}

/// The standard name of an alert description (IANA TLS Alerts), where it has one.
pub fn alert_name(description: u8) -> Option<&'static str> {
    Some(match description {
        0 => "close_notify",
        10 => "unexpected_message",
        20 => "bad_record_mac",
        21 => "decryption_failed",
        22 => "record_overflow",
        30 => "decompression_failure",
        40 => "handshake_failure",
        41 => "no_certificate",
        42 => "bad_certificate",
        43 => "unsupported_certificate",
        44 => "certificate_revoked",
        45 => "certificate_expired",
        46 => "certificate_unknown",
        47 => "illegal_parameter",
        48 => "unknown_ca",
        49 => "access_denied",
        50 => "decode_error",
        51 => "decrypt_error",
        52 => "too_many_cids_requested",
        60 => "export_restriction",
        70 => "protocol_version",
        71 => "insufficient_security",
        80 => "internal_error",
        86 => "inappropriate_fallback",
        90 => "user_canceled",
        100 => "no_renegotiation",
        109 => "missing_extension",
        110 => "unsupported_extension",
        111 => "certificate_unobtainable",
        112 => "unrecognized_name",
        113 => "bad_certificate_status_response",
        114 => "bad_certificate_hash_value",
        115 => "unknown_psk_identity",
        116 => "certificate_required",
        117 => "general_error",
        120 => "no_application_protocol",
        121 => "ech_required",
        _ => return None,
    })
}

/// Names are wrong (112), the hello cannot be read (40), or the site does not let it pass (49).
fn description_for(reason: Reason) -> Option<u8> {
    match (reason, reason.stage()) {
        (Reason::NotTls | Reason::Sslv2Hello, _) | (_, Stage::Packet) => None,
        (
            Reason::NameMissing
            | Reason::NameMalformed
            | Reason::NameAmbiguous
            | Reason::NameIsAddress,
            _,
        ) => Some(UNRECOGNIZED_NAME),
        (Reason::EchRefused, _) => Some(ACCESS_DENIED),
        (_, Stage::Hello) => Some(HANDSHAKE_FAILURE),
        (_, Stage::Policy | Stage::Resolve | Stage::Dial | Stage::Box) => Some(ACCESS_DENIED),
    }
}

const RECORD_TYPE: u8 = 21;
const FATAL: u8 = 2;
const HANDSHAKE_FAILURE: u8 = 40;
const ACCESS_DENIED: u8 = 49;
const UNRECOGNIZED_NAME: u8 = 112;

#[cfg(test)]
mod tests {
    use super::*;

    fn description(reason: Reason) -> Option<u8> {
        alert_for(reason, Some(0x0303)).map(|alert| alert.description)
    }

    #[test]
    fn each_kind_of_refusal_has_its_alert() {
        use Reason as R;
        for reason in [R::NameMissing, R::NameMalformed, R::NameAmbiguous, R::NameIsAddress] {
            assert_eq!(description(reason), Some(112), "{reason}");
        }
        for reason in [R::HelloMalformed, R::HelloTooLarge, R::HelloTimeout, R::HelloCut] {
            assert_eq!(description(reason), Some(40), "{reason}");
        }
        for reason in [R::NotTls, R::Sslv2Hello, R::UdpBlocked, R::DnsNameRefused] {
            assert_eq!(description(reason), None, "{reason}");
        }
        for reason in Reason::ALL {
            if matches!(reason.stage(), Stage::Policy | Stage::Resolve | Stage::Dial | Stage::Box) {
                assert_eq!(description(*reason), Some(49), "{reason}");
            }
            assert_eq!(alert_for(*reason, None), None, "nothing heard: {reason}");
        }
        assert_eq!(description(R::EchRefused), Some(49));
    }

    #[test]
    fn the_record_fits_the_hello() {
        let versions =
            [(0x0300, 1), (0x0301, 1), (0x0302, 2), (0x0303, 3), (0x0304, 3), (0x03ff, 3)];
        for (legacy, minor) in versions {
            let alert = alert_for(Reason::NameNotAllowed, Some(legacy)).expect("an alert");
            assert_eq!(alert.record, [21, 3, minor, 0, 2, 2, 49]);
        }
        assert_eq!(alert_name(112), Some("unrecognized_name"));
        assert_eq!(alert_name(255), None);
    }
}
