//! What stands in the box: started, found in /proc, and taken away again.

mod config;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sluicegate::lab::{Daemon, Process};

use crate::Failure;
use crate::plan::{Subject, label};
use crate::stage::{PEER_PORT, PORT, Stage, endpoint, feed, wait_for_listener};

/// A subject in the box, ready for flows. It is gone after [`Running::stop`].
#[derive(Debug)]
pub(crate) struct Running {
    program: Program,
}

#[derive(Debug)]
enum Program {
    Kernel,
    Peer(Process),
    Gate(Daemon),
}

impl Running {
    /// Starts it and leads the devices' flows to it.
    ///
    /// # Errors
    /// When it does not become ready; with what it said.
    pub(crate) fn start(subject: Subject, stage: &Stage) -> Result<Self, Failure> {
        let program = match subject {
            Subject::Kernel => Program::Kernel,
            Subject::Ours => Program::Gate(stage.start_gate()?),
            peer => {
                let process = start_peer(peer, stage)?;
                wait_for_listener(&process, PEER_PORT)
                    .map_err(|error| Failure::Other(format!("{}: {error}", label(peer))))?;
                feed(stage.edge(), "ip", &["-batch", "-"], ROUTING)?;
                feed(stage.edge(), "nft", &["-f", "-"], &rules(peer))?;
                Program::Peer(process)
            }
        };
        Ok(Self { program })
    }

    /// Its processes; none where the kernel does it all.
    pub(crate) fn pids(&self) -> Vec<u32> {
        match &self.program {
            Program::Kernel => Vec::new(),
            Program::Peer(process) => crate::probe::family(process.pid()),
            Program::Gate(daemon) => crate::probe::family(daemon.pid()),
        }
    }

    /// The gate, where it is ours.
    pub(crate) fn gate(&self) -> Option<&Daemon> {
        match &self.program {
            Program::Gate(daemon) => Some(daemon),
            _ => None,
        }
    }

    /// Ends it and removes what led to it.
    ///
    /// # Errors
    /// When the rules cannot be removed.
    pub(crate) fn stop(self, stage: &Stage) -> Result<(), Failure> {
        match self.program {
            Program::Kernel => Ok(()),
            Program::Peer(process) => {
                let pids = crate::probe::family(process.pid());
                process.kill_hard();
                wait_for_ends(&pids)?;
                feed(stage.edge(), "nft", &["-f", "-"], "delete table inet compare\n")?;
                feed(stage.edge(), "ip", &["-batch", "-"], &ROUTING.replace(" add ", " del "))
            }
            Program::Gate(daemon) => {
                daemon.kill_hard();
                stage.clear_gate()
            }
        }
    }
}

/// Waits until the last thread of each process has let go of its sockets: with thousands of them
/// that takes longer than dying.
fn wait_for_ends(pids: &[u32]) -> Result<(), Failure> {
    let until = Instant::now() + ENDED_WITHIN;
    while pids.iter().any(|pid| crate::probe::lives(*pid)) {
        if Instant::now() >= until {
            return Err(Failure::Other("a peer does not end".to_owned()));
        }
        std::thread::sleep(GLANCE);
    }
    Ok(())
}

fn start_peer(subject: Subject, stage: &Stage) -> Result<Process, Failure> {
    let directory = stage.directory();
    let port = PEER_PORT.to_string();
    let to = endpoint().to_string();
    let null = |way| stage.start_self(stage.edge(), &["null", way, "--port", &port, "--to", &to]);
    match subject {
        Subject::Bare => null("hold"),
        Subject::NullSplice => null("splice"),
        Subject::NullCopy => null("copy"),
        Subject::Nginx => {
            let file = write(directory, subject, &config::nginx(directory))?;
            stage.start_peer(&["nginx", "-e", "stderr", "-c", &file.to_string_lossy()])
        }
        Subject::Sniproxy => {
            let file = write(directory, subject, &config::sniproxy(directory))?;
            // As root it would give up its rights, which a namespace of one user does not allow.
            let user = ["unshare", "--user", "--map-user=1000", "--"];
            let sniproxy = ["sniproxy", "-f", "-c", &file.to_string_lossy()];
            stage.start_peer(&user.iter().chain(&sniproxy).copied().collect::<Vec<_>>())
        }
        haproxy => {
            let file = write(directory, haproxy, &config::haproxy(haproxy))?;
            stage.start_peer(&["haproxy", "-db", "-f", &file.to_string_lossy()])
        }
    }
}

fn write(directory: &Path, subject: Subject, text: &str) -> Result<PathBuf, Failure> {
    let file = directory.join(format!("{}.conf", label(subject)));
    std::fs::write(&file, text)
        .map_err(|error| Failure::io(format!("write {}", file.display()), error))?;
    Ok(file)
}

/// TPROXY where the peer has a transparent listener, as ours has; address translation for those who
/// cannot have one.
fn rules(subject: Subject) -> String {
    match subject {
        Subject::Nginx | Subject::Sniproxy => format!(
            "table inet compare {{
    chain prerouting {{
        type nat hook prerouting priority dstnat; policy accept;
        iifname lan0 tcp dport {PORT} redirect to :{PEER_PORT}
    }}
}}
"
        ),
        _ => format!(
            "table inet compare {{
    chain prerouting {{
        type filter hook prerouting priority mangle; policy accept;
        iifname lan0 meta l4proto tcp socket transparent 1 meta mark set 1 accept
        iifname lan0 tcp dport {PORT} tproxy ip to 127.0.0.1:{PEER_PORT} meta mark set 1 accept
    }}
}}
"
        ),
    }
}

const ENDED_WITHIN: Duration = Duration::from_secs(10);
const GLANCE: Duration = Duration::from_millis(5);
const ROUTING: &str = "rule add fwmark 1 lookup 100
route add local default dev lo table 100
";
