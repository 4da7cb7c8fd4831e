//! A plant's log, written through the library as the gate writes it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use sluicegate::audit::{
    Audit, AuditOptions, DeviceFacts, DialFacts, DnsFacts, FlowEnd, FlowRecord, LearntFacts,
    RuleFacts, TrafficFacts, read,
};
use sluicegate::config::{InterfaceName, Retention};
use sluicegate::hello::{ClientTraits, HelloFacts};
use sluicegate::reason::Reason;

pub(crate) const IOT: &str = "a1b2c3d4e5f6g7-ats.iot.eu-central-1.amazonaws.com";
pub(crate) const VENDOR: &str = "telemetry.vendor.example";

pub(crate) const PRESS: Device = Device("press-3", "00:00:5e:00:53:07", "10.10.3.7:51522");
pub(crate) const ROBOT: Device = Device("robot-1", "00:00:5e:00:53:11", "10.10.4.11:40001");
pub(crate) const STRANGER: Device = Device("", "00:00:5e:00:53:99", "10.10.9.9:50000");

/// Name (may be empty), MAC, and address with port.
#[derive(Clone, Copy)]
pub(crate) struct Device(pub(crate) &'static str, pub(crate) &'static str, pub(crate) &'static str);

/// What becomes of a flow.
#[derive(Clone, Copy)]
pub(crate) enum Fate {
    Allowed { up: u64, down: u64 },
    StillOpen,
    Refused(Reason),
    Learnt(Reason),
    Failed(Reason),
}

/// A log in a directory of its own.
pub(crate) struct Log {
    directory: tempfile::TempDir,
    audit: Option<Audit>,
    open: Vec<FlowRecord>,
}

impl Log {
    pub(crate) fn new() -> Self {
        let mut log =
            Self { directory: tempfile::tempdir().unwrap(), audit: None, open: Vec::new() };
        log.start();
        log
    }

    pub(crate) fn start(&mut self) {
        let audit = Audit::start(AuditOptions {
            directory: self.path(),
            retention: Retention::default(),
            site: "augsburg-2".to_owned(),
            region: "eu-central-1".to_owned(),
            slots: 4_096,
            keys: self.directory.path().join("keys"),
            root_key: None,
            policy: "0".repeat(64),
        });
        self.audit = Some(audit.unwrap());
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("audit")
    }

    /// Records one flow; returns its id.
    pub(crate) fn flow(&mut self, from: Device, name: &str, port: u16, fate: Fate) -> String {
        let Device(device, mac, address) = from;
        let facts = DeviceFacts {
            address: address.parse().unwrap(),
            mac: Some(mac.parse().unwrap()),
            name: (!device.is_empty()).then(|| device.into()),
            identity: if device.is_empty() { "none" } else { "mac" },
        };
        let dialled = format!("203.0.113.80:{port}").parse().unwrap();
        let slot = loop {
            // The writer is behind.
            match self.audit.as_ref().unwrap().reserve() {
                Ok(slot) => break slot,
                Err(_) => std::thread::yield_now(),
            }
        };
        let mut flow = slot.begin(facts, dialled);
        let uid = flow.uid().to_string();
        let hello = hello();
        flow.set_hello(Some(&name.parse().unwrap()), &hello, hello.ja4());
        self.finish(flow, device, fate);
        uid
    }

    fn finish(&mut self, mut flow: FlowRecord, device: &str, fate: Fate) {
        let rule = match fate {
            Fate::Learnt(_) => "learn".to_owned(),
            _ if device.is_empty() => "policy.default".to_owned(),
            _ => format!("device {device}"),
        };
        flow.set_rule(RuleFacts {
            policy: "9b2f0c7a4f0e1d6f".repeat(4).into(),
            rule: rule.into(),
            endpoint: None,
            service: None,
        });
        if let Fate::Learnt(reason) = fate {
            flow.set_learnt(LearntFacts { reason, remedy: None });
        }
        match fate {
            Fate::Refused(reason) => return flow.refuse(reason, None, None, Some(112)),
            _ => drop(flow.open()),
        }
        flow.set_dns(DnsFacts {
            resolver: "10.20.0.53:53".parse().unwrap(),
            ttl: 60,
            age: Duration::from_millis(8_123),
            last_good: false,
            addresses: vec!["10.20.0.44".parse().unwrap()],
        });
        if let Fate::Failed(reason) = fate {
            return flow.fail(reason, None);
        }
        flow.set_dial(DialFacts {
            endpoint: "10.20.0.44:443".parse().unwrap(),
            zone: Some("eu-central-1a".into()),
            local: "10.99.0.7:40312".parse().unwrap(),
            interface: InterfaceName::parse("xfrm101").unwrap(),
            connect: Duration::from_micros(8_241),
        });
        match fate {
            Fate::Allowed { up, down } => {
                flow.close(FlowEnd::ClosedByDevice, TrafficFacts { up, down, spliced: 0 });
            }
            Fate::StillOpen => self.open.push(flow),
            _ => flow.close(FlowEnd::ResetByEndpoint, TrafficFacts::default()),
        }
    }

    /// Makes all that was recorded durable.
    pub(crate) fn close(&mut self) {
        self.audit.take().unwrap().close();
        self.open.clear();
    }

    /// Every stored line.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = read::lines(&self.path()).unwrap();
        let mut found = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            found.push(String::from_utf8(line.bytes.to_vec()).unwrap());
        }
        found
    }

    /// Cuts the log, which has one segment, into segments of so many lines.
    pub(crate) fn split(&self, every: usize) {
        let lines = self.lines();
        let one = self.path().join(format!("flow-{:020}.ndjson", 1));
        fs::remove_file(one).unwrap();
        for (index, some) in lines.chunks(every).enumerate() {
            let name = format!("flow-{:020}.ndjson", index * every + 1);
            fs::write(self.path().join(name), some.join("\n") + "\n").unwrap();
        }
    }

    /// Its segments, oldest first.
    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path()).unwrap().map(|entry| entry.unwrap().path());
        let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        let mut segments: Vec<_> = entries.filter(|path| name(path).starts_with("flow-")).collect();
        segments.sort();
        segments
    }

    /// Runs the program over this log.
    pub(crate) fn ask(&self, arguments: &str) -> Answer {
        ask(&self.path(), arguments)
    }
}

