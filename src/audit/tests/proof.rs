//! What only somebody with the keys can write, and what `segments` will leave: forged and pruned logs.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::super::chain::{Head, Hex, hash, prefixed};
use super::super::sign::{Context, PublicKey, SigningKey};
use super::super::verify::{Anchors, Code, Report, Verdict};
use super::super::{segment, verify};

/// A log that is written by hand, so that every lie can be told.
struct Forge {
    directory: tempfile::TempDir,
    keys: Vec<SigningKey>,
    lines: Vec<Vec<u8>>,
    certificates: Vec<u8>,
    manifest: Vec<u8>,
    mono: u64,
    since: u64,
}

impl Forge {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut forge = Self {
            directory,
            keys: Vec::new(),
            lines: Vec::new(),
            certificates: Vec::new(),
            manifest: Vec::new(),
            mono: 1,
            since: 0,
        };
        forge.certify(1, 1);
        forge.signed("boot", json!({"boot_id": "b"}));
        forge
    }

    fn certify(&mut self, byte: u8, since: u64) {
        let key = SigningKey::from_seed(&[byte; 32]).unwrap();
        let line = json!({
            "v": 1, "epoch": byte, "id": key.id(), "public": key.public().base64(), "since": since,
            "time": 1,
        });
        let signer = self.keys.last().unwrap_or(&key);
        append(&mut self.certificates, &line, signer, Context::Key);
        self.keys.push(key);
    }

    fn seq(&self) -> u64 {
        self.lines.len() as u64
    }

    fn head(&self) -> Head {
        self.lines.last().map_or_else(Head::genesis, |line| Head::of(self.seq(), line))
    }

    fn line(&mut self, code: &str, system: Option<Value>, key: Option<usize>) {
        let link = self.head().next();
        let class = if system.is_some() { 6002 } else { 4001 };
        let chain = json!({"id": "augsburg-2/0001", "seq": link.seq});
        let chain = chain.to_string();
        let chain = chain.strip_suffix('}').unwrap();
        let facts = system.map_or_else(String::new, |facts| format!("\"system\":{facts},"));
        let mut line = format!(
            "{{\"metadata\":{{\"sequence\":{0},\"logged_time\":{1}}},\"class_uid\":{class},\
             \"activity_id\":99,\"status_code\":\"{code}\",\"unmapped\":{{{facts}\"chain\":{chain},\
             \"prev\":\"{2}\"",
            link.seq,
            self.mono / 1_000_000,
            prefixed(&link.prev),
        )
        .into_bytes();
        match key {
            Some(key) => self.keys[key].seal(Context::Line, &mut line, 0),
            None => line.extend_from_slice(b"}}}"),
        }
        self.lines.push(line);
        self.since += 1;
    }

    /// A signed record, by the newest key.
    fn signed(&mut self, code: &str, facts: Value) {
        self.signed_by(code, facts, self.keys.len() - 1);
    }

    fn signed_by(&mut self, code: &str, mut facts: Value, key: usize) {
        facts["mono_ns"] = self.mono.into();
        self.line(code, Some(facts), Some(key));
    }

    fn flows(&mut self, count: usize) {
        (0..count).for_each(|_| self.line("open", None, None));
    }

    fn checkpoint(&mut self) {
        self.checkpoint_by(self.keys.len() - 1);
    }

    fn checkpoint_by(&mut self, key: usize) {
        let head = self.head();
        let facts = json!({
            "seq": head.seq, "head": prefixed(&head.hash), "records": self.since,
            "interval_s": 60, "boot_id": "b",
        });
        self.signed_by("checkpoint", facts, key);
        self.since = 0;
    }

    /// Introduces the next key.
    fn new_key(&mut self) {
        let epoch = u8::try_from(self.keys.len()).unwrap() + 1;
        let key = SigningKey::from_seed(&[epoch; 32]).unwrap();
        let seq = self.seq() + 1;
        let facts = json!({
            "epoch": epoch, "key": key.id(), "public": key.public().base64(),
            "previous": self.keys.last().unwrap().id(), "since": seq,
        });
        self.signed("key", facts);
        self.certify(epoch, seq);
    }

    fn seconds(&mut self, seconds: u64) {
        self.mono += seconds * 1_000_000_000;
    }

    /// A line of the manifest for these records, by the newest key.
    fn seal(&mut self, first: u64, last: u64) {
        self.seal_by(first, last, self.keys.len() - 1);
    }

    fn seal_by(&mut self, first: u64, last: u64, key: usize) {
        let lines = self.part(first, last);
        let before = self.manifest.split(|byte| *byte == b'\n').rev().nth(1).unwrap_or_default();
        let line = json!({
            "v": 1, "segment": format!("flow-{first:020}.ndjson"), "first": first, "last": last,
            "first_time": 1, "last_time": 1, "records": last - first + 1, "bytes": lines.len(),
            "sha256": Hex(&hash(&lines)).to_string(),
            "last_hash": Hex(&hash(&self.lines[usize::try_from(last).unwrap() - 1])).to_string(),
            "prev": Hex(&hash(before)).to_string(),
        });
        append(&mut self.manifest, &line, &self.keys[key], Context::Manifest);
    }

    fn part(&self, first: u64, last: u64) -> Vec<u8> {
        let range = usize::try_from(first).unwrap() - 1..usize::try_from(last).unwrap();
        let mut content = self.lines[range].join(&b'\n');
        content.push(b'\n');
        content
    }

    /// The record of a removal.
    fn retention(&mut self, first: u64, last: u64) {
        let sha256 = Hex(&hash(&self.part(first, last))).to_string();
        let name = format!("flow-{first:020}.ndjson");
        let segment = json!({"name": name, "first": first, "last": last, "sha256": sha256});
        self.signed("retention", json!({"segments": [segment], "reason": "age"}));
    }

    /// Writes the segments that begin with these records, and checks them.
    fn verdict(&self, firsts: &[u64]) -> Report {
        let directory = self.directory.path();
        write(directory, "keys.ndjson", &self.certificates);
        if !self.manifest.is_empty() {
            write(directory, "manifest.ndjson", &self.manifest);
        }
        for segment in segment::segments(directory).unwrap() {
            fs::remove_file(segment.path).unwrap();
        }
        for (at, first) in firsts.iter().enumerate() {
            let last = firsts.get(at + 1).map_or(self.seq(), |next| next - 1);
            write(directory, &format!("flow-{first:020}.ndjson"), &self.part(*first, last));
        }
        verify(directory, &self.pinned(), &Anchors::default())
    }

    fn pinned(&self) -> PublicKey {
        self.keys[0].public()
    }
}

