//! The lab, made ready for measurements, and the processes on it.
//!
//! One device on a wire of its own, the box, and the VPC behind the first tunnel. What the lab has
//! for tests and only costs here is taken away: the switch, and connection tracking in the VPC.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sluicegate::lab::party::Party;
use sluicegate::lab::services::{HISTORIAN, SPARE_OCTET};
use sluicegate::lab::topology::{DEVICES, ZONES};
use sluicegate::lab::{Daemon, Lab, Process};

use super::Failure;
use super::plan::Variant;

/// The number of the device that makes the load.
pub(crate) const DEVICE: usize = 1;
/// The name that every allowed flow asks for.
pub(crate) const NAME: &str = HISTORIAN;
/// A name that no flow may ask for.
pub(crate) const FOREIGN: &str = "www.example.com";
/// The port that devices dial.
pub(crate) const PORT: u16 = 443;
/// Where the peers listen; Sluicegate has its own.
pub(crate) const PEER_PORT: u16 = 15_444;
/// Addresses of devices behind the device, which is their router: thousands of devices, each with
/// few flows.
pub(crate) const CROWD: &str = "10.10.64.0/18";
const CROWD_FIRST: Ipv4Addr = Ipv4Addr::new(10, 10, 64, 1);

/// A lab that is ready.
#[derive(Debug)]
pub(crate) struct Stage {
    lab: Lab,
    variant: Variant,
    binary: PathBuf,
    server: Option<Process>,
}

impl Stage {
    /// Builds it, with this program as the gate.
    ///
    /// # Errors
    /// What could not be set up.
    pub(crate) fn up(variant: Variant, binary: &Path) -> Result<Self, Failure> {
        let lab = Lab::up_with(variant.wiring())?;
        lab.zone().set_private(NAME, &[endpoint_address()]);
        lab.zone().set_time_to_live(Duration::from_secs(60));
        let stage = Self { lab, variant, binary: binary.to_owned(), server: None };
        for party in [stage.device(), stage.edge(), stage.vpc()] {
            feed(party, "sh", &[], SETTINGS)?;
        }
        feed(stage.vpc(), "nft", &["-f", "-"], "flush ruleset\n")?;
        feed(stage.device(), "ip", &["-batch", "-"], &format!("route add local {CROWD} dev lo\n"))?;
        let router = device_address();
        let crowd = format!("route add {CROWD} via {router} dev lan0\n");
        feed(stage.edge(), "ip", &["-batch", "-"], &crowd)?;
        Ok(stage)
    }

    /// The device that makes the load.
    pub(crate) fn device(&self) -> &Party {
        self.lab.device(DEVICE)
    }

    /// The box.
    pub(crate) fn edge(&self) -> &Party {
        self.lab.edge()
    }

    /// The VPC.
    pub(crate) fn vpc(&self) -> &Party {
        self.lab.vpc()
    }

    /// A directory that is removed at the end.
    pub(crate) fn directory(&self) -> &Path {
        self.lab.directory()
    }

    /// Starts this program with these arguments as the servers in the VPC.
    ///
    /// # Errors
    /// When it does not start, or does not listen in time.
    pub(crate) fn serve(&mut self, args: &[&str]) -> Result<(), Failure> {
        let server = self.start_self(self.vpc(), args)?;
        wait_for_listener(&server, PORT)?;
        self.server = Some(server);
        Ok(())
    }

    /// Starts this program again, as something else.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start_self(&self, party: &Party, args: &[&str]) -> Result<Process, Failure> {
        Ok(self.lab.start_process(party, &own_path()?, args)?)
    }

    /// Starts a peer in the box, with a process space of its own: when its first process dies, all
    /// of it does, also what has lost its parent.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start_peer(&self, program: &[&str]) -> Result<Process, Failure> {
        let words = ["--pid", "--fork", "--kill-child=KILL", "--"];
        let args: Vec<&str> = words.iter().chain(program).copied().collect();
        Ok(self.lab.start_process(self.edge(), "unshare", &args)?)
    }

    /// Starts Sluicegate in its full configuration.
    ///
    /// # Errors
    /// When it does not become ready.
    pub(crate) fn start_gate(&self) -> Result<Daemon, Failure> {
        let mut config = self
            .lab
            .daemon_config()
            .replace("[tunnel]\n", &format!("[tunnel]\nmss = {}\n", self.variant.mss()));
        config.push_str(LIMITS);
        config.push_str(&format!(
            "\n[[device]]\nname = \"crowd\"\naddress = \"{CROWD}\"\nallow = [\"historian\"]\n"
        ));
        Ok(self.lab.start_daemon(&self.binary, &config)?)
    }

    /// Removes the gate's rules from the kernel.
    ///
    /// # Errors
    /// When it cannot.
    pub(crate) fn clear_gate(&self) -> Result<(), Failure> {
        let program = self.binary.to_string_lossy();
        feed(self.edge(), &program, &["nft", "clear"], "")
    }

    /// From now on nobody hears how the device's flows end, as after a loss of power.
    ///
    /// # Errors
    /// When the rule cannot be set.
    pub(crate) fn swallow_ends(&self) -> Result<(), Failure> {
        feed(self.device(), "nft", &["-f", "-"], SWALLOW_ENDS)
    }

    /// Ends [`Stage::swallow_ends`].
    ///
    /// # Errors
    /// When the rule cannot be removed.
    pub(crate) fn let_ends_pass(&self) -> Result<(), Failure> {
        feed(self.device(), "nft", &["-f", "-"], "delete table inet ends\n")
    }

    /// A program in the device's namespace with its standard streams free to be used; it dies with
    /// this thread.
    ///
    /// # Errors
    /// When this program cannot be found.
    pub(crate) fn client(&self, args: &[String]) -> Result<Command, Failure> {
        let mut command =
            self.device().command("setpriv", &["--pdeathsig", "KILL", "--", &own_path()?]);
        command.args(args);
        Ok(command)
    }
}

