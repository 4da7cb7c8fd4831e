//! Programs that the lab runs in its namespaces, and that end with it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::error::LabError;
use super::external;
use super::party::Party;

/// A running program. It is killed when this is dropped, when the lab is, and when the lab's
/// process dies.
#[derive(Debug)]
pub struct Process {
    child: Arc<Mutex<Child>>,
    pid: Pid,
    line: String,
    said: PathBuf,
}

impl Process {
    /// Starts a command on the thread of `party`, standard output and error into the file `said`.
    pub(crate) fn start(
        party: &Party,
        mut command: Command,
        said: &Path,
    ) -> Result<Self, LabError> {
        let writing = |what| LabError::io(format!("{what} {}", said.display()));
        let file = File::create(said).map_err(writing("write"))?;
        let copy = file.try_clone().map_err(writing("write twice to"))?;
        command.stdin(Stdio::null()).stdout(copy).stderr(file);
        let line = external::command_line(&command);
        // The kernel watches the thread that starts a program, not its process; the party's thread
        // is there for as long as the lab is.
        let child = party
            .run(async move || command.spawn())
            .map_err(|source| LabError::Start { command: line.clone(), source })?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.expect("the kernel numbers processes with positive 32-bit numbers");
        Ok(Self { child: Arc::new(Mutex::new(child)), pid, line, said: said.to_owned() })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child().id()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<(), LabError> {
        // Held while signalling: a process that has been waited for may be somebody else's number.
        let mut child = self.child();
        let failed = LabError::io(format!("signal `{}`", self.line));
        match child.try_wait() {
            Ok(None) => kill_process(self.pid, signal).map_err(|error| failed(error.into())),
            Ok(Some(_)) => Err(failed(std::io::ErrorKind::NotFound.into())),
            Err(error) => Err(failed(error)),
        }
    }

    /// Kills it at once and waits for its end.
    pub fn kill_hard(&self) {
        end(&mut self.child());
    }

    /// Waits until it ends by itself; `None` when it has not within `patience`.
    ///
    /// # Errors
    /// When the system cannot say.
    pub fn wait(&self, patience: Duration) -> Result<Option<ExitStatus>, LabError> {
        let until = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(Some(status));
            }
            if Instant::now() >= until {
                return Ok(None);
            }
            std::thread::sleep(GLANCE);
        }
    }

    /// Its exit status, if it has ended.
    ///
    /// # Errors
    /// When the system cannot say.
    pub fn ended(&self) -> Result<Option<ExitStatus>, LabError> {
        self.child().try_wait().map_err(LabError::io(format!("look at `{}`", self.line)))
    }

    /// What it has written to standard output and error so far.
    pub fn said(&self) -> String {
        std::fs::read(&self.said)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    pub(crate) fn handle(&self) -> Arc<Mutex<Child>> {
        Arc::clone(&self.child)
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_hard();
    }
}

/// Kills and waits; does nothing when it has ended.
pub(crate) fn end(child: &mut Child) {
    // Errors mean that there is nothing left to end.
    let _ = child.kill();
    let _ = child.wait();
}

/// How often a process that must end by itself is looked at.
const GLANCE: Duration = Duration::from_millis(10);