fn append(file: &mut Vec<u8>, line: &Value, key: &SigningKey, context: Context) {
    let mut line = line.to_string().into_bytes();
    line.pop();
    key.seal(context, &mut line, 0);
    file.extend_from_slice(&line);
    file.push(b'\n');
}

fn write(directory: &Path, name: &str, content: &[u8]) {
    fs::write(directory.join(name), content).unwrap();
}

fn codes(report: &Report) -> Vec<Code> {
    report.findings.iter().map(|finding| finding.code).collect()
}

#[track_caller]
fn assert_found(report: &Report, result: Verdict, expected: &[Code]) {
    assert_eq!((report.result, codes(report).as_slice()), (result, expected), "{report:#?}");
}

#[test]
fn an_old_entry_signed_with_todays_key_is_tampering() {
    let mut forge = Forge::new();
    forge.flows(2);
    forge.checkpoint();
    forge.new_key();
    forge.checkpoint();
    assert_found(&forge.verdict(&[1]), Verdict::Intact, &[]);

    // The whole day before is written anew, with the key that was stolen today.
    let mut forge = Forge::new();
    forge.flows(3);
    forge.keys.push(SigningKey::from_seed(&[2; 32]).unwrap());
    forge.checkpoint_by(1);
    forge.keys.pop();
    forge.new_key();
    forge.checkpoint();
    assert_found(&forge.verdict(&[1]), Verdict::Tampered, &[Code::KeyNotValid]);
    let sentence = &forge.verdict(&[1]).findings[0].sentence;
    assert!(sentence.contains("which is valid from record 7 on"), "{sentence}");
    // Nor does the old key sign behind the new one.
    let mut forge = Forge::new();
    forge.new_key();
    forge.checkpoint_by(0);
    assert_found(&forge.verdict(&[1]), Verdict::Tampered, &[Code::KeyNotValid]);
}

