//! The lab: a plant, the box, a VPC and a public internet as network namespaces.
//!
//! Three devices, the box, a VPC of two availability zones with resolvers and AWS-like services
//! behind two tunnels, and a public side with the same names: real kernels' forwarding, real
//! servers, real clients, and the real daemon as a process. `sluicegate demo`, the namespace tests
//! and the benchmarks stand on it.
//!
//! It never touches the machine's own network: [`Lab::up`] works only inside of namespaces that
//! [`inside`] has made, and everything is gone with them. The box forwards whatever comes, so that
//! without the daemon every leak succeeds, and [`Lab::leaked_packets`] counts them.
//!
//! ```no_run
//! use sluicegate::lab::device::{Call, tls_connect};
//! use sluicegate::lab::{Lab, services, topology};
//!
//! let lab = Lab::up()?;
//! let daemon = lab.start_daemon(&std::env::current_exe()?, &lab.daemon_config())?;
//! let pki = lab.pki();
//! let call = Call::new((topology::public4(11), 443), services::IOT_DATA);
//! let outcome = lab.device(0).run(async move || tls_connect(&pki, &call).await.map(drop));
//! assert_eq!((outcome, lab.leaked_packets()?), (Ok(()), 0));
//! # drop(daemon);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod device;
pub mod dns;
pub mod inside;
pub mod party;
pub mod pki;
pub mod services;
pub mod topology;
pub mod window;

mod config;
mod daemon;
mod error;
mod external;
mod faults;
mod ipsec;
mod netns;
mod process;

use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use config::SITE;
pub use daemon::Daemon;
pub use error::LabError;
pub use faults::Leak;
pub use process::Process;

use dns::{View, Zone};
use party::Party;
use pki::Pki;
use services::{Ledger, PUBLIC_NAMES, PUBLIC_OCTET, SERVICES};
use topology::{DEVICES, RESOLVER_OCTET, Wiring, ZONES, public, public4, public6};

/// A lab that is up. There is at most one at a time in a process.
#[derive(Debug)]
pub struct Lab {
    directory: PathBuf,
    pki: Arc<Pki>,
    zone: Arc<Zone>,
    vpc_ledger: Arc<Ledger>,
    public_ledger: Arc<Ledger>,
    /// Every process that was started, ended or not.
    processes: Mutex<Vec<Arc<Mutex<Child>>>>,
    devices: [Party; 3],
    edge: Party,
    vpc: Party,
    public: Party,
    wiring: Wiring,
    /// The IKE daemons, where the tunnels are theirs.
    ipsec: Vec<ipsec::Ike>,
}

impl Lab {
    /// Builds everything, as it is most of the time.
    ///
    /// # Errors
    /// [`LabError::NotInside`] outside of namespaces of its own; else what failed, with its words.
    pub fn up() -> Result<Self, LabError> {
        Self::up_with(Wiring::default())
    }

    /// Builds everything, with these tunnels.
    ///
    /// # Errors
    /// As [`Lab::up`].
    pub fn up_with(wiring: Wiring) -> Result<Self, LabError> {
        let directory = inside::enter()?;
        topology::build(wiring)?;
        let [first, second, third] = DEVICES.map(|device| Party::enter(device.namespace));
        let mut lab = Self {
            pki: Arc::new(Pki::generate(&directory, &services::names())?),
            directory,
            zone: Arc::new(known_names()),
            vpc_ledger: Arc::default(),
            public_ledger: Arc::default(),
            processes: Mutex::default(),
            devices: [first?, second?, third?],
            edge: Party::enter("box")?,
            vpc: Party::enter("vpc")?,
            public: Party::enter("public")?,
            wiring,
            ipsec: Vec::new(),
        };
        lab.start_servers()?;
        if wiring.tunnels == topology::Tunnels::Ipsec {
            lab.ipsec = ipsec::start(&lab)?;
        }
        Ok(lab)
    }

    /// The device at this place in [`DEVICES`]; the last one for a number too high.
    pub fn device(&self, number: usize) -> &Party {
        let [first, second, third] = &self.devices;
        match number {
            0 => first,
            1 => second,
            _ => third,
        }
    }

    /// The box between plant, tunnels and internet.
    pub fn edge(&self) -> &Party {
        &self.edge
    }

    /// The VPC.
    pub fn vpc(&self) -> &Party {
        &self.vpc
    }

