//! What AWS will say to a hello.
//!
//! A device whose hello AWS cannot accept is reset without a word at the far side of the tunnel; its
//! owner should learn here why. Only what is certain from the hello alone is said.

use crate::config::Service;
use crate::hello::input::Found;
use crate::hello::{HelloFacts, version_name};
use crate::policy::catalogue::{self, Kind};
use crate::reason::Reason;

/// What to expect.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outlook {
    /// Whether AWS's endpoint accepts such a hello; `None` where nothing can be said.
    pub(super) accepts: Option<bool>,
    /// Why, in sentences.
    pub(super) notes: Vec<String>,
}

/// The outlook of one hello.
pub(super) fn of(found: &Found) -> Outlook {
    let mut notes = Vec::new();
    let (facts, kind) = match &found.answer {
        Ok(hello) => {
            let Some(known) = catalogue::classify(&hello.name) else {
                let notes = vec![format!("{} is not a name of AWS's.", hello.name)];
                return Outlook { accepts: None, notes };
            };
            if let Some(remedy) = known.remedy {
                notes.push(format!("{}: no VPC endpoint serves it. {remedy}", known.title));
            }
            (&hello.facts, Some(known.kind))
        }
        Err(refusal) => {
            let Some(facts) = &refusal.facts else { return Outlook::default() };
            if refusal.reason == Reason::NameMissing {
                notes.push(NO_NAME.to_owned());
            }
            (&**facts, None)
        }
    };
    notes.extend(version(facts, kind));
    notes.extend(suites(facts, &found.ciphers));
    let accepts = match (notes.is_empty(), kind) {
        (false, _) => Some(false),
        (true, Some(_)) => Some(true),
        (true, None) => None,
    };
    Outlook { accepts, notes }
}

fn version(facts: &HelloFacts, kind: Option<Kind>) -> Option<String> {
    let offers = |version| match facts.versions.is_empty() {
        true => facts.legacy_version == version,
        false => facts.versions.contains(&version),
    };
    let highest = facts.highest_version();
    if !offers(TLS12) && !offers(TLS13) {
        return Some(format!(
            "The device offers at most {}; AWS accepts TLS 1.2 and 1.3 only, so it can never \
             succeed. Switch TLS 1.2 on in the device, or update its TLS library.",
            version_name(highest)
        ));
    }
    (kind == Some(Kind::Private(Service::S3)) && !offers(TLS12)).then(|| {
        "The device offers TLS 1.3 only; S3 interface endpoints accept TLS 1.2 only, so it can \
         never succeed there. Let the device offer TLS 1.2 as well."
            .to_owned()
    })
}

fn suites(facts: &HelloFacts, offered: &[u16]) -> Option<String> {
    let tls13 = facts.versions.contains(&TLS13);
    let usable = |suite: &u16| ACCEPTED_12.contains(suite) || tls13 && ACCEPTED_13.contains(suite);
    if offered.is_empty() || offered.iter().any(usable) {
        return None;
    }
    let real = offered.iter().filter(|suite| !SIGNALS.contains(suite));
    let what = match (real.clone().all(|s| TRIPLE_DES.contains(s)), real.clone().count()) {
        (_, 0) => "no cipher suite",
        (true, _) => "only 3DES cipher suites",
        _ if real.clone().all(|s| TRIPLE_DES.contains(s) || RC4.contains(s)) => {
            "only 3DES and RC4 cipher suites"
        }
        _ => "only cipher suites that AWS IoT has never accepted",
    };
    Some(format!(
        "The device offers {what}; AWS accepts none of them, so it can never succeed. Switch AES \
         on in the device, or update its TLS library."
    ))
}

const NO_NAME: &str = "Without a server name (SNI) no endpoint can be chosen: AWS IoT requires it \
                       through VPC endpoints, so the device can never succeed.";
