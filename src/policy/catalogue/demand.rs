//! What an AWS endpoint asks of a ClientHello, and what stands against one.
//!
//! An endpoint that cannot accept a hello ends the connection with few words or none, at the far side
//! of the tunnel. Here it is known before. Only what is certain from hello and row alone is said, and
//! it is only said: an objection refuses nothing.

use super::Classified;
use crate::hello::{HelloFacts, version_name};

/// Why an endpoint will not accept a hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    /// `tls_version_not_accepted` or `tls_suites_not_accepted`; stable.
    pub code: &'static str,
    /// What the device offers, what the endpoint accepts, and what to do.
    pub sentence: String,
}

impl Classified<'_> {
    /// What the endpoint asks for, in one sentence.
    pub fn demand(&self) -> String {
        format!("{} accepts {} only.", self.title, list(self.tls))
    }
}

/// What stands against a hello: at the endpoint of a name, or at any of AWS's where the name is not
/// known.
pub fn objections(known: Option<&Classified<'_>>, hello: &HelloFacts) -> Vec<Objection> {
    let (title, accepted) = known.map_or(("AWS", SINCE_TLS12), |known| (known.title, known.tls));
    let version = wrong_version(title, accepted, hello)
        .map(|sentence| Objection { code: "tls_version_not_accepted", sentence });
    let suites = wrong_suites(title, accepted, hello)
        .map(|sentence| Objection { code: "tls_suites_not_accepted", sentence });
    version.into_iter().chain(suites).collect()
}

fn wrong_version(title: &str, accepted: &[u16], hello: &HelloFacts) -> Option<String> {
    if accepted.iter().any(|version| offers(hello, *version)) {
        return None;
    }
    let accepted = list(accepted);
    let highest = hello.highest_version();
    Some(if highest < TLS12 {
        format!(
            "The device offers at most {}; {title} accepts {accepted} only, so it can never \
             succeed. Switch TLS 1.2 on in the device, or update its TLS library.",
            version_name(highest)
        )
    } else {
        format!(
            "The device does not offer {accepted}, and {title} accepts nothing else, so it can \
             never succeed. Let the device offer TLS 1.2 as well."
        )
    })
}

fn wrong_suites(title: &str, accepted: &[u16], hello: &HelloFacts) -> Option<String> {
    let tls13 = accepted.contains(&TLS13) && offers(hello, TLS13);
    let usable = |suite: &u16| ACCEPTED_12.contains(suite) || tls13 && ACCEPTED_13.contains(suite);
    let offered = hello.traits.ciphers();
    if offered.is_empty() || offered.iter().any(usable) {
        return None;
    }
    let real = || offered.iter().filter(|suite| !SIGNALS.contains(suite));
    let what = if real().next().is_none() {
        "no cipher suite"
    } else if real().all(|suite| TRIPLE_DES.contains(suite)) {
        "only 3DES cipher suites"
    } else if real().all(|suite| TRIPLE_DES.contains(suite) || RC4.contains(suite)) {
        "only 3DES and RC4 cipher suites"
    } else {
        "only cipher suites that AWS has never accepted"
    };
    Some(format!(
        "The device offers {what}; {title} accepts none of them, so it can never succeed. Switch \
         AES on in the device, or update its TLS library."
    ))
}

/// Without `supported_versions` a client takes every version up to its own, at most TLS 1.2 (RFC 8446
/// section 4.2.1).
fn offers(hello: &HelloFacts, version: u16) -> bool {
    match hello.versions.as_slice() {
        [] => version <= hello.legacy_version.min(TLS12),
        versions => versions.contains(&version),
    }
}

/// `TLS 1.2`, or `TLS 1.2 and TLS 1.3`.
fn list(versions: &[u16]) -> String {
    versions.iter().map(|version| version_name(*version)).collect::<Vec<_>>().join(" and ")
}

