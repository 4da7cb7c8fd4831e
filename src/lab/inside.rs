//! Re-runs this program in user, network and mount namespaces of its own.
//!
//! Owns the way in and the lab's directory. The process outside only waits: it makes the directory,
//! starts `unshare` with the same program, and removes the directory when that has ended, however
//! it ended. Everything else lives in the namespaces, which the kernel takes down with their last
//! process. Nothing here ever mounts or configures anything before it has seen that the namespaces
//! are not the ones outside.

use std::ffi::OsString;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};

use rustix::mount::MountFlags;
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use tokio::signal::unix::{SignalKind, signal};

use super::error::LabError;
use super::external;
use super::window;

/// The environment variable that tells the inner process that it is the inner one:
/// `PID of the outer;its network namespace;its mount namespace;directory`.
pub(crate) const MARKER: &str = "SLUICEGATE_LAB";

/// Whether this process was started by [`reexec_self`] or [`test`].
pub fn is_inside() -> bool {
    std::env::var_os(MARKER).is_some()
}

/// Runs this program again, with the same arguments, in namespaces of its own, and waits for it.
///
/// Returns its exit code; 128 plus the signal's number when a signal ended it. Connections to `window`
/// lead to the listener that the inner process has behind [`WINDOW`](super::window::WINDOW).
///
/// # Errors
/// [`LabError::NamespacesRefused`] where the machine does not allow it; [`LabError::Interrupted`]
/// after Ctrl-C or SIGTERM, with everything already cleaned up.
pub fn reexec_self(window: Option<std::net::TcpListener>) -> Result<u8, LabError> {
    let enclosure = Enclosure::new()?;
    let args = std::env::args_os().skip(1).collect();
    let ended = enclosure.run(args, Stdio::inherit, window)?;
    let code = ended.status.code().or_else(|| ended.status.signal().map(|signal| 128 + signal));
    Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// Runs the body of the test `name` (its whole path in the test binary) in namespaces of its own.
///
/// Outside, this runs the same test binary with only this test, and passes its output through when
/// it fails. Inside, it runs `body`.
///
/// # Panics
/// When the body does, when namespaces are refused, and when `name` names no test: a test that did
/// not run must not pass.
pub fn test(name: &str, body: impl FnOnce()) {
    if is_inside() {
        let directory = enter().unwrap_or_else(|error| panic!("{error}"));
        let entered = std::fs::write(directory.join(ENTERED), name);
        entered.unwrap_or_else(|error| panic!("mark that the test {name} runs: {error}"));
        return body();
    }
    let ended = match run_test(name) {
        Ok(ended) => ended,
        Err(LabError::Interrupted) => std::process::exit(130),
        Err(error) => panic!("{error}"),
    };
    if !ended.status.success() {
        println!("{}", ended.output);
        panic!("{name} failed in its namespaces: {}", ended.status);
    }
    assert!(ended.entered, "{name} is no test of this program, so nothing was tested");
}

/// How a test in its namespaces ended.
#[derive(Debug)]
pub struct Ended {
    /// The inner process's status.
    pub status: ExitStatus,
    /// What it wrote to standard output, then standard error.
    pub output: String,
    /// Its body was reached.
    pub entered: bool,
    /// The directory it had; gone by now.
    pub directory: PathBuf,
}

/// The outer half of [`test`]: runs the test `name` of this program and says how it ended.
///
/// # Errors
/// As [`reexec_self`].
pub fn run_test(name: &str) -> Result<Ended, LabError> {
    let args = [name, "--exact", "--nocapture", "--test-threads=1"];
    Enclosure::new()?.run(args.map(OsString::from).to_vec(), Stdio::piped, None)
}

/// Makes the namespaces usable, once, and returns the lab's directory.
///
/// # Errors
/// [`LabError::NotInside`] when the namespaces are not the lab's own.
pub(crate) fn enter() -> Result<PathBuf, LabError> {
    let mut entered = DIRECTORY.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(directory) = entered.as_ref() {
        return Ok(directory.clone());
    }
    let directory = verified_directory()?;
    // The namespaces' own names (`ip netns`) are in /run; on a file system of its own they are
    // seen by nobody else and are gone with the mount namespace.
    rustix::mount::mount("lab", "/run", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"")
        .map_err(|error| LabError::NamespacesRefused { detail: format!("mount /run: {error}") })?;
    external::run("ip", &["link", "set", "lo", "up"])?;
    *entered = Some(directory.clone());
    Ok(directory)
}

static DIRECTORY: Mutex<Option<PathBuf>> = Mutex::new(None);

/// The file that shows that the test's body was reached.
const ENTERED: &str = "entered";

/// A directory of the lab's own, removed on drop.
struct Enclosure {
    directory: PathBuf,
}

impl Enclosure {
    fn new() -> Result<Self, LabError> {
        let name = format!("sluicegate-lab-{}", uuid::Uuid::now_v7().simple());
        let directory = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .map_err(LabError::io(format!("make the directory {}", directory.display())))?;
        Ok(Self { directory })
    }

    fn run(
        &self,
        args: Vec<OsString>,
        stdio: fn() -> Stdio,
        window: Option<std::net::TcpListener>,
    ) -> Result<Ended, LabError> {
        let program = std::env::current_exe().map_err(LabError::io("find this program"))?;
        let mut marker = OsString::from(format!("{};{};", std::process::id(), own_namespaces()?));
        marker.push(&self.directory);
        let mut command = external::command("unshare");
        command
            .args(["--user", "--map-root-user", "--net", "--mount", "--"])
            .arg(program)
            .args(args)
            .env(MARKER, marker)
            .stdin(Stdio::null())
            .stdout(stdio())
            .stderr(stdio());
        probe_namespaces()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(LabError::io("start a runtime"))?;
        let looking = window.map(|window| window::look_in(window, self.directory.clone()));
        let output = runtime.block_on(async move {
            let looking = looking.map(tokio::spawn);
            let output = wait_or_signal(tokio::process::Command::from(command)).await;
            looking.inspect(tokio::task::JoinHandle::abort);
            output
        })?;
        let said = [output.stdout, output.stderr].concat();
        Ok(Ended {
            status: output.status,
            output: String::from_utf8_lossy(&said).into_owned(),
            entered: self.directory.join(ENTERED).exists(),
            directory: self.directory.clone(),
        })
    }
}

impl Drop for Enclosure {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            tracing::warn!(directory = %self.directory.display(), %error, "directory stays behind");
        }
    }
}

