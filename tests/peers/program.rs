//! A device's program that the test talks to while it runs.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use sluicegate::lab::Lab;

use crate::stand::eventually;

/// A running program. It is killed when this is dropped.
pub(crate) struct Program {
    child: Child,
    hash: Option<Child>,
    stdin: Option<ChildStdin>,
    said: PathBuf,
    line: String,
}

/// What becomes of a program's standard output.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// It is kept, together with standard error.
    Kept,
    /// `sha256sum` reads it; standard error is kept.
    Hashed,
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    /// What it said.
    pub(crate) said: String,
    /// The SHA-256 of its standard output in lower-case hex, where that was asked for.
    pub(crate) sha256: String,
}

impl Program {
    /// Starts a program on a device.
    pub(crate) fn start(lab: &Lab, device: usize, words: &[&str], output: Output) -> Self {
        let (program, args) = words.split_first().unwrap();
        let mut command = lab.device(device).command(program, args);
        let line = words.join(" ");
        let said = lab.directory().join(format!("said-{}", uuid::Uuid::now_v7()));
        let file = File::create(&said).unwrap();
        command.stdin(Stdio::piped()).stderr(file.try_clone().unwrap());
        match output {
            Output::Kept => command.stdout(file),
            Output::Hashed => command.stdout(Stdio::piped()),
        };
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
        let stdin = child.stdin.take();
        let hash = child.stdout.take().map(|stdout| {
            let mut hash = Command::new("sha256sum");
            hash.stdin(stdout).stdout(Stdio::piped()).spawn().unwrap()
        });
        Self { child, hash, stdin, said, line }
    }

    /// Writes to its standard input.
    pub(crate) fn write(&mut self, text: &str) {
        self.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Closes its standard input.
    pub(crate) fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Waits until it has said this.
    pub(crate) fn wait_for(&mut self, text: &str, patience: Duration) {
        let what = format!("{text:?} from {}", self.line);
        eventually(&what, patience, || {
            // Looked at first: what it said before it ended is still to be read then.
            let ended = self.child.try_wait().unwrap();
            let said = self.said();
            let there = said.contains(text);
            assert!(there || ended.is_none(), "{}: {ended:?}: {said}", self.line);
            there.then_some(())
        });
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.said).unwrap()).into_owned()
    }

    /// Waits until it ends by itself.
    pub(crate) fn end(mut self, patience: Duration) -> Ended {
        let until = Instant::now() + patience;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "{} does not end: {}", self.line, self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
        self.ended()
    }

    /// Kills it.
    pub(crate) fn kill(mut self) -> Ended {
        self.child.kill().unwrap();
        self.ended()
    }

    fn ended(&mut self) -> Ended {
        let code = self.child.wait().unwrap().code();
        let sha256 = self.hash.take().map(|hash| {
            let output = hash.wait_with_output().unwrap();
            String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
        });
        Ended { code, said: self.said(), sha256: sha256.unwrap_or_default() }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Errors mean that there is nothing left to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program on a device to its end.
pub(crate) fn run(lab: &Lab, device: usize, words: &[&str], patience: Duration) -> Ended {
    Program::start(lab, device, words, Output::Kept).end(patience)
}