    /// The public side.
    pub fn public(&self) -> &Party {
        &self.public
    }

    /// The lab's certificates, which every client needs.
    pub fn pki(&self) -> Arc<Pki> {
        Arc::clone(&self.pki)
    }

    /// What the resolvers know and were asked.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// Whom the servers in the VPC have met.
    pub fn vpc_ledger(&self) -> &Ledger {
        &self.vpc_ledger
    }

    /// Whom the servers on the public side have met.
    pub fn public_ledger(&self) -> &Ledger {
        &self.public_ledger
    }

    /// The lab's directory, removed when its process ends.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A configuration that fits the lab.
    pub fn daemon_config(&self) -> String {
        config::daemon(&self.directory)
    }

    /// Starts `binary run --config FILE` in the box and waits until it is ready.
    ///
    /// # Errors
    /// [`LabError::DaemonEnded`] and [`LabError::DaemonNotReady`] with what it said.
    pub fn start_daemon(&self, binary: &Path, config: &str) -> Result<Daemon, LabError> {
        let name = format!("daemon-{}", attempt());
        let directory = self.directory.join(name);
        std::fs::create_dir(&directory)
            .map_err(LabError::io(format!("make {}", directory.display())))?;
        let daemon = Daemon::start(&self.edge, binary, &directory, config)?;
        self.started().push(daemon.process().handle());
        Ok(daemon)
    }

    /// Starts a program in a party's namespace; it ends with the lab at the latest.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_process(
        &self,
        party: &Party,
        program: &str,
        args: &[&str],
    ) -> Result<Process, LabError> {
        let mut command = netns::bound_command(party.namespace(), program);
        command.args(args);
        let said = self.directory.join(format!("process-{}", attempt()));
        let process = Process::start(party, command, &said)?;
        self.started().push(process.handle());
        Ok(process)
    }

    /// Opens a window: see [`window`].
    ///
    /// # Errors
    /// When its socket cannot be made.
    pub fn open_window(&self, to: std::net::SocketAddr) -> Result<(), LabError> {
        window::open(self, &self.directory, to)
    }

    /// Kills the box's IKE daemon of tunnel 1 or 2, as a crash would: its interface goes with it.
    pub fn kill_ike(&self, tunnel: u8) {
        self.ipsec.iter().filter(|ike| ike.is_of_box(tunnel)).for_each(ipsec::Ike::kill);
    }

    fn start_servers(&self) -> Result<(), LabError> {
        let (pki, zone) = (self.pki(), Arc::clone(&self.zone));
        let ledger = Arc::clone(&self.vpc_ledger);
        self.vpc.run(async move || {
            for site in &ZONES {
                dns::start(&zone, View::Vpc, site.resolver().into())?;
            }
            services::start_private(&pki, &ledger)
        })?;
        let (pki, zone) = (self.pki(), Arc::clone(&self.zone));
        let ledger = Arc::clone(&self.public_ledger);
        self.public.run(async move || {
            for address in public(RESOLVER_OCTET) {
                dns::start(&zone, View::Public, address)?;
            }
            services::start_public(&pki, &ledger)
        })
    }

    fn started(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Mutex<Child>>>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for child in self.started().iter() {
            process::end(&mut child.lock().unwrap_or_else(PoisonError::into_inner));
        }
        if let Err(error) = topology::remove(self.wiring.tunnels) {
            tracing::warn!(%error, "the lab's namespaces keep their names");
        }
    }
}

/// A number for the files of the next program, also of one that does not start. The directory is the
/// process's, and so is the count: a process may have one lab after the other.
fn attempt() -> usize {
    static ATTEMPTS: AtomicUsize = AtomicUsize::new(0);
    ATTEMPTS.fetch_add(1, Ordering::Relaxed)
}

/// Every service by its addresses in both zones, and every name by its public addresses.
fn known_names() -> Zone {
    let zone = Zone::new();
    for service in &SERVICES {
        for name in service.names {
            zone.set_private(name, &ZONES.map(|site| site.address(service.octet)));
            zone.set_public(name, public4(service.octet), public6(service.octet));
        }
    }
    for name in PUBLIC_NAMES {
        zone.set_public(name, public4(PUBLIC_OCTET), public6(PUBLIC_OCTET));
    }
    zone
}