#[test]
fn keys_and_records_have_to_agree() {
    // A certificate for a place where no record introduces a key.
    let mut forge = Forge::new();
    forge.flows(1);
    forge.certify(2, 2);
    forge.keys.pop();
    forge.checkpoint();
    let report = forge.verdict(&[1]);
    assert_eq!(report.result, Verdict::Tampered, "{report:#?}");
    assert_eq!(report.findings[0].code, Code::KeyRecordWrong);

    // The last certificate can be late: the record proves the key.
    let mut forge = Forge::new();
    let certificates = forge.certificates.clone();
    forge.new_key();
    forge.checkpoint();
    forge.certificates = certificates;
    assert_found(&forge.verdict(&[1]), Verdict::Intact, &[Code::CertificateMissing]);
}

#[test]
fn a_checkpoint_says_what_the_chain_is() {
    for (name, value) in [("seq", json!(1)), ("head", json!("sha256:00")), ("records", json!(9))] {
        let mut forge = Forge::new();
        forge.checkpoint();
        forge.flows(2);
        let head = forge.head();
        let mut facts = json!({
            "seq": head.seq, "head": prefixed(&head.hash), "records": 2, "interval_s": 60,
            "boot_id": "b",
        });
        facts[name] = value;
        forge.signed("checkpoint", facts);
        assert_found(&forge.verdict(&[1]), Verdict::Tampered, &[Code::CheckpointWrong]);
    }
}

#[test]
fn a_missing_checkpoint_is_found() {
    let after = |seconds: u64, stop: bool, next: &str| {
        let mut forge = Forge::new();
        forge.checkpoint();
        if stop {
            forge.signed("stop", json!({"boot_id": "b"}));
            forge.checkpoint();
        }
        forge.seconds(seconds);
        match next {
            "flow" => forge.flows(1),
            "boot" => forge.signed("boot", json!({"boot_id": "b"})),
            "reboot" => forge.signed("boot", json!({"boot_id": "c"})),
            _ => forge.checkpoint(),
        }
        forge.verdict(&[1]).result
    };
    for next in ["checkpoint", "flow", "boot", "reboot"] {
        assert_eq!(after(70, false, next), Verdict::Intact, "{next}");
    }
    for next in ["checkpoint", "flow", "boot"] {
        assert_eq!(after(121, false, next), Verdict::Incomplete, "{next}");
    }
    // A stop is signed, and another boot of the machine has another clock.
    assert_eq!(after(100_000, true, "boot"), Verdict::Intact);
    assert_eq!(after(100_000, false, "reboot"), Verdict::Intact);
    assert_eq!(after(100_000, true, "checkpoint"), Verdict::Incomplete);
}

