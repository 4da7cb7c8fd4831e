//! The daemon as a process in the box.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::error::LabError;
use super::external;
use super::netns;
use super::party::Party;
use super::process::Process;

/// A running `sluicegate run`, which has said that it is ready.
#[derive(Debug)]
pub struct Daemon {
    process: Process,
    namespace: String,
    binary: PathBuf,
    config: PathBuf,
    notifications: UnixDatagram,
}

impl Daemon {
    /// Starts the daemon and waits until it is ready.
    pub(crate) fn start(
        party: &Party,
        binary: &Path,
        directory: &Path,
        config: &str,
    ) -> Result<Self, LabError> {
        let config_file = directory.join("sluicegate.toml");
        write(&config_file, config)?;
        let socket = directory.join("notify");
        let notifications = UnixDatagram::bind(&socket)
            .map_err(LabError::io(format!("open the socket {}", socket.display())))?;
        let mut command = netns::bound_command(party.namespace(), binary);
        command.args(["run", "--config"]).arg(&config_file).env("NOTIFY_SOCKET", &socket);
        let process = Process::start(party, command, &directory.join("stderr"))?;
        let daemon = Self {
            process,
            namespace: party.namespace().to_owned(),
            binary: binary.to_owned(),
            config: config_file,
            notifications,
        };
        daemon.wait_notification("READY=1", READY_WITHIN)?;
        Ok(daemon)
    }

    /// Waits for a line of the daemon's notifications (sd_notify(3)): `READY=1`, `STOPPING=1`.
    ///
    /// # Errors
    /// When the daemon ends before it, or it does not come in time; with what the daemon said.
    pub fn wait_notification(&self, line: &str, patience: Duration) -> Result<(), LabError> {
        let until = Instant::now() + patience;
        let failed = |error| LabError::io("read the daemon's notifications")(error);
        self.notifications.set_read_timeout(Some(GLANCE)).map_err(failed)?;
        let mut buffer = [0; 4096];
        loop {
            // Looked at first: what it said before it ended is still to be read then.
            let ended = self.process.ended()?;
            match self.notifications.recv(&mut buffer) {
                Ok(size) => {
                    let text = String::from_utf8_lossy(buffer.get(..size).unwrap_or_default());
                    if text.lines().any(|said| said == line) {
                        return Ok(());
                    }
                    continue;
                }
                Err(error) if nothing_yet(&error) => {}
                Err(error) => return Err(failed(error)),
            }
            if let Some(status) = ended {
                let stderr = self.stderr_text();
                return Err(LabError::DaemonEnded { status: status.to_string(), stderr });
            }
            if Instant::now() >= until {
                let stderr = self.stderr_text();
                return Err(LabError::DaemonNotReady { seconds: patience.as_secs(), stderr });
            }
        }
    }

    /// Writes another configuration and asks the daemon to take it (SIGHUP).
    ///
    /// # Errors
    /// When the file cannot be written, or the daemon has ended.
    pub fn reload(&self, config: &str) -> Result<(), LabError> {
        write(&self.config, config)?;
        self.process.signal(Signal::HUP)
    }

    /// Runs another subcommand of the daemon's program in the box, with its configuration, and
    /// returns what it wrote to standard output, whatever its exit code.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn subcommand(&self, words: &[&str]) -> Result<std::process::Output, LabError> {
        let mut command = netns::command(&self.namespace, &self.binary);
        command.args(words).arg("--config").arg(&self.config);
        let line = external::command_line(&command);
        command.output().map_err(|source| LabError::Start { command: line, source })
    }

    /// What `sluicegate status --json` says.
    ///
    /// # Errors
    /// When it cannot be run, or what it says is not JSON.
    pub fn status_json(&self) -> Result<serde_json::Value, LabError> {
        let output = self.subcommand(&["status", "--json"])?;
        serde_json::from_slice(&output.stdout).map_err(|error| LabError::Answer {
            command: "sluicegate status --json".to_owned(),
            detail: format!(
                "{error}; {}; standard output: {}; standard error: {}",
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            ),
        })
    }

    /// Sends the daemon a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<(), LabError> {
        self.process.signal(signal)
    }

    /// Waits until the daemon ends by itself; `None` when it has not within `patience`.
    ///
    /// # Errors
    /// When the system cannot say.
    pub fn wait(&self, patience: Duration) -> Result<Option<ExitStatus>, LabError> {
        self.process.wait(patience)
    }

    /// Kills the daemon at once, as a crash would.
    pub fn kill_hard(&self) {
        self.process.kill_hard();
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its configuration file.
    pub fn config_file(&self) -> &Path {
        &self.config
    }

    /// What it has written to standard output and error so far.
    pub fn stderr_text(&self) -> String {
        self.process.said()
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }
}

/// How long a daemon may take to be ready; many times what it takes, for a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How often a daemon that says nothing is looked at.
const GLANCE: Duration = Duration::from_millis(20);

fn nothing_yet(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

fn write(path: &Path, text: &str) -> Result<(), LabError> {
    std::fs::write(path, text).map_err(LabError::io(format!("write {}", path.display())))
}
