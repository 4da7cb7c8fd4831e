//! The admin listener: metrics, health and the status page over HTTP/1.1, for reading only.
//!
//! Runs on a thread of low priority, so that nobody who asks takes anything from flows. Everything is
//! limited: connections in all and by address, the size and time of requests, and streams. Loopback
//! speaks plain HTTP; every other address demands TLS, and a token or a client certificate
//! ([`Doors`]). What comes from a device's network is turned away, also where the rules in the kernel
//! would have let it in.

mod answer;
mod connection;
mod crowd;
mod doors;
mod events;
mod own;
mod page;
mod snapshot;
mod token;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;
use tokio::runtime::LocalOptions;
use tokio_util::sync::CancellationToken;

use super::report::Reporter;
use crate::config::Site;
use crate::net::socket;
use crowd::Crowd;
pub(crate) use crowd::MOST_CONNECTIONS;
use doors::Doors;
pub use doors::DoorsError;
use page::Page;
use snapshot::Snapshots;

/// Why the admin listener cannot work.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address cannot be had.
    #[error("cannot listen on {0} ([admin] listen): {1}")]
    Listen(SocketAddr, io::Error),
    /// Certificate, key, token or client authority.
    #[error(transparent)]
    Doors(#[from] DoorsError),
}

/// Where the listener is, for `status`.
#[derive(Clone, Debug, Serialize)]
pub struct ListenerStatus {
    /// What to open in a browser.
    pub url: String,
    /// SHA-256 of its certificate, where it has one: what a browser shows of a certificate that the gate
    /// has made itself.
    pub fingerprint: Option<String>,
}

/// What the listener counts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HttpStatus {
    pub(super) connections: u64,
    pub(super) streams: u64,
    pub(super) too_many_total: u64,
    pub(super) not_permitted_total: u64,
    pub(super) from_devices_total: u64,
}

/// A bound admin listener.
#[derive(Debug)]
pub struct AdminHttp {
    listener: TcpListener,
    address: SocketAddr,
    hall: Arc<Hall>,
    thread: Option<JoinHandle<()>>,
}

/// What a new configuration changes.
#[derive(Debug)]
pub struct Renewal {
    doors: Arc<Doors>,
    devices: Vec<IpNet>,
}

/// What all connections share.
#[derive(Debug)]
struct Hall {
    doors: RwLock<Arc<Doors>>,
    /// `[devices] networks`.
    devices: RwLock<Vec<IpNet>>,
    crowd: Arc<Crowd>,
    page: Page,
    draining: AtomicBool,
    not_permitted: AtomicU64,
    from_devices: AtomicU64,
    stop: CancellationToken,
}

impl AdminHttp {
    /// Binds the listener; nobody is answered yet.
    ///
    /// # Errors
    /// [`AdminError`].
    pub fn bind(site: &Site) -> Result<Self, AdminError> {
        let asked = site.admin.listen;
        let doors = Doors::open(site)?;
        let failed = |error| AdminError::Listen(asked, error);
        let listener = socket::listen_admin(asked).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let hall = Hall {
            doors: RwLock::new(Arc::new(doors)),
            devices: RwLock::new(site.devices.networks.clone()),
            crowd: Arc::default(),
            page: Page::new(),
            draining: AtomicBool::new(false),
            not_permitted: AtomicU64::new(0),
            from_devices: AtomicU64::new(0),
            stop: CancellationToken::new(),
        };
        Ok(Self { listener, address, hall: Arc::new(hall), thread: None })
    }

    /// Where it is.
    pub fn status(&self) -> ListenerStatus {
        let doors = self.hall.doors();
        let scheme = if doors.tls().is_some() { "https" } else { "http" };
        ListenerStatus {
            url: format!("{scheme}://{}/", self.address),
            fingerprint: doors.fingerprint().map(str::to_owned),
        }
    }

    /// Answers from now on, on a thread of its own.
    ///
    /// # Errors
    /// The system refuses another thread.
    pub fn serve(&mut self, reporter: Arc<Reporter>) -> io::Result<()> {
        let listener = self.listener.try_clone()?;
        let hall = Arc::clone(&self.hall);
        let thread = std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
            lower_priority();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(1)
                .build_local(LocalOptions::default());
            let outcome = runtime.and_then(|runtime| {
                let served = runtime.block_on(accept(listener, hall, reporter));
                // Somebody may still be reading the kernel's counters.
                runtime.shutdown_timeout(PATIENCE);
                served
            });
            if let Err(error) = outcome {
                tracing::error!(%error, "the admin listener could not work");
            }
        })?;
        self.thread = Some(thread);
        let ListenerStatus { url, fingerprint } = self.status();
        tracing::info!(url, fingerprint, "the status page is served");
        Ok(())
    }

    /// Reads token and certificates of a new configuration.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn prepare(site: &Site) -> Result<Renewal, AdminError> {
        let doors = Arc::new(Doors::open(site)?);
        Ok(Renewal { doors, devices: site.devices.networks.clone() })
    }

    /// Uses them from now on; connections that there are keep theirs.
    pub fn renew(&self, Renewal { doors, devices }: Renewal) {
        *self.hall.doors.write().unwrap_or_else(PoisonError::into_inner) = doors;
        *self.hall.devices.write().unwrap_or_else(PoisonError::into_inner) = devices;
    }

    /// Says from now on that the gate is not ready.
    pub fn drain(&self) {
        self.hall.draining.store(true, Ordering::Relaxed);
    }

    /// Ends every connection and the thread.
    pub fn close(mut self) {
        self.hall.stop.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the admin thread panicked");
        }
    }
}

impl Hall {
    fn doors(&self) -> Arc<Doors> {
        Arc::clone(&self.doors.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_device(&self, address: IpAddr) -> bool {
        let devices = self.devices.read().unwrap_or_else(PoisonError::into_inner);
        devices.iter().any(|network| network.contains(&address))
    }

    fn status(&self) -> HttpStatus {
        let (connections, streams, too_many_total) = self.crowd.counts();
        HttpStatus {
            connections,
            streams,
            too_many_total,
            not_permitted_total: self.not_permitted.load(Ordering::Relaxed),
            from_devices_total: self.from_devices.load(Ordering::Relaxed),
        }
    }
}

async fn accept(listener: TcpListener, hall: Arc<Hall>, reporter: Arc<Reporter>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let snapshots = Arc::new(Snapshots::new(reporter));
    loop {
        let accepted = tokio::select! {
            () = hall.stop.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            // EMFILE and the like pass.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let from = peer.ip().to_canonical();
        if hall.is_device(from) {
            hall.from_devices.fetch_add(1, Ordering::Relaxed);
            socket::reset_on_close(&stream);
            continue;
        }
        let Some(seat) = hall.crowd.enter(from) else {
            socket::reset_on_close(&stream);
            continue;
        };
        let serving =
            connection::serve(stream, Arc::clone(&hall), Arc::clone(&snapshots), (from, seat));
        tokio::task::spawn_local(serving);
    }
}

/// Whoever looks can wait for what flows do.
fn lower_priority() {
    let thread = rustix::thread::gettid();
    if let Err(error) = rustix::process::setpriority_process(Some(thread), NICE) {
        tracing::debug!(%error, "the admin thread has the priority of the others");
    }
}

/// nice(2).
const NICE: i32 = 10;
const PAUSE: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(1);
