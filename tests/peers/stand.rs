//! The lab and the gate as every test here needs them, and what is checked at the end of each.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sluicegate::lab::services::SPARE_OCTET;
use sluicegate::lab::topology::{ZONES, public4};
use sluicegate::lab::{Daemon, Lab, Process};

use crate::SOON;
use crate::records::{Flow, flows};

/// The plant's devices by what they may use: the second one may use everything.
pub(crate) const PRESS: usize = 0;
pub(crate) const GATEWAY: usize = 1;

/// An address of the VPC where the lab has no server of its own, so that a real one has it.
pub(crate) const ENI: Ipv4Addr = ZONES[0].address(SPARE_OCTET);

/// The lab with one name at [`ENI`], and the gate.
pub(crate) struct Stand {
    pub(crate) lab: Lab,
    daemon: Daemon,
    /// What devices dial: a public server which would answer to the name as well, so that a flow
    /// past the gate is a flow which works, and is counted.
    pub(crate) dialled: Ipv4Addr,
}

impl Stand {
    /// Builds the lab, gives `name` to [`ENI`], starts servers there, then the gate. On the public
    /// side the name is served at `octet`.
    pub(crate) fn up<T>(name: &str, octet: u8, servers: impl FnOnce(&Lab) -> T) -> (Self, T) {
        let lab = Lab::up().unwrap_or_else(|error| panic!("{error}"));
        lab.zone().set_private(name, &[ENI]);
        let dialled = public4(octet);
        know(&lab, name, dialled);
        let servers = servers(&lab);
        let binary = Path::new(env!("CARGO_BIN_EXE_sluicegate"));
        let daemon = lab
            .start_daemon(binary, &lab.daemon_config())
            .unwrap_or_else(|error| panic!("{error}"));
        (Self { lab, daemon, dialled }, servers)
    }

    /// The gate's memory, in KiB (`VmRSS`, proc(5)).
    pub(crate) fn gate_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.daemon.pid());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Ends the gate and checks what must hold after every test: it ends by itself and in order,
    /// nothing went past it, and its records are whole. Returns the flows it recorded.
    pub(crate) fn finish(self) -> Vec<Flow> {
        self.daemon.signal(Signal::TERM).unwrap();
        let status = self.daemon.wait(SOON).unwrap();
        let said = self.daemon.stderr_text();
        let status =
            status.unwrap_or_else(|| panic!("it does not end on SIGTERM; it said:\n{said}"));
        assert_eq!(status.code(), Some(0), "{said}");
        assert_eq!(self.lab.leaked_packets().unwrap(), 0, "{:?}", self.lab.leaks());
        assert_eq!(self.lab.bypassed_packets().unwrap(), 0);
        flows(&self.lab.directory().join("audit"))
    }
}

/// A file in the lab's directory.
pub(crate) fn file(lab: &Lab, name: &str, text: &str) -> PathBuf {
    let path = lab.directory().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Starts a server in the VPC and waits until it listens on these ports of [`ENI`].
pub(crate) fn serve(lab: &Lab, ports: &[u16], program: &str, args: &[&str]) -> Process {
    let process = lab.start_process(lab.vpc(), program, args).unwrap();
    for port in ports {
        let listens = || {
            assert!(process.ended().unwrap().is_none(), "{program}: {}", process.said());
            // Asked of the kernel: a connection to see whether it is there would be served.
            let source = format!("{ENI}:{port}");
            let sockets = lab.vpc().command("ss", &["-tlnH", "src", &source]).output().unwrap();
            (!sockets.stdout.is_empty()).then_some(())
        };
        eventually(&format!("{program} listens on port {port}"), SOON, listens);
    }
    process
}

/// Waits until something is there.
pub(crate) fn eventually<T>(
    what: &str,
    patience: Duration,
    mut there: impl FnMut() -> Option<T>,
) -> T {
    let until = Instant::now() + patience;
    loop {
        if let Some(found) = there() {
            return found;
        }
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::sleep(GLANCE);
    }
}

/// How often something without an event of its own is looked at.
const GLANCE: Duration = Duration::from_millis(20);

/// Puts the name into the hosts file that programs of this test see; the file itself stays as it is,
/// and the mount is gone with the test's namespaces.
fn know(lab: &Lab, name: &str, address: Ipv4Addr) {
    let hosts = file(lab, "hosts", &format!("127.0.0.1 localhost\n{address} {name}\n"));
    rustix::mount::mount_bind(&hosts, "/etc/hosts").unwrap();
}