#[test]
fn segments_may_be_missing_where_manifest_and_record_say_so() {
    let pruned = || {
        let mut forge = Forge::new();
        forge.flows(3);
        forge.checkpoint();
        forge.new_key();
        forge.flows(2);
        forge.checkpoint();
        forge.seal(1, 5);
        forge.seal(6, 9);
        forge
    };
    let mut forge = pruned();
    assert_found(&forge.verdict(&[1, 6]), Verdict::Intact, &[]);
    // No record says that it was removed.
    assert_found(&forge.verdict(&[6]), Verdict::Incomplete, &[Code::StartMissing]);
    forge.retention(1, 5);
    forge.checkpoint();
    assert_found(&forge.verdict(&[6, 10]), Verdict::Intact, &[Code::Retention]);
    // The next one is not among those that were.
    assert_found(&forge.verdict(&[10]), Verdict::Incomplete, &[Code::StartMissing]);
    let mut forge = pruned();
    forge.manifest.clear();
    forge.retention(1, 5);
    let report = forge.verdict(&[6, 10]);
    assert_found(&report, Verdict::Incomplete, &[Code::StartMissing]);
    // The manifest knows of more than there is.
    let mut forge = pruned();
    forge.retention(1, 5);
    forge.checkpoint();
    forge.seal(10, 11);
    forge.lines.truncate(9);
    let report = forge.verdict(&[1, 6]);
    assert_found(&report, Verdict::Incomplete, &[Code::TailCut]);
}

#[test]
fn a_changed_manifest_is_tampering() {
    let sealed = || {
        let mut forge = Forge::new();
        forge.flows(3);
        forge.checkpoint();
        forge.seal(1, 2);
        forge.new_key();
        forge.checkpoint();
        forge.seal(3, 5);
        forge
    };
    let forge = sealed();
    assert_found(&forge.verdict(&[1, 3, 6]), Verdict::Intact, &[]);
    for at in (0..forge.manifest.len()).step_by(11) {
        let mut changed = sealed();
        changed.manifest[at] ^= 1;
        let report = changed.verdict(&[1, 3, 6]);
        assert_eq!(report.result, Verdict::Tampered, "{at}: {report:#?}");
    }
    // A line for later records by an earlier key.
    let mut forge = sealed();
    forge.seal_by(6, 7, 0);
    assert_found(&forge.verdict(&[1, 3, 6]), Verdict::Tampered, &[Code::ManifestWrong]);
    // Content and list do not agree.
    let mut forge = Forge::new();
    forge.flows(3);
    forge.checkpoint();
    let other = forge.lines[1].clone();
    forge.lines[1] = b"another".to_vec();
    forge.seal(1, 3);
    forge.lines[1] = other;
    assert_found(&forge.verdict(&[1, 4]), Verdict::Tampered, &[Code::ManifestWrong]);
}

/// Writing fails so long after the last checkpoint, is possible again so much later, and the next
/// checkpoint comes so long behind that.
fn outage(fails: u64, lasts: u64, next: u64) -> Report {
    let mut forge = Forge::new();
    forge.checkpoint();
    forge.seconds(fails);
    let since = forge.mono;
    forge.seconds(lasts);
    forge.signed("outage", json!({"boot_id": "b", "since_ns": since, "reason": "disk_full"}));
    forge.flows(1);
    forge.seconds(next);
    forge.checkpoint();
    forge.verdict(&[1])
}

#[test]
fn an_outage_that_is_recorded_is_no_missing_checkpoint() {
    let report = outage(60, 7_200, 60);
    assert_eq!(report.result, Verdict::Intact, "{report:#?}");
    let codes: Vec<_> = report.findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, [Code::Outage]);
    let sentence = &report.findings[0].sentence;
    assert!(sentence.contains("for 7200 s") && sentence.contains("disk_full"), "{sentence}");
}

#[test]
fn an_outage_explains_no_silence_before_or_behind_it() {
    for (fails, next) in [(600, 60), (60, 600)] {
        let report = outage(fails, 10, next);
        assert_eq!(report.result, Verdict::Incomplete, "{report:#?}");
        assert!(report.findings.iter().any(|finding| finding.code == Code::CheckpointMissing));
    }
    // One that nobody signed explains nothing.
    let mut forge = Forge::new();
    forge.checkpoint();
    let since = forge.mono;
    forge.seconds(600);
    let facts = json!({"boot_id": "b", "since_ns": since, "mono_ns": forge.mono});
    forge.line("outage", Some(facts), None);
    forge.checkpoint();
    assert_eq!(forge.verdict(&[1]).result, Verdict::Tampered);
}
