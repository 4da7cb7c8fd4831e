//! The load client: a process of this program that says when the measured interval begins and ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Stdio};

use serde_json::Value;

use crate::Failure;
use crate::stage::Stage;

/// A client that waits to be let go, or goes.
#[derive(Debug)]
pub(crate) struct Client {
    child: Child,
    commands: ChildStdin,
    said: BufReader<ChildStdout>,
    errors: ChildStderr,
}

impl Client {
    /// Starts it and waits until it is set up.
    ///
    /// # Errors
    /// With what it said, when it ends before.
    pub(crate) fn start(stage: &Stage, args: &[String]) -> Result<Self, Failure> {
        let failed = |error| Failure::io("start the load client", error);
        let mut child = stage
            .client(args)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (Some(commands), Some(said), Some(errors)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(Failure::Other("the load client has no pipes".to_owned()));
        };
        let mut client = Self { child, commands, said: BufReader::new(said), errors };
        client.wait_for("start")?;
        Ok(client)
    }

    /// Begins the measured interval.
    ///
    /// # Errors
    /// When the client has ended.
    pub(crate) fn go(&mut self) -> Result<(), Failure> {
        self.tell(b"g")
    }

    /// Waits for the end of the measured interval.
    ///
    /// # Errors
    /// When the client ends before, with what it said.
    pub(crate) fn wait_end(&mut self) -> Result<(), Failure> {
        self.wait_for("end")
    }

    /// How many flows it holds, after the end of the interval.
    ///
    /// # Errors
    /// When it has ended.
    pub(crate) fn held(&mut self) -> Result<u64, Failure> {
        let line = self.line()?;
        let count = line.trim().strip_prefix("held ").and_then(|count| count.parse().ok());
        count.ok_or_else(|| self.ended_with(&line))
    }

    /// Lets a client end that holds its flows.
    ///
    /// # Errors
    /// When it has ended.
    pub(crate) fn quit(&mut self) -> Result<(), Failure> {
        self.tell(b"q")
    }

    /// Its findings, when it holds its flows still.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(crate) fn findings(&mut self) -> Result<Value, Failure> {
        let line = self.line()?;
        serde_json::from_str(&line).map_err(|_| self.ended_with(&line))
    }

    /// Kills it, as when its device lost power.
    pub(crate) fn kill(self) {
        drop(self);
    }

    /// Waits until it has closed everything.
    ///
    /// # Errors
    /// When it failed.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        let status =
            self.child.wait().map_err(|error| Failure::io("wait for the load client", error))?;
        if status.success() { Ok(()) } else { Err(self.ended_with(&status.to_string())) }
    }

    fn wait_for(&mut self, word: &str) -> Result<(), Failure> {
        let line = self.line()?;
        if line.trim() == word { Ok(()) } else { Err(self.ended_with(&line)) }
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        self.said
            .read_line(&mut line)
            .map_err(|error| Failure::io("read from the load client", error))?;
        Ok(line)
    }

    fn tell(&mut self, word: &[u8]) -> Result<(), Failure> {
        let told = self.commands.write_all(word).and_then(|()| self.commands.flush());
        told.map_err(|error| Failure::io("write to the load client", error))
    }

    fn ended_with(&mut self, line: &str) -> Failure {
        let _ = self.child.kill();
        let mut said = String::new();
        let _ = self.errors.read_to_string(&mut said);
        Failure::Other(format!("the load client failed: {} {}", line.trim(), said.trim()))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // Waited for, so that its sockets are closed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
