//! Two real tunnels: IKEv2 and ESP between the box and two far ends, as AWS has them.
//!
//! strongSwan's charon, one for each end of each tunnel, with ESP in user space over a TUN interface
//! (kernel-libipsec), so that any kernel will do. Keys are pre-shared, ciphers are those that AWS
//! offers. Loss of a peer is noticed within about five seconds.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::LabError;
use super::process::Process;
use super::topology::{configure, ipsec_peer};
use super::{Lab, netns};

/// One IKE daemon.
#[derive(Debug)]
pub(crate) struct Ike {
    process: Process,
    /// The tunnel, for a daemon of the box.
    of_box: Option<u8>,
}

/// One end of a tunnel.
struct End<'a> {
    name: String,
    namespace: String,
    tunnel: u8,
    side: Side,
    directory: &'a Path,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Box,
    Far,
}

impl Ike {
    /// Whether it is the box's end of a tunnel.
    pub(crate) fn is_of_box(&self, tunnel: u8) -> bool {
        self.of_box == Some(tunnel)
    }

    pub(crate) fn kill(&self) {
        self.process.kill_hard();
    }
}

/// Starts both ends of both tunnels and waits until they carry.
pub(crate) fn start(lab: &Lab) -> Result<Vec<Ike>, LabError> {
    let directory = lab.directory();
    let mut daemons = Vec::new();
    // The far ends first: they only answer. One after the other: interfaces are named in this order.
    for side in [Side::Far, Side::Box] {
        for tunnel in [1, 2] {
            let (name, namespace) = match side {
                Side::Box => (format!("box{tunnel}"), "box".to_owned()),
                Side::Far => (format!("aws{tunnel}"), format!("aws{tunnel}")),
            };
            let end = End { name, namespace, tunnel, side, directory };
            daemons.push(end.start(lab)?);
        }
    }
    Ok(daemons)
}

