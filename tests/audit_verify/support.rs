//! A log of several segments and two keys, and the real program's word on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use sluicegate::audit::{
    Audit, AuditOptions, DeviceFacts, FlowEnd, TrafficFacts, pinned_key, read,
};
use sluicegate::config::Retention;
use sluicegate::reason::Reason;
use tempfile::TempDir;

/// What the program said.
#[derive(Debug)]
pub(crate) struct Word {
    pub(crate) exit: i32,
    pub(crate) report: Value,
}

impl Word {
    /// The codes of all findings that are no notes.
    pub(crate) fn codes(&self) -> Vec<&str> {
        let findings = self.report["findings"].as_array().unwrap().iter();
        let bad = findings.filter(|finding| finding["result"] != "intact");
        bad.map(|finding| finding["code"].as_str().unwrap()).collect()
    }
}

/// A log with its keys beside it and its public key pinned.
pub(crate) struct Log {
    place: TempDir,
}

impl Log {
    /// An empty place, in memory where there is one: the tests copy logs by the hundred.
    pub(crate) fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        Self { place: tempfile::tempdir_in(place).unwrap() }
    }

    /// Two days with a key each, three flows a day, three segments.
    pub(crate) fn of_two_days() -> Self {
        let log = Self::new();
        log.day();
        log.yesterday();
        log.day();
        log.split();
        fs::remove_dir_all(log.keys()).unwrap();
        log
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.place.path().join("audit")
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.place.path().join("keys")
    }

    pub(crate) fn pubkey(&self) -> PathBuf {
        self.place.path().join("audit.pub")
    }

    /// Starts the log, and pins its key the first time.
    pub(crate) fn start(&self) -> Audit {
        let audit = loop {
            match Audit::start(self.options()) {
                Ok(audit) => break audit,
                // A program that another test is just starting shares the lock's file until then.
                Err(error) if error.0.contains("in use") => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        };
        if !self.pubkey().exists() {
            let key = pinned_key(&self.directory()).unwrap();
            fs::write(self.pubkey(), key.file("augsburg-2")).unwrap();
        }
        audit
    }

    fn options(&self) -> AuditOptions {
        AuditOptions {
            directory: self.directory(),
            retention: Retention::default(),
            site: "augsburg-2".to_owned(),
            region: "eu-central-1".to_owned(),
            slots: 16,
            keys: self.keys(),
            root_key: None,
            policy: "0".repeat(64),
        }
    }

    fn day(&self) {
        let audit = self.start();
        (0..3).for_each(|number| flow(&audit, number));
        audit.close();
    }

    /// Makes the key look as if it were of another day.
    fn yesterday(&self) {
        let path = self.keys().join("current");
        let mut key: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        key["made"] = 1.into();
        fs::write(&path, key.to_string()).unwrap();
    }

    /// Makes three segments out of one.
    fn split(&self) {
        let lines = self.lines();
        let third = lines.len() / 3;
        for (number, part) in lines.chunks(third + 1).enumerate() {
            fs::write(self.segment(number * (third + 1) + 1), joined(part)).unwrap();
        }
    }

    pub(crate) fn segment(&self, first: usize) -> PathBuf {
        self.directory().join(format!("flow-{first:020}.ndjson"))
    }

    /// Where all segments are, in order.
    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.directory()).unwrap().map(|entry| entry.unwrap().path());
        let is_segment = |path: &PathBuf| path.extension().is_some_and(|end| end == "ndjson");
        let named = |path: &PathBuf| path.to_string_lossy().contains("/flow-");
        let mut paths: Vec<_> = entries.filter(is_segment).filter(named).collect();
        paths.sort();
        paths
    }

    pub(crate) fn lines(&self) -> Vec<Vec<u8>> {
        let mut lines = read::lines(&self.directory()).unwrap();
        let mut all = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            all.push(line.bytes.to_vec());
        }
        all
    }

    /// A copy of what a verifier gets: files and public key, elsewhere.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::new();
        fs::create_dir(copy.directory()).unwrap();
        for entry in fs::read_dir(self.directory()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.directory().join(entry.file_name())).unwrap();
        }
        fs::copy(self.pubkey(), copy.pubkey()).unwrap();
        copy
    }

    /// The same without what says how long the log was.
    pub(crate) fn copy_of_lines(&self) -> Self {
        let copy = self.copy();
        for name in ["checkpoint", "settled"] {
            fs::remove_file(copy.directory().join(name)).unwrap();
        }
        copy
    }

    /// Keeps the newest checkpoint elsewhere.
    pub(crate) fn anchor(&self) -> PathBuf {
        let path = self.place.path().join("kept");
        fs::copy(self.directory().join("checkpoint"), &path).unwrap();
        path
    }

    pub(crate) fn verify(&self) -> Word {
        self.verify_with(&[])
    }

    pub(crate) fn verify_against(&self, anchor: &Path) -> Word {
        self.verify_with(&["--against-anchor", anchor.to_str().unwrap()])
    }

    fn verify_with(&self, more: &[&str]) -> Word {
        let (directory, pubkey) = (self.directory(), self.pubkey());
        let mut args = vec!["verify", "--json", "--dir", directory.to_str().unwrap()];
        args.extend(["--pubkey", pubkey.to_str().unwrap()]);
        args.extend(more);
        let (exit, out, err) = audit(&args);
        let report = serde_json::from_str(&out);
        Word { exit, report: report.unwrap_or_else(|_| panic!("{exit}: {out}{err}")) }
    }
}

/// Runs `sluicegate audit`: exit code, standard output and error.
pub(crate) fn audit(args: &[&str]) -> (i32, String, String) {
    let program = env!("CARGO_BIN_EXE_sluicegate");
    let output = Command::new(program).arg("audit").args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

pub(crate) fn joined(lines: &[Vec<u8>]) -> Vec<u8> {
    let mut content = lines.join(&b'\n');
    content.push(b'\n');
    content
}

/// One flow: every third is refused, the others have an Open and an end.
pub(crate) fn flow(audit: &Audit, number: usize) {
    let device = DeviceFacts {
        address: "10.10.3.7:51522".parse().unwrap(),
        mac: None,
        name: None,
        identity: "none",
    };
    let mut flow = audit.reserve().unwrap().begin(device, "203.0.113.80:443".parse().unwrap());
    if number.is_multiple_of(3) {
        return flow.refuse(Reason::NameNotAllowed, None, None, None);
    }
    open(&mut flow);
    flow.close(FlowEnd::ClosedByDevice, TrafficFacts::default());
}

/// Waits until a flow's Open is durable.
pub(crate) fn open(flow: &mut sluicegate::audit::FlowRecord) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(flow.open()).unwrap();
}
