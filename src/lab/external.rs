//! External programs: found, run, and their failures told with command line and words.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::process::{Command, Stdio};

use super::error::LabError;
use super::inside::MARKER;

/// A command with the lab's search path and without the lab's own mark.
///
/// The administrators' directories are added because `ip`, `nft` and `ethtool` are there, and an
/// unprivileged user's search path often does not have them.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", search_path()).env_remove(MARKER);
    command
}

/// Runs a program to its end and returns its standard output.
///
/// # Errors
/// With command line, exit status and standard error when it could not start or did not succeed.
pub(crate) fn run(program: &str, args: &[&str]) -> Result<String, LabError> {
    feed(program, args, "")
}

/// As [`run`], with text on the program's standard input.
pub(crate) fn feed(program: &str, args: &[&str], input: &str) -> Result<String, LabError> {
    let mut command = command(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let line = command_line(&command);
    let start = |source| LabError::Start { command: line.clone(), source };
    let mut child = command.spawn().map_err(start)?;
    // Every input here is far smaller than a pipe, so this never waits for the reader.
    let fed = child.stdin.take().map_or(Ok(()), |mut pipe| pipe.write_all(input.as_bytes()));
    let output = child.wait_with_output().map_err(LabError::io(format!("wait for `{line}`")))?;
    if output.status.success() && fed.is_ok() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let fed = if input.is_empty() { String::new() } else { format!(" <<'END'\n{input}END") };
    Err(LabError::Command {
        command: format!("{line}{fed}"),
        status: output.status.to_string(),
        stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

/// The command as a person would type it.
pub(crate) fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// The search path with the administrators' directories at its end.
pub(crate) fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin");
    path
}