/// A plant with one flow of each fate.
pub(crate) fn plant() -> Log {
    let mut log = Log::new();
    log.flow(PRESS, IOT, 8883, Fate::Allowed { up: 18_240, down: 9_312 });
    log.flow(PRESS, VENDOR, 443, Fate::Refused(Reason::NameNotAllowed));
    log.flow(ROBOT, IOT, 443, Fate::Allowed { up: 2_000_000, down: 1 });
    log.flow(ROBOT, VENDOR, 443, Fate::Refused(Reason::NameNotAllowed));
    log.flow(ROBOT, VENDOR, 8443, Fate::Refused(Reason::PortNotAllowed));
    log.flow(STRANGER, "historian.corp.example", 443, Fate::Learnt(Reason::DeviceUnknown));
    log.flow(STRANGER, IOT, 443, Fate::Failed(Reason::EndpointUnreachable));
    log.flow(PRESS, IOT, 8883, Fate::StillOpen);
    log.close();
    log
}

/// What the program said.
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) notes: String,
}

impl Answer {
    fn new(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            notes: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The answer's lines, read as JSON.
    pub(crate) fn records(&self) -> Vec<Value> {
        assert!(self.code <= 1, "{}", self.notes);
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

pub(crate) fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_sluicegate"))
}

/// Runs the program over a log; arguments are separated by blanks.
pub(crate) fn ask(directory: &Path, arguments: &str) -> Answer {
    let words = arguments.split(' ').filter(|word| !word.is_empty());
    let mut command = program();
    command.args(words).arg("--dir").arg(directory);
    Answer::new(command.output().unwrap())
}

fn hello() -> HelloFacts {
    HelloFacts {
        legacy_version: 0x0303,
        versions: [0x0304, 0x0303].into_iter().collect(),
        alpn: [&b"h2"[..], b"=x,\"\n"].into_iter().collect(),
        ech: false,
        traits: ClientTraits::default(),
        records: 1,
        bytes: 517,
        trailing_bytes: 0,
        notes: Vec::new(),
    }
}
