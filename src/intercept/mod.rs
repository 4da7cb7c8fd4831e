//! Interception: the nftables table, the routing that goes with it, and the transparent listeners.
//!
//! Owns the rules in the kernel. On exit they stay, so that a box without its daemon lets nothing
//! pass; [`clear`] removes them.

pub mod nft;
pub mod render;
pub mod ruleset;
pub mod tally;
pub mod watch;
mod words;

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};

use crate::net::addr::{DeviceAddr, DialledAddr, canonical};
use crate::net::netlink::{Families, Netlink, NetlinkError};
use crate::net::socket::{self, LISTEN_V4, LISTEN_V6};

pub use ruleset::{Passage, Plan};

/// What a step of interception failed with.
#[derive(Debug, thiserror::Error)]
pub enum InterceptError {
    /// nftables.
    #[error(transparent)]
    Nft(#[from] nft::NftError),
    /// Rules and routes.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The listeners' port.
    #[error("{0}")]
    Listen(String),
}

/// A connection that a device opened, as accepted: its local address *is* what the device dialled
/// (TPROXY leaves packets as they are), so nothing has to be asked of connection tracking.
#[derive(Debug)]
pub struct Intercepted {
    /// The connection.
    pub stream: TcpStream,
    /// The device.
    pub device: DeviceAddr,
    /// What it dialled.
    pub dialled: DialledAddr,
}

/// One thread's listeners.
#[derive(Debug)]
pub struct Listeners {
    v4: std::net::TcpListener,
    v6: Option<std::net::TcpListener>,
}

/// The same, registered with the thread's runtime.
#[derive(Debug)]
pub struct Accepting {
    v4: TcpListener,
    v6: Option<TcpListener>,
}

/// Puts the routing and the rules into the kernel. The routing comes first: without marks, which
/// only the rules set, it does nothing, so a failure in between leaves the box as it was.
///
/// # Errors
/// What is missing, in one sentence. The table is applied whole or not at all.
pub async fn set_up(plan: &Plan) -> Result<(), InterceptError> {
    let netlink = Netlink::open()?;
    netlink.add_interception(plan.families(), &plan.device_interfaces).await?;
    let rules = plan.clone();
    if let Err(error) = blocking(move || nft::apply(&rules)).await {
        if let Ok(nft::Presence::Absent) = blocking(nft::present).await {
            netlink.remove_interception().await?;
        }
        return Err(error.into());
    }
    Ok(())
}

/// Takes the rules and the routing away.
///
/// # Errors
/// What stands in the way, in one sentence.
pub async fn clear() -> Result<(), InterceptError> {
    Netlink::open()?.remove_interception().await?;
    blocking(nft::clear).await?;
    Ok(())
}

/// Runs a call of nft, which waits for another process, beside the runtime.
///
/// # Errors
/// Those of the call.
pub async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, nft::NftError> + Send + 'static,
) -> Result<T, nft::NftError> {
    match tokio::task::spawn_blocking(call).await {
        Ok(result) => result,
        Err(_) => Err(nft::NftError::Failed {
            hint: "waiting for nft",
            stderr: "the runtime is shutting down".to_owned(),
        }),
    }
}

/// Binds the listeners of `threads` threads, all on one port.
///
/// # Errors
/// The port is taken, or the process lacks `CAP_NET_ADMIN`.
pub fn listen(
    port: u16,
    families: Families,
    threads: usize,
) -> Result<Vec<Listeners>, InterceptError> {
    let v4 = SocketAddr::new(LISTEN_V4, port);
    let v6 = SocketAddr::new(LISTEN_V6, port);
    socket::probe_port(v4).map_err(|error| listen_error(v4, &error))?;
    let one = || {
        Ok(Listeners {
            v4: socket::listen(v4).map_err(|error| listen_error(v4, &error))?,
            v6: match families {
                Families::V4 => None,
                Families::Both => {
                    Some(socket::listen(v6).map_err(|error| listen_error(v6, &error))?)
                }
            },
        })
    };
    (0..threads).map(|_| one()).collect()
}

impl Listeners {
    /// Registers the listeners with the runtime of the calling thread.
    ///
    /// # Errors
    /// The runtime cannot take another descriptor.
    pub fn register(self) -> io::Result<Accepting> {
        let v6 = self.v6.map(TcpListener::from_std).transpose()?;
        Ok(Accepting { v4: TcpListener::from_std(self.v4)?, v6 })
    }
}

impl Accepting {
    /// The next connection of a device.
    ///
    /// # Errors
    /// Those of accept(2); `EMFILE` and `ENFILE` pass by themselves when flows end.
    pub async fn accept(&self) -> io::Result<Intercepted> {
        let (stream, device) = match &self.v6 {
            None => self.v4.accept().await?,
            Some(v6) => tokio::select! {
                accepted = self.v4.accept() => accepted?,
                accepted = v6.accept() => accepted?,
            },
        };
        intercepted(stream, device)
    }

    /// Ends the listeners with the last look at what the kernel has accepted already: closing them
    /// resets these connections otherwise, and nobody has heard of them.
    pub fn close(self) -> impl Iterator<Item = Intercepted> {
        let listeners = [Some(self.v4), self.v6].into_iter().flatten();
        // The kernel itself is asked: the runtime may not have heard of them yet.
        listeners.filter_map(|listener| listener.into_std().ok()).flat_map(|listener| {
            std::iter::from_fn(move || listener.accept().ok()).filter_map(|(stream, device)| {
                stream.set_nonblocking(true).ok()?;
                intercepted(TcpStream::from_std(stream).ok()?, device).ok()
            })
        })
    }
}

fn intercepted(stream: TcpStream, device: SocketAddr) -> io::Result<Intercepted> {
    let dialled = DialledAddr(canonical(stream.local_addr()?));
    Ok(Intercepted { stream, device: DeviceAddr(canonical(device)), dialled })
}

fn listen_error(address: SocketAddr, error: &io::Error) -> InterceptError {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program has the port; is a second sluicegate running? Otherwise set another \
             port in [intercept]"
        }
        io::ErrorKind::PermissionDenied => "run as root or with CAP_NET_ADMIN",
        _ => "the transparent listener needs it",
    };
    InterceptError::Listen(format!("cannot listen on {address}: {error}; {advice}"))
}