const TLS12: u16 = 0x0303;
const TLS13: u16 = 0x0304;
/// IANA TLS cipher suites that AWS IoT accepts with TLS 1.2: ECDHE with AES in GCM or CBC, static
/// RSA with AES, and DHE-RSA-AES256-SHA under its oldest security policy.
const ACCEPTED_12: [u16; 19] = [
    0xc02f, 0xc030, 0xc02b, 0xc02c, 0xc027, 0xc028, 0xc023, 0xc024, 0xc013, 0xc014, 0xc009, 0xc00a,
    0x009c, 0x009d, 0x003c, 0x003d, 0x002f, 0x0035, 0x0039,
];
const ACCEPTED_13: [u16; 3] = [0x1301, 0x1302, 0x1303];
const TRIPLE_DES: [u16; 6] = [0x000a, 0x000d, 0x0010, 0x0016, 0xc008, 0xc012];
const RC4: [u16; 5] = [0x0004, 0x0005, 0x0018, 0xc007, 0xc011];
/// Values in the list that are no suites: renegotiation (RFC 5746) and fallback (RFC 7507).
const SIGNALS: [u16; 2] = [0x00ff, 0x5600];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hello::Hello;

    const IOT: &str = "a1b2c3d4e5f6g7-ats.iot.eu-central-1.amazonaws.com";
    const S3: &str = "parts.s3.eu-central-1.amazonaws.com";

    fn outlook(name: &str, legacy: u16, versions: &[u16], ciphers: &[u16]) -> Outlook {
        let facts =
            HelloFacts { legacy_version: legacy, versions: versions.into(), ..Default::default() };
        let name = name.parse().expect("a name");
        let answer = Ok(Hello { name, facts });
        of(&Found { answer, ciphers: ciphers.into(), between: None, remarks: Vec::new() })
    }

    #[track_caller]
    fn never(outlook: &Outlook, words: &[&str]) {
        assert_eq!(outlook.accepts, Some(false), "{outlook:?}");
        assert_eq!(outlook.notes.len(), words.len(), "{outlook:?}");
        for (note, word) in outlook.notes.iter().zip(words) {
            assert!(note.contains(word), "{note}: {word}");
        }
    }

    #[test]
    fn what_aws_accepts_has_nothing_against_it() {
        let fine = Outlook { accepts: Some(true), notes: Vec::new() };
        assert_eq!(outlook(IOT, 0x0303, &[], &[0x002f]), fine);
        assert_eq!(outlook(IOT, 0x0303, &[TLS13], &[0x1301]), fine);
        assert_eq!(outlook(S3, 0x0303, &[TLS13, TLS12], &[0x1301, 0xc02f]), fine);
        let foreign = outlook("historian.corp.example", 0x0301, &[], &[0x000a]);
        assert_eq!(foreign.accepts, None);
    }

    #[test]
    fn what_can_never_succeed_is_said() {
        never(&outlook(IOT, 0x0302, &[], &[0x002f]), &["at most TLS 1.1"]);
        never(&outlook(IOT, 0x0303, &[0x0302], &[0x002f]), &["at most TLS 1.1"]);
        never(&outlook(IOT, 0x0303, &[], &[0x000a, 0x00ff]), &["only 3DES cipher"]);
        never(&outlook(IOT, 0x0303, &[], &[0x000a, 0x0005]), &["3DES and RC4"]);
        never(&outlook(IOT, 0x0301, &[], &[0x000a]), &["TLS 1.0", "3DES"]);
        // A suite of TLS 1.3 is of no use without TLS 1.3.
        never(&outlook(IOT, 0x0303, &[TLS12], &[0x1301]), &["never accepted"]);
        never(&outlook(S3, 0x0303, &[TLS13], &[0x1301]), &["S3 interface endpoints"]);
        let public = "greengrass-ats.iot.eu-central-1.amazonaws.com";
        never(&outlook(public, 0x0303, &[TLS13], &[0x1301]), &["iotdata"]);
    }
}