/// What nearly all endpoints accept.
pub(super) const SINCE_TLS12: &[u16] = &[TLS12, TLS13];
/// What the interface endpoints of S3 accept.
pub(super) const TLS12_ONLY: &[u16] = &[TLS12];
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
    use crate::hello::ClientTraits;
    use crate::name::ServerName;
    use crate::policy::catalogue::classify;

    const IOT: &str = "a1b2c3d4e5f6g7-ats.iot.eu-central-1.amazonaws.com";
    const CREDENTIALS: &str = "c1d2e3f4g5h6i7.credentials.iot.eu-central-1.amazonaws.com";
    const S3: &str = "parts.s3.eu-central-1.amazonaws.com";
    const LAYERS: &str = "prod-eu-central-1-starport-layer-bucket.s3.eu-central-1.amazonaws.com";

    fn hello(legacy: u16, versions: &[u16], ciphers: &[u16]) -> HelloFacts {
        let versions = versions.iter().copied().collect();
        let traits = ClientTraits::offering(ciphers);
        HelloFacts { legacy_version: legacy, versions, traits, ..HelloFacts::default() }
    }

    fn against(name: &str, hello: &HelloFacts) -> Vec<Objection> {
        let name: ServerName = name.parse().expect("a name");
        objections(Some(&classify(&name).expect("one of AWS's")), hello)
    }

    /// Asserts a word of each objection, in order.
    #[track_caller]
    fn stands(found: &[Objection], words: &[(&str, &str)]) {
        assert_eq!(found.len(), words.len(), "{found:?}");
        for (objection, (code, word)) in found.iter().zip(words) {
            assert_eq!(objection.code, *code);
            assert!(objection.sentence.contains(word), "{}: {word}", objection.sentence);
            assert!(objection.sentence.contains("can never succeed"), "{objection:?}");
        }
    }

    const VERSION: &str = "tls_version_not_accepted";
    const SUITES: &str = "tls_suites_not_accepted";

    #[test]
    fn what_aws_accepts_has_nothing_against_it() {
        for (name, hello) in [
            (IOT, hello(0x0303, &[], &[0x002f])),
            (IOT, hello(0x0303, &[TLS13], &[0x1301])),
            (CREDENTIALS, hello(0x0303, &[TLS13, 0x0301], &[0x000a, 0x1303])),
            (S3, hello(0x0303, &[TLS13, TLS12], &[0x1301, 0xc02f])),
            (LAYERS, hello(0x0303, &[], &[0xc02f])),
            (IOT, hello(0x0303, &[], &[])),
        ] {
            stands(&against(name, &hello), &[]);
        }
    }

    #[test]
    fn what_can_never_succeed_is_said() {
        let old = [(VERSION, "at most TLS 1.1; AWS IoT data accepts TLS 1.2 and TLS 1.3 only")];
        stands(&against(IOT, &hello(0x0302, &[], &[0x002f])), &old);
        stands(&against(IOT, &hello(0x0303, &[0x0302], &[0x002f])), &old);
        let only_13 = [(VERSION, "does not offer TLS 1.2, and Amazon S3 accepts nothing else")];
        stands(&against(S3, &hello(0x0303, &[TLS13], &[0xc02f])), &only_13);
        let layers = [(VERSION, "image layers"), (SUITES, "AWS has never accepted")];
        stands(&against(LAYERS, &hello(0x0303, &[TLS13], &[0x1301])), &layers);

        let suites = |hello: &HelloFacts, word| stands(&against(IOT, hello), &[(SUITES, word)]);
        suites(&hello(0x0303, &[], &[0x000a, 0x00ff]), "only 3DES cipher");
        suites(&hello(0x0303, &[], &[0x000a, 0x0005]), "3DES and RC4");
        suites(&hello(0x0303, &[], &[0x00ff]), "no cipher suite");
        // A suite of TLS 1.3 is of no use without TLS 1.3.
        suites(&hello(0x0303, &[TLS12], &[0x1301]), "never accepted");
        let both = [(VERSION, "TLS 1.0"), (SUITES, "3DES")];
        stands(&against(IOT, &hello(0x0301, &[], &[0x000a])), &both);
        stands(&objections(None, &hello(0x0301, &[], &[0x000a])), &both);
    }

    #[test]
    fn a_demand_is_what_the_row_says() {
        for (name, demand) in [
            (IOT, "AWS IoT data accepts TLS 1.2 and TLS 1.3 only."),
            (CREDENTIALS, "AWS IoT credentials provider accepts TLS 1.2 and TLS 1.3 only."),
            (S3, "Amazon S3 accepts TLS 1.2 only."),
        ] {
            let name: ServerName = name.parse().expect("a name");
            assert_eq!(classify(&name).expect("one of AWS's").demand(), demand);
        }
    }
}
