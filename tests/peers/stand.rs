//! The lab and the gate as every test here needs them, and what is checked at the end of each.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sluicegate::lab::party::Party;
use sluicegate::lab::services::SPARE_OCTET;
use sluicegate::lab::topology::{DEVICES, ZONES, public4};
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
        watch_resets(&lab);
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
        let flows = flows(&self.lab.directory().join("audit"));
        self.no_reset_is_the_gates_own(&flows);
        flows
    }

    /// A program that hangs up before it has read the last word of the other one resets, or its
    /// kernel does, and the gate passes it on. What is recorded as a reset must have been one.
    fn no_reset_is_the_gates_own(&self, flows: &[Flow]) {
        let (devices, endpoints) = (self.resets(0..DEVICES.len()), self.resets([DEVICES.len()]));
        for flow in flows {
            let (end, ports) = (&flow.end, (&devices, &endpoints));
            let (port, ports) = match flow.ended() {
                "closed_by_device" | "closed_by_endpoint" => continue,
                "reset_by_device" => (&end["src_endpoint"]["port"], ports.0),
                "reset_by_endpoint" => (&end["proxy_endpoint"]["port"], ports.1),
                other => panic!("no peer ends a flow with {other}: {end:#}"),
            };
            assert!(ports.contains(&port.to_string()), "{ports:?} sent a reset, not {end:#}");
        }
    }

    /// Ports at the gate's neighbours' end of connections that these have reset.
    fn resets(&self, places: impl IntoIterator<Item = usize>) -> Vec<String> {
        let list = |party: &Party| {
            let output = party.command("nft", &["list", "set", "inet", "peers", "resets"]).output();
            let text = String::from_utf8(output.unwrap().stdout).unwrap();
            let (_, elements) = text.split_once("elements = {").unwrap_or_default();
            let numbers = elements.split(|c: char| !c.is_ascii_digit()).map(str::to_owned);
            numbers.collect::<Vec<_>>()
        };
        places.into_iter().flat_map(|place| list(peer(&self.lab, place))).collect()
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

/// The devices by their numbers, and the VPC behind them.
fn peer(lab: &Lab, place: usize) -> &Party {
    if place < DEVICES.len() { lab.device(place) } else { lab.vpc() }
}

/// Has the kernels of all peers note what they reset: a device by its own port, an endpoint by the
/// gate's.
fn watch_resets(lab: &Lab) {
    for place in 0..=DEVICES.len() {
        let port = if place < DEVICES.len() { "sport" } else { "dport" };
        let rules = format!(
            "table inet peers {{
                set resets {{ type inet_service; flags dynamic; size 1024; }}
                chain leave {{
                    type filter hook output priority 0; policy accept;
                    tcp flags & rst == rst add @resets {{ tcp {port} }}
                }}
            }}\n"
        );
        let rules = file(lab, "resets.nft", &rules);
        let args = ["-f", rules.to_str().unwrap()];
        assert!(peer(lab, place).command("nft", &args).status().unwrap().success());
    }
}
