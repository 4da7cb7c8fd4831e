//! What a hello says, as JSON: the shape of `sluicegate hello --json`.
//!
//! A field is never left out; what could not be read is `null`, or an empty list.

use serde_json::{Value, json};

use super::{Hello, HelloFacts, Refusal, cipher_name, version_name};

/// The document for one hello: `name` is set when it was read, `reason` when it was refused.
pub fn report(answer: Result<&Hello, &Refusal>) -> Value {
    let facts = match answer {
        Ok(hello) => Some(&hello.facts),
        Err(refusal) => refusal.facts.as_deref(),
    };
    let refusal = answer.err();
    let or_empty = |list: fn(&HelloFacts) -> Vec<String>| facts.map(list).unwrap_or_default();
    json!({
        "name": answer.ok().map(|hello| &hello.name),
        "reason": refusal.map(|refusal| refusal.reason),
        "sentence": refusal.map(|refusal| refusal.reason.sentence()),
        "remedy": refusal.map(|refusal| refusal.reason.remedy()),
        "detail": refusal.map(|refusal| &refusal.detail),
        "first_bytes": refusal
            .filter(|refusal| !refusal.first_bytes.is_empty())
            .map(|refusal| hex(&refusal.first_bytes)),
        "legacy_version": facts.map(|facts| version_name(facts.legacy_version)),
        "versions": or_empty(|facts| {
            facts.versions.iter().map(|version| version_name(*version).into_owned()).collect()
        }),
        "ciphers": or_empty(|facts| {
            facts.traits.ciphers().iter().map(|cipher| cipher_name(*cipher).into_owned()).collect()
        }),
        "alpn": or_empty(|facts| {
            facts.alpn.iter().map(|name| name.escape_ascii().to_string()).collect()
        }),
        "ech": facts.is_some_and(|facts| facts.ech),
        "ja4": facts.map(|facts| facts.ja4().to_string()),
        "records": facts.map(|facts| facts.records),
        "bytes": facts.map(|facts| facts.bytes),
        "trailing_bytes": facts.map(|facts| facts.trailing_bytes),
        "notes": or_empty(|facts| facts.notes.clone()),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hello::{ClientTraits, HelloReader, Stopped};

    #[test]
    fn a_hello_and_a_refusal_have_the_same_fields() {
        let facts = HelloFacts {
            legacy_version: 0x0303,
            versions: [0x0304, 0x7f1c].into_iter().collect(),
            alpn: [&b"h2"[..], b"\xff\n"].into_iter().collect(),
            ech: true,
            traits: ClientTraits::offering(&[0x1301, 0xfefe]),
            records: 1,
            bytes: 200,
            trailing_bytes: 3,
            notes: vec!["a note".into()],
        };
        let name = "device.example.com".parse().expect("a name");
        let ja4 = facts.traits.ja4();
        let hello = report(Ok(&Hello { name, facts }));
        assert_eq!(
            hello,
            json!({
                "name": "device.example.com", "reason": null, "sentence": null, "remedy": null,
                "detail": null, "first_bytes": null, "legacy_version": "TLS 1.2",
                "versions": ["TLS 1.3", "0x7f1c"],
                "ciphers": ["TLS_AES_128_GCM_SHA256", "0xfefe"], "alpn": ["h2", r"\xff\n"], "ech": true,
                "ja4": ja4.as_str(), "records": 1, "bytes": 200, "trailing_bytes": 3,
                "notes": ["a note"],
            })
        );
        let mut reader = HelloReader::new();
        reader.push(b"\x10\x25");
        let refusal = report(Err(&reader.stop(Stopped::Deadline)));
        assert_eq!(refusal["reason"], "not_tls");
        assert_eq!(refusal["first_bytes"], "1025");
        assert_eq!((&refusal["name"], &refusal["ja4"]), (&Value::Null, &Value::Null));
        let fields = |value: &Value| -> Vec<String> {
            value.as_object().expect("an object").keys().cloned().collect()
        };
        assert_eq!(fields(&hello), fields(&refusal));
    }
}
