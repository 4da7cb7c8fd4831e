//! Relays that decide nothing: what a user-space relay costs at least, or nearly so.
//!
//! Accept, connect to a fixed address, move bytes: one blocking thread per direction, as simple as
//! it gets. [`Way::Hold`] moves only the first message of each side and then holds the two sockets
//! without even looking at them: the memory of two bare sockets.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use socket2::{Domain, Protocol, Socket, Type};

/// How a relay moves bytes.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Way {
    /// Through a pipe of 256 KiB.
    Splice,
    /// Through a buffer of 64 KiB.
    Copy,
    /// Not at all, after the first message of each side.
    Hold,
}

/// `compare null`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How bytes are moved
    way: Way,
    /// The port of the transparent listener
    #[arg(long)]
    port: u16,
    /// Where every flow goes
    #[arg(long)]
    to: SocketAddr,
}

/// Relays until it is killed.
///
/// # Errors
/// The port is taken, or a flow cannot have its thread.
pub(crate) fn run(options: &Options) -> io::Result<()> {
    raise_descriptors();
    let listener = listen(options.port)?;
    let mut held = Vec::new();
    loop {
        let (device, _) = listener.accept()?;
        let Ok(endpoint) = dial(options.to) else { continue };
        match options.way {
            Way::Hold => {
                // The hello and its answer come at once, or never.
                if first_message(&device, &endpoint).is_ok()
                    && first_message(&endpoint, &device).is_ok()
                {
                    held.push((device, endpoint));
                }
            }
            Way::Splice => both_ways(device, endpoint, splice_all)?,
            Way::Copy => both_ways(device, endpoint, copy_all)?,
        }
    }
}

type Mover = fn(&TcpStream, &TcpStream) -> io::Result<()>;

fn both_ways(device: TcpStream, endpoint: TcpStream, mover: Mover) -> io::Result<()> {
    device.set_nodelay(true)?;
    endpoint.set_nodelay(true)?;
    let flow = Arc::new((device, endpoint));
    let other = Arc::clone(&flow);
    direction(move || one_way(&other.0, &other.1, mover))?;
    direction(move || one_way(&flow.1, &flow.0, mover))
}

fn direction(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().stack_size(STACK).spawn(work).map(drop)
}

fn one_way(from: &TcpStream, to: &TcpStream, mover: Mover) {
    // How a flow ends is not what is measured here.
    let _ = mover(from, to);
    let _ = to.shutdown(Shutdown::Write);
}

fn splice_all(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let (out, into) = pipe()?;
    loop {
        let mut waiting = splice(from, None, &into, None, PIPE, SpliceFlags::empty())?;
        if waiting == 0 {
            return Ok(());
        }
        while waiting > 0 {
            let moved = splice(&out, None, to, None, waiting, SpliceFlags::empty())?;
            waiting = waiting.saturating_sub(moved);
        }
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (out, into) = pipe_with(PipeFlags::CLOEXEC)?;
    fcntl_setpipe_size(&into, PIPE)?;
    Ok((out, into))
}

fn copy_all(mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        to.write_all(buffer.get(..read).unwrap_or_default())?;
    }
}

#[expect(clippy::disallowed_methods, reason = "no gate: whatever way the routing table says")]
fn dial(to: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect(to)
}

fn first_message(mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
    let mut buffer = [0; 16_384];
    let read = from.read(&mut buffer)?;
    to.write_all(buffer.get(..read).unwrap_or_default())
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_ip_transparent_v4(true)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// As many descriptors as the hard limit allows.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // With fewer it serves fewer flows, which shows.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

const PIPE: usize = 256 * 1024;
const BUFFER: usize = 64 * 1024;
/// A direction calls nothing deep.
const STACK: usize = 64 * 1024;
const BACKLOG: i32 = 65_535;
