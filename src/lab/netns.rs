//! Network namespaces by name, and how a thread gets into one.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::error::LabError;
use super::external;

/// Moves the calling thread, for good, into the network namespace `name`.
///
/// Only for threads that are the lab's own: sockets that a thread opens are in its namespace.
pub(crate) fn join(name: &str) -> Result<(), LabError> {
    let path = path(name);
    let file = File::open(&path).map_err(LabError::io(format!("open {path}")))?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|error| LabError::io(format!("enter {path}"))(error.into()))
}

/// Runs `work` in the namespace `name`, on a thread of its own. Commands started by it are in the
/// namespace as well.
pub(crate) fn within<T: Send>(
    name: &str,
    work: impl FnOnce() -> Result<T, LabError> + Send,
) -> Result<T, LabError> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            join(name)?;
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// A command that runs in the namespace `name`, wherever it is started from.
///
/// `ip netns exec` would do the same, but it also mounts a new /sys, which the kernel refuses to
/// some users.
pub(crate) fn command(name: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = external::command("nsenter");
    command.arg(format!("--net={}", path(name))).arg("--").arg(program);
    command
}

/// As [`command`], for what must not outlive this process, however this process ends.
///
/// The kernel kills it when the thread that started it ends. That is asked for after the start, so
/// the shell looks whether the parent has ended before: then nobody would ever kill it.
pub(crate) fn bound_command(name: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = command(name, "setpriv");
    command
        .args(["--pdeathsig", "KILL", "--", "sh", "-c", r#"[ "$PPID" = "$0" ] && exec "$@""#])
        .arg(std::process::id().to_string())
        .arg(program);
    command
}

fn path(name: &str) -> String {
    format!("/run/netns/{name}")
}
