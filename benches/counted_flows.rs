//! Runs what `benches/gate` counts in the running gate: new flows, and messages by a flow that is there.
//!
//! The gate runs in the lab under callgrind, with one data thread, and is driven by its sockets alone.
//! Counted are the instructions of the data thread, and of the writer of the audit log, in user
//! space. What a flow or a message costs is the difference between few and many of them. Prints a line
//! for each part: label and instructions.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a measurement that meets the unexpected has to fail"
)]

#[path = "../tests/support/client_hello.rs"]
mod client_hello;
#[path = "../tests/support/echo.rs"]
mod echo;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluicegate::lab::{Daemon, Lab, inside};
use tokio::sync::Semaphore;

fn main() -> ExitCode {
    let gate = std::env::args_os().nth(1).map(PathBuf::from);
    let Some(gate) = gate else {
        eprintln!("usage: counted_flows PROGRAM");
        return ExitCode::from(64);
    };
    if !inside::is_inside() {
        let ended = inside::reexec_self().unwrap_or_else(|error| panic!("{error}"));
        return ExitCode::from(ended);
    }
    count(&gate);
    ExitCode::SUCCESS
}

fn count(gate: &Path) {
    let lab = Lab::up().unwrap_or_else(|error| panic!("{error}"));
    let program = wrapped(&lab, gate);
    echo::answer(&lab, &Arc::new(Semaphore::new(0)));
    let daemon = lab.start_daemon(&program, &echo::config(&lab));
    let daemon = daemon.unwrap_or_else(|error| panic!("{error}"));
    until_open(&lab);
    let counting = Counting { lab: &lab, daemon: &daemon };
    counting.tell("instrumentation on");
    // The first flows open what is opened once, and fill what is kept.
    echo::flows(&lab, WARM, 1);
    let few = counting.during(|| echo::flows(&lab, FEW, 1));
    let many = counting.during(|| echo::flows(&lab, FEW + FLOWS, 1));
    let talkative = counting.during(|| echo::flows(&lab, FEW, 1 + MESSAGES));
    println!("new flow, data thread\t{}", (many.data - few.data) / FLOWS as u64);
    println!("new flow, audit writer\t{}", (many.writer - few.writer) / FLOWS as u64);
    let messages = (FEW * MESSAGES) as u64;
    println!("message and answer, data thread\t{}", (talkative.data - few.data) / messages);
}

/// A program that runs the gate under callgrind, which counts nothing yet.
fn wrapped(lab: &Lab, gate: &Path) -> PathBuf {
    let program = lab.directory().join("gate");
    let (out, gate) = (out(lab), gate.display());
    let text = format!(
        "#!/bin/sh\nexec valgrind --quiet --tool=callgrind --instr-atstart=no \
         --separate-threads=yes --callgrind-out-file='{}' '{gate}' \"$@\"\n",
        out.display()
    );
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    program
}

fn out(lab: &Lab) -> PathBuf {
    lab.directory().join("counts")
}

/// Waits until flows pass: until the name is resolved.
fn until_open(lab: &Lab) {
    let until = Instant::now() + SOON;
    loop {
        let passes = lab.device(1).run(async || {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let mut flow = echo::open().await.ok()?;
            flow.write_all(&[7; 64]).await.ok()?;
            flow.read_exact(&mut [0; 64]).await.ok()
        });
        if passes.is_some() {
            return;
        }
        assert!(Instant::now() < until, "no flow passes within {SOON:?}");
    }
}

/// Instructions by thread.
#[derive(Debug, Default)]
struct Counts {
    data: u64,
    writer: u64,
}

struct Counting<'a> {
    lab: &'a Lab,
    daemon: &'a Daemon,
}

impl Counting<'_> {
    fn during(&self, work: impl FnOnce()) -> Counts {
        self.settle();
        self.tell("zero");
        work();
        self.settle();
        for old in self.parts() {
            std::fs::remove_file(old).unwrap();
        }
        self.tell("dump");
        let mut counts = Counts::default();
        for part in self.parts() {
            let text = std::fs::read_to_string(&part).unwrap();
            let summary = text.lines().find_map(|line| line.strip_prefix("summary: "));
            let count: u64 = summary.map_or(0, |count| count.trim().parse().unwrap());
            // Threads have numbers there, and are known by what they do.
            if text.contains("sluicegate::proxy::flow::") {
                counts.data += count;
            } else if WRITER.iter().any(|module| text.contains(module)) {
                counts.writer += count;
            }
        }
        assert!(counts.data > 0 && counts.writer > 0, "{counts:?}");
        counts
    }

    /// Waits until the last flow has ended and its end is written.
    fn settle(&self) {
        let log = self.lab.directory().join("audit");
        let mut last = (0, Instant::now());
        let until = Instant::now() + SOON;
        while last.1.elapsed() < QUIET {
            assert!(Instant::now() < until, "the gate does not come to rest");
            let entries = std::fs::read_dir(&log).unwrap().flatten();
            let size: u64 =
                entries.filter_map(|entry| entry.metadata().ok()).map(|m| m.len()).sum();
            if size != last.0 {
                last = (size, Instant::now());
            }
            std::thread::sleep(QUIET / 10);
        }
    }

    fn parts(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.lab.directory()).unwrap().flatten();
        let is_part = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("counts"))
        };
        entries.map(|entry| entry.path()).filter(is_part).collect()
    }

    /// Tells callgrind something (`vgdb`, and the monitor commands of callgrind's manual).
    fn tell(&self, what: &str) {
        let pid = format!("--pid={}", self.daemon.pid());
        let mut command = Command::new("vgdb");
        command.args([&pid, "--wait=30"]).args(what.split(' '));
        let told = command.output().unwrap();
        assert!(told.status.success(), "vgdb {what}: {}", String::from_utf8_lossy(&told.stderr));
    }
}

/// What the audit writer alone goes through; which of them, the compiler decides by inlining.
const WRITER: [&str; 4] = [
    "sluicegate::audit::spool::",
    "sluicegate::audit::batch::",
    "sluicegate::audit::journal::",
    "sluicegate::audit::chain::",
];
const WARM: usize = 20;
const FEW: usize = 10;
const FLOWS: usize = 100;
/// By each flow.
const MESSAGES: usize = 100;
const SOON: Duration = Duration::from_secs(60);
/// Nothing is written for longer only when nothing is left to write.
const QUIET: Duration = Duration::from_millis(300);
