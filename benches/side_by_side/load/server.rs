//! The server: one loop per thread, each with listeners of its own.

use std::io;
use std::io::Write as _;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::SocketFlags;
use socket2::{Domain, Protocol, Socket, Type};

use super::poll::{self, BOTH, Got, IN, Poller, Sink, Slab};
use super::wire::{self, COMMAND, Command, RECORD_HEADER};

/// Serves until a listener fails.
pub(super) fn run(listen: &[SocketAddr], threads: NonZeroUsize) -> Result<(), String> {
    let loops = (0..threads.get()).map(|_| Serving::bind(listen)).collect::<Result<Vec<_>, _>>()?;
    println!("ready");
    io::stdout().flush().map_err(|error| format!("standard output is gone: {error}"))?;
    serve(loops)
}

/// Runs each loop in its thread, until one fails.
pub(super) fn serve(loops: Vec<Serving>) -> Result<(), String> {
    thread::scope(|scope| {
        let threads: Vec<_> = loops.into_iter().map(|one| scope.spawn(|| one.run())).collect();
        for thread in threads {
            let ended = thread.join().map_err(|_| "a thread has panicked".to_owned())?;
            ended.map_err(|error| format!("the server cannot go on: {error}"))?;
        }
        Ok(())
    })
}

/// One thread's sockets.
pub(super) struct Serving {
    poller: Poller,
    listeners: Vec<Socket>,
    flows: Slab<Flow>,
    sink: Sink,
    reply: Vec<u8>,
    block: Vec<u8>,
}

struct Flow {
    socket: OwnedFd,
    interest: EventFlags,
    state: State,
}

enum State {
    /// Before the reply: the header of the record, as far as it came, and what of its content is
    /// still to come.
    Hello {
        header: Vec<u8>,
        left: usize,
    },
    Command {
        bytes: Vec<u8>,
    },
    /// Until the next command.
    Down,
    Up {
        left: u64,
    },
    Echo {
        size: u64,
        got: u64,
        owed: u64,
    },
}

impl Serving {
    /// Listens on every address, besides the other threads.
    pub(super) fn bind(listen: &[SocketAddr]) -> Result<Self, String> {
        let bound = || -> io::Result<Self> {
            let listeners = listen.iter().map(listener).collect::<io::Result<Vec<_>>>()?;
            let poller = Poller::new()?;
            for (place, listener) in listeners.iter().enumerate() {
                poller.watch(listener, LISTENERS + place as u64, IN)?;
            }
            let (reply, block) = (wire::reply(), wire::block());
            Ok(Self { poller, listeners, flows: Slab::new(), sink: Sink::new(), reply, block })
        };
        bound().map_err(|error| format!("the server cannot listen on {listen:?}: {error}"))
    }

    /// The address of the first listener.
    #[cfg(test)]
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.listeners.first()?.local_addr().ok()?.as_socket()
    }

    fn run(mut self) -> io::Result<()> {
        let mut events = Vec::new();
        loop {
            self.poller.wait(&mut events, None)?;
            for event in &events {
                let (token, flags) = (event.data.u64(), event.flags);
                match token.checked_sub(LISTENERS) {
                    Some(place) => self.accept(place)?,
                    None => self.advance(token, flags),
                }
            }
        }
    }

    fn accept(&mut self, place: u64) -> io::Result<()> {
        let Some(listener) = usize::try_from(place).ok().and_then(|at| self.listeners.get(at))
        else {
            return Ok(());
        };
        for _ in 0..ACCEPTS {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let socket = match rustix::net::accept_with(listener, flags) {
                Ok(socket) => socket,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                // Out of descriptors or memory: a measurement that goes on would be wrong.
                Err(error) => return Err(error.into()),
            };
            let state = State::Hello { header: Vec::with_capacity(RECORD_HEADER), left: 0 };
            self.flows.insert(Flow { socket, interest: IN, state }, |flow, token| {
                self.poller.watch(&flow.socket, token, IN)
            })?;
        }
        Ok(())
    }

    /// Does what a flow is ready for. One that fails or ends is closed: the client tells why.
    fn advance(&mut self, token: u64, flags: EventFlags) {
        let Self { poller, flows, sink, reply, block, .. } = self;
        let Some(flow) = flows.find(token) else { return };
        let mut ends = Ends { sink, reply, block };
        let goes_on = flow.step(flags, &mut ends).and_then(|step| {
            let wanted = flow.state.interest();
            if wanted != flow.interest {
                flow.interest = wanted;
                poller.change(&flow.socket, token, wanted)?;
            }
            Ok(step == Step::GoesOn)
        });
        if !matches!(goes_on, Ok(true)) {
            flows.remove(token);
        }
    }
}

/// What a thread lends each flow in turn.
struct Ends<'a> {
    sink: &'a mut Sink,
    reply: &'a [u8],
    block: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    GoesOn,
    Over,
}

