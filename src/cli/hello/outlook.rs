//! What AWS will say to a hello.
//!
//! A device whose hello AWS cannot accept is reset without a word at the far side of the tunnel; its
//! owner should learn here why. Only what is certain from the hello alone is said.

use crate::hello::input::Found;
use crate::policy::catalogue;
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
    let (facts, known) = match &found.answer {
        Ok(hello) => {
            let Some(known) = catalogue::classify(&hello.name) else {
                let notes = vec![format!("{} is not a name of AWS's.", hello.name)];
                return Outlook { accepts: None, notes };
            };
            if let Some(remedy) = known.remedy {
                notes.push(format!("{}: no VPC endpoint serves it. {remedy}", known.title));
            }
            (&hello.facts, Some(known))
        }
        Err(refusal) => {
            let Some(facts) = &refusal.facts else { return Outlook::default() };
            if refusal.reason == Reason::NameMissing {
                notes.push(NO_NAME.to_owned());
            }
            (&**facts, None)
        }
    };
    let objections = catalogue::objections(known.as_ref(), facts);
    notes.extend(objections.into_iter().map(|objection| objection.sentence));
    let accepts = match (notes.is_empty(), known) {
        (false, _) => Some(false),
        (true, Some(_)) => Some(true),
        (true, None) => None,
    };
    Outlook { accepts, notes }
}

const NO_NAME: &str = "Without a server name (SNI) no endpoint can be chosen: AWS IoT requires it \
                       through VPC endpoints, so the device can never succeed.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hello::{ClientTraits, Hello, HelloFacts};

    fn outlook(name: &str, version: u16) -> Outlook {
        let traits = ClientTraits::offering(&[0xc02f]);
        let facts = HelloFacts { legacy_version: version, traits, ..HelloFacts::default() };
        let answer = Ok(Hello { name: name.parse().expect("a name"), facts });
        of(&Found { answer, between: None, remarks: Vec::new() })
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
    fn an_outlook_is_good_bad_or_unknown() {
        let iot = "a1b2c3d4e5f6g7-ats.iot.eu-central-1.amazonaws.com";
        let fine = Outlook { accepts: Some(true), notes: Vec::new() };
        assert_eq!(outlook(iot, 0x0303), fine);
        never(&outlook(iot, 0x0302), &["at most TLS 1.1"]);
        let public = "greengrass-ats.iot.eu-central-1.amazonaws.com";
        never(&outlook(public, 0x0303), &["iotdata"]);
        never(&outlook(public, 0x0301), &["iotdata", "TLS 1.0"]);
        assert_eq!(outlook("historian.corp.example", 0x0301).accepts, None);
    }
}