impl End<'_> {
    fn start(&self, lab: &Lab) -> Result<Ike, LabError> {
        write(&self.file("conf"), &self.settings())?;
        write(&self.file("swanctl"), &self.connection())?;
        let mut command = netns::bound_command(&self.namespace, "charon-systemd");
        command.env("STRONGSWAN_CONF", self.file("conf"));
        // The thread that starts a program lives as long as the program; the command itself enters
        // the namespace.
        let process = Process::start(lab.edge(), command, &self.file("said"))?;
        lab.started().push(process.handle());
        let listens = || Ok(self.swanctl(&["--stats"]).ok().map(drop));
        self.until(&process, "its control socket", listens)?;
        if self.side == Side::Box {
            let (interface, name, net) = (self.tunnel - 1, self.tunnel, 9 + self.tunnel);
            // The inside address, as AWS gives one: by an interface without any address the kernel
            // takes nothing whose way back is another one, also with a loose rp_filter.
            let words = format!(
                "link property add dev ipsec{interface} altname vpn{name}\n\
                 addr add 169.254.{net}.2/30 dev ipsec{interface}\n"
            );
            configure("box", &words)?;
        }
        let file = self.file("swanctl").display().to_string();
        self.swanctl(&["--load-all", "--noprompt", "--file", &file])?;
        if self.side == Side::Box {
            let installed = || {
                let said = self.swanctl(&["--list-sas"])?;
                Ok(said.contains("INSTALLED").then_some(()))
            };
            self.until(&process, "the tunnel", installed)?;
        }
        Ok(Ike { process, of_box: (self.side == Side::Box).then_some(self.tunnel) })
    }

    /// Looks again and again, until there is something or the daemon has ended.
    fn until(
        &self,
        process: &Process,
        what: &str,
        look: impl Fn() -> Result<Option<()>, LabError>,
    ) -> Result<(), LabError> {
        let deadline = Instant::now() + PATIENCE;
        while look()?.is_none() {
            if process.ended()?.is_some() || Instant::now() >= deadline {
                let log = std::fs::read_to_string(self.file("log")).unwrap_or_default();
                let (name, said) = (&self.name, process.said());
                return Err(LabError::Proof(format!("{name}: waited for {what}: {said}{log}")));
            }
            std::thread::sleep(GLANCE);
        }
        Ok(())
    }

    fn swanctl(&self, words: &[&str]) -> Result<String, LabError> {
        let uri = format!("unix://{}", self.file("vici").display());
        let mut command = netns::command(&self.namespace, "timeout");
        command.args(["20", "swanctl"]).args(words).args(["--uri", &uri]);
        command.env("STRONGSWAN_CONF", self.file("conf")).env("SWANCTL_DIR", self.directory);
        let line = super::external::command_line(&command);
        let output =
            command.output().map_err(|source| LabError::Start { command: line.clone(), source })?;
        if !output.status.success() {
            return Err(LabError::Command {
                command: line,
                status: output.status.to_string(),
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn settings(&self) -> String {
        // Two daemons in one namespace need ports and routing tables of their own.
        let (ike, nat, table) = match self.side {
            Side::Box => (500 + u16::from(self.tunnel), self.port(), 220 + u16::from(self.tunnel)),
            Side::Far => (500, PORT, 220),
        };
        let (vici, log) = (self.file("vici"), self.file("log"));
        format!(
            "charon-systemd {{
  load = random nonce openssl kdf kernel-libipsec kernel-netlink socket-default vici
  port = {ike}
  port_nat_t = {nat}
  routing_table = {table}
  routing_table_prio = {table}
  install_virtual_ip = no
  retransmit_timeout = 0.5
  retransmit_base = 1.3
  retransmit_tries = 4
  plugins {{
    vici {{
      socket = unix://{}
    }}
  }}
  journal {{
    default = -1
  }}
  filelog {{
    file {{
      path = {}
      flush_line = yes
      default = 1
    }}
  }}
}}
",
            vici.display(),
            log.display()
        )
    }

    fn connection(&self) -> String {
        let (edge, far) = (BOX_OUTSIDE.to_owned(), ipsec_peer(self.tunnel).to_string());
        let (box_inside, vpc) = ("10.99.0.0/24", "10.20.0.0/16");
        let (local, remote, local_ts, remote_ts) = match self.side {
            Side::Box => (&edge, &far, box_inside, vpc),
            Side::Far => (&far, &edge, vpc, box_inside),
        };
        let mut text = format!(
            "connections {{
  tunnel {{
    version = 2
    local_addrs = {local}
    remote_addrs = {remote}
    proposals = aes256gcm16-prfsha384-ecp384
    encap = yes
    mobike = no
    dpd_delay = 1s
    keyingtries = 0
"
        );
        let (ports, start, after) = match self.side {
            Side::Box => {
                (format!("local_port = {}\nremote_port = {PORT}", self.port()), "start", "restart")
            }
            Side::Far => (format!("local_port = {PORT}"), "none", "clear"),
        };
        let _ = write!(
            text,
            "{ports}
    local {{
      auth = psk
      id = {local}
    }}
    remote {{
      auth = psk
      id = {remote}
    }}
    children {{
      net {{
        local_ts = {local_ts}
        remote_ts = {remote_ts}
        esp_proposals = aes256gcm16-ecp384
        start_action = {start}
        dpd_action = {after}
      }}
    }}
  }}
}}
secrets {{
  ike-tunnel {{
    id-1 = {edge}
    id-2 = {far}
    secret = \"a key for tunnel {}\"
  }}
}}
",
            self.tunnel
        );
        text
    }

    /// The box's source port of IKE and ESP.
    fn port(&self) -> u16 {
        PORT + u16::from(self.tunnel)
    }

    fn file(&self, what: &str) -> PathBuf {
        self.directory.join(format!("{}.{what}", self.name))
    }
}

fn write(path: &Path, text: &str) -> Result<(), LabError> {
    std::fs::write(path, text).map_err(LabError::io(format!("write {}", path.display())))
}

const BOX_OUTSIDE: &str = "203.0.113.7";
/// RFC 3948.
const PORT: u16 = 4500;
const PATIENCE: Duration = Duration::from_secs(30);
const GLANCE: Duration = Duration::from_millis(20);