/// Where the servers are.
pub(crate) fn endpoint() -> SocketAddr {
    (endpoint_address(), PORT).into()
}

/// The device's own address.
pub(crate) fn device_address() -> Ipv4Addr {
    DEVICES.get(DEVICE).map_or(Ipv4Addr::UNSPECIFIED, |device| device.address)
}

/// Addresses of the crowd, one for each of these flows, separated by commas.
pub(crate) fn crowd(from: u32, to: u32) -> String {
    let first = u32::from(CROWD_FIRST);
    let addresses: Vec<_> = (from..to).map(|n| Ipv4Addr::from(first + n).to_string()).collect();
    addresses.join(",")
}

/// Runs a program with this text on its standard input.
///
/// # Errors
/// With what it said.
pub(crate) fn feed(
    party: &Party,
    program: &str,
    args: &[&str],
    input: &str,
) -> Result<(), Failure> {
    let failed = |error| Failure::io(format!("run `{program}`"), error);
    let mut command = party.command(program, args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::Other(format!("`{program} {}` failed: {said}", args.join(" "))))
}

/// Waits until somebody listens on this port in the process's network namespace.
///
/// # Errors
/// When the process ends before, or nobody does in time; with what it said.
pub(crate) fn wait_for_listener(process: &Process, port: u16) -> Result<(), Failure> {
    let until = Instant::now() + READY_WITHIN;
    let table = format!("/proc/{}/net/tcp", process.pid());
    // proc_net_tcp.rst: local address and port in hexadecimal, remote, state 0A for listening.
    let listens = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let local = words.next().is_some_and(|local| local.ends_with(&format!(":{port:04X}")));
        local && words.nth(1) == Some("0A")
    };
    while Instant::now() < until {
        if process.ended()?.is_some() {
            return Err(Failure::Other(format!("ended at once: {}", process.said())));
        }
        // A program that is still `nsenter` shows another namespace, where nobody listens.
        if std::fs::read_to_string(&table).is_ok_and(|text| text.lines().any(listens)) {
            return Ok(());
        }
        std::thread::sleep(GLANCE);
    }
    Err(Failure::Other(format!("does not listen on port {port}: {}", process.said())))
}

fn endpoint_address() -> Ipv4Addr {
    ZONES.first().map_or(Ipv4Addr::UNSPECIFIED, |zone| zone.address(SPARE_OCTET))
}

fn own_path() -> Result<String, Failure> {
    let path = std::env::current_exe().map_err(|error| Failure::io("find this program", error))?;
    Ok(path.to_string_lossy().into_owned())
}

const SWALLOW_ENDS: &str = "table inet ends {
    chain leave {
        type filter hook output priority 0; policy accept;
        tcp flags & (fin | rst) != 0 drop
    }
}
";

/// Ports for every flow of a storm and of a run of short flows, and room in the accept queues; what
/// a box's profile sets. The same for every subject.
const SETTINGS: &str = "set -e
cd /proc/sys/net
echo '1024 65535' >ipv4/ip_local_port_range
echo 1 >ipv4/tcp_tw_reuse
echo 65535 >core/somaxconn
echo 65535 >ipv4/tcp_max_syn_backlog
";

/// One device makes the load of a plant here.
const LIMITS: &str = "
[limits]
device-flows = 20000
new-flows = 1000000
device-new-flows = 1000000
hellos = 20000
device-hellos = 20000
";

const READY_WITHIN: Duration = Duration::from_secs(10);
const GLANCE: Duration = Duration::from_millis(5);