/// Ctrl-C must not end the outer process before it has cleaned up, so it is taken as an event here.
async fn wait_or_signal(
    mut command: tokio::process::Command,
) -> Result<std::process::Output, LabError> {
    let signals = LabError::io("listen for signals");
    let (mut interrupt, mut terminate) = signal(SignalKind::interrupt())
        .and_then(|interrupt| Ok((interrupt, signal(SignalKind::terminate())?)))
        .map_err(signals)?;
    let line = external::command_line(command.as_std());
    let child = command
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| LabError::Start { command: line.clone(), source })?;
    let inner = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let mut ended = std::pin::pin!(child.wait_with_output());
    tokio::select! {
        output = &mut ended => return output.map_err(LabError::io(format!("wait for `{line}`"))),
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    // Waited for, because the directory is removed next, and it must not write there any more.
    if let Some(inner) = inner
        && kill_process(inner, Signal::KILL).is_ok()
    {
        let _ = ended.await;
    }
    Err(LabError::Interrupted)
}

/// `unshare` on its own first: its refusal could not be told from the program's own failure.
fn probe_namespaces() -> Result<(), LabError> {
    let args = ["--user", "--map-root-user", "--net", "--mount", "--", "true"];
    match external::run("unshare", &args) {
        Ok(_) => Ok(()),
        Err(LabError::Command { stderr, .. }) => {
            Err(LabError::NamespacesRefused { detail: stderr })
        }
        Err(error) => Err(error),
    }
}

/// The directory out of the marker, if this process is what the marker says.
///
/// A marker that was merely inherited or typed would otherwise have the machine's own /run hidden.
fn verified_directory() -> Result<PathBuf, LabError> {
    let no = |detail: &str| LabError::NotInside { detail: detail.to_owned() };
    let marker = std::env::var(MARKER).map_err(|_| no("it was not started as the inner one"))?;
    let mut parts = marker.splitn(4, ';');
    let (Some(outer), Some(net), Some(mount), Some(directory)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(no("the marker is not one of the lab's"));
    };
    let own = own_namespaces()?;
    let (own_net, own_mount) = own.split_once(';').unwrap_or_default();
    if own_net == net || own_mount == mount {
        return Err(no("its namespaces are still those outside"));
    }
    // With the outer process gone, nobody would remove the directory: go too.
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| LabError::io("ask to end with the outer process")(error.into()))?;
    let parent = getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if parent.as_deref() != Some(outer) {
        return Err(no("the process that started it has ended"));
    }
    Ok(Path::new(directory).to_owned())
}

/// `net:[N];mnt:[N]` of this process.
fn own_namespaces() -> Result<String, LabError> {
    let link = |name: &str| {
        let path = format!("/proc/self/ns/{name}");
        let link = std::fs::read_link(&path).map_err(LabError::io(format!("read {path}")))?;
        Ok::<_, LabError>(link.to_string_lossy().into_owned())
    };
    Ok(format!("{};{}", link("net")?, link("mnt")?))
}