impl Flow {
    fn step(&mut self, flags: EventFlags, ends: &mut Ends<'_>) -> io::Result<Step> {
        if flags.contains(EventFlags::OUT) {
            self.give(ends)?;
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            return self.take(ends);
        }
        Ok(Step::GoesOn)
    }

    fn give(&mut self, ends: &Ends<'_>) -> io::Result<()> {
        match &mut self.state {
            State::Down => {
                poll::send(&self.socket, ends.block)?;
            }
            State::Echo { owed, .. } => {
                let most = usize::try_from(*owed).unwrap_or(usize::MAX).min(ends.block.len());
                let sent = poll::send(&self.socket, ends.block.get(..most).unwrap_or_default())?;
                *owed = owed.saturating_sub(sent as u64);
            }
            _ => {}
        }
        Ok(())
    }

    fn take(&mut self, ends: &mut Ends<'_>) -> io::Result<Step> {
        let got = match &mut self.state {
            State::Hello { header, left } if header.len() == RECORD_HEADER => {
                let got = ends.sink.swallow(&self.socket, *left as u64)?;
                if let Got::Bytes(length) = got {
                    *left = left.saturating_sub(length);
                    return self.greet(ends);
                }
                got
            }
            State::Hello { header, left } => {
                let got = append(&self.socket, header, RECORD_HEADER)?;
                match **header {
                    [22, 3, _, high, low] => {
                        *left = u16::from_be_bytes([high, low]).into();
                        // The rest is here already, as good as always.
                        return self.take(ends);
                    }
                    [_, _, _, _, _] => return Err(unexpected("a hello", header)),
                    _ => got,
                }
            }
            State::Command { bytes } => {
                let got = append(&self.socket, bytes, COMMAND)?;
                if let Ok(bytes) = <[u8; COMMAND]>::try_from(bytes.as_slice()) {
                    return self.obey(bytes);
                }
                got
            }
            State::Down => {
                self.state = State::command();
                return self.take(ends);
            }
            State::Up { left } => {
                let got = ends.sink.swallow(&self.socket, *left)?;
                if let Got::Bytes(length) = got {
                    *left = left.saturating_sub(length as u64);
                    if *left == 0 {
                        self.state = State::command();
                    }
                }
                got
            }
            State::Echo { size, got: in_hand, owed } => {
                let got = ends.sink.swallow(&self.socket, u64::MAX)?;
                if let Got::Bytes(length) = got {
                    *in_hand += length as u64;
                    *owed += *in_hand / *size * *size;
                    *in_hand %= *size;
                    if *owed > 0 {
                        self.give(ends)?;
                    }
                }
                got
            }
        };
        Ok(if got == Got::End { Step::Over } else { Step::GoesOn })
    }

    /// Answers the hello, once it is whole.
    fn greet(&mut self, ends: &Ends<'_>) -> io::Result<Step> {
        if matches!(self.state, State::Hello { left: 0, .. }) {
            poll::send_whole(&self.socket, ends.reply)?;
            self.state = State::command();
        }
        Ok(Step::GoesOn)
    }

    fn obey(&mut self, bytes: [u8; COMMAND]) -> io::Result<Step> {
        self.state = match Command::read(bytes) {
            Some(Command::Down) => State::Down,
            Some(Command::Up(bytes)) => State::Up { left: bytes },
            Some(Command::Echo(size)) => State::Echo { size, got: 0, owed: 0 },
            Some(Command::Answer) => {
                poll::send_whole(&self.socket, b"A")?;
                State::command()
            }
            Some(Command::Quit) => return Ok(Step::Over),
            None => return Err(unexpected("a command", &bytes)),
        };
        Ok(Step::GoesOn)
    }
}

impl State {
    fn command() -> Self {
        Self::Command { bytes: Vec::new() }
    }

    fn interest(&self) -> EventFlags {
        match self {
            Self::Down => BOTH,
            Self::Echo { owed, .. } if *owed > 0 => BOTH,
            _ => IN,
        }
    }
}

/// Receives what is missing of so many bytes.
fn append(socket: impl AsFd, bytes: &mut Vec<u8>, whole: usize) -> rustix::io::Result<Got> {
    let mut space = [0; COMMAND];
    let missing = whole.saturating_sub(bytes.len());
    let Some(space) = space.get_mut(..missing) else { return Ok(Got::Nothing) };
    let got = poll::receive(socket, space)?;
    if let Got::Bytes(length) = got {
        bytes.extend(space.iter().take(length));
    }
    Ok(got)
}

fn unexpected(what: &str, bytes: &[u8]) -> io::Error {
    let sentence = format!("not {what}: {bytes:02x?}");
    eprintln!("{sentence}");
    io::Error::new(io::ErrorKind::InvalidData, sentence)
}

fn listener(address: &SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(*address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&(*address).into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The token of the first listener; those of flows are far below.
const LISTENERS: u64 = u64::MAX - 65_535;
/// The kernel clamps it to `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;
/// How many flows are accepted before others have their turn.
const ACCEPTS: usize = 32;
