//! Opens flows: connect, hello, reply; and, as told, their end.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::sys::socket::sockopt::IpBindAddressNoPort;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use super::poll::{self, Got, IN, OUT, Poller, Slab};
use super::wire::{Command, REPLY};
use super::{Client, Close, Refusal, hellos};

/// What counts as success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expect {
    /// The reply.
    Reply,
    /// The reply, and the server's FIN when told to close.
    Farewell,
    /// An end without a reply.
    Refusal(Refusal),
}

/// How many flows are opened, and until when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) at_once: usize,
    pub(super) count: Option<u64>,
    pub(super) deadline: Option<Instant>,
}

/// A flow that came as far as it should, or failed.
pub(super) struct Finished {
    /// From before the socket was made.
    pub(super) took: Duration,
    /// `Err` is the kind of failure.
    pub(super) result: Result<Opened, String>,
}

pub(super) struct Opened {
    pub(super) socket: OwnedFd,
    /// How it ended, if it was to end.
    pub(super) end: Option<String>,
}

/// Opens flows after a plan.
pub(super) struct Opener {
    to: SocketAddr,
    from: Vec<SocketAddr>,
    next: usize,
    close: Close,
    patience: Duration,
    expect: Expect,
    hello: Vec<u8>,
    poller: Poller,
    attempts: Slab<Attempt>,
    /// The beginnings of all attempts and the tokens of these, oldest first.
    order: VecDeque<(Instant, u64)>,
}

struct Attempt {
    socket: OwnedFd,
    began: Instant,
    stage: Stage,
    /// The first bytes of what came back, and the number of all.
    head: Vec<u8>,
    got: usize,
}

enum Step {
    GoesOn,
    /// With how it ended, if it was to end.
    Done(Option<String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Connecting,
    /// The hello is sent.
    Greeting,
    /// The reply has come and the server is told to close.
    Leaving,
}

impl Opener {
    pub(super) fn new(plan: &Client, expect: Expect) -> Result<Self, String> {
        if plan.name.len() > hellos::LONGEST {
            return Err(format!("a name of over {} bytes: {}", hellos::LONGEST, plan.name));
        }
        Ok(Self {
            to: plan.to,
            from: plan.from.iter().map(|address| (*address, 0).into()).collect(),
            next: 0,
            close: plan.close,
            patience: plan.patience,
            expect,
            hello: hellos::named(&plan.name),
            poller: Poller::new().map_err(failed)?,
            attempts: Slab::new(),
            order: VecDeque::new(),
        })
    }

    /// Opens all flows of a plan, or says what kept it from that.
    pub(super) fn all(plan: &Client) -> Result<Vec<OwnedFd>, String> {
        let count = plan.flows.get();
        let limits = Limits { at_once: SET_UP, count: Some(count as u64), deadline: None };
        let mut sockets = Vec::with_capacity(count);
        let mut failure = None;
        Self::new(plan, Expect::Reply)?.run(limits, |finished| match finished.result {
            Ok(opened) => sockets.push(opened.socket),
            Err(kind) => failure = Some(kind),
        })?;
        match failure {
            None => Ok(sockets),
            Some(kind) => Err(format!("only {} of {count} flows: {kind}", sockets.len())),
        }
    }

    /// Opens flows until a limit is reached, and hands each over when it is done. How many were
    /// under way when the time was over.
    pub(super) fn run(
        &mut self,
        limits: Limits,
        mut each: impl FnMut(Finished),
    ) -> Result<u64, String> {
        let mut events = Vec::new();
        let mut left = limits.count.unwrap_or(u64::MAX);
        loop {
            if limits.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(self.attempts.len() as u64);
            }
            let mut burst = BURST;
            while left > 0 && burst > 0 && self.attempts.len() < limits.at_once {
                left -= 1;
                burst -= 1;
                self.start(&mut each).map_err(failed)?;
            }
            let more = left > 0 && self.attempts.len() < limits.at_once;
            if self.attempts.len() == 0 && !more {
                return Ok(0);
            }
            let until = if more { Some(Instant::now()) } else { self.wake(limits.deadline) };
            self.poller.wait(&mut events, until).map_err(failed)?;
            for event in &events {
                self.advance(event.data.u64(), &mut each);
            }
            self.expire(&mut each);
        }
    }

    /// When the oldest attempt has taken too long, or all is over.
    fn wake(&self, deadline: Option<Instant>) -> Option<Instant> {
        let oldest = self.order.front().map(|(began, _)| *began + self.patience);
        oldest.into_iter().chain(deadline).min()
    }

    /// Begins a flow. Fails only when it cannot be watched; else each flow tells by itself.
    fn start(&mut self, each: &mut impl FnMut(Finished)) -> io::Result<()> {
        let began = Instant::now();
        match self.connect() {
            Ok(socket) => {
                let (stage, head) = (Stage::Connecting, Vec::new());
                let attempt = Attempt { socket, began, stage, head, got: 0 };
                let token = self.attempts.insert(attempt, |attempt, token| {
                    self.poller.watch(&attempt.socket, token, OUT)
                })?;
                self.order.push_back((began, token));
            }
            Err(error) => {
                let result = Err(Stage::Connecting.failure(&error));
                each(Finished { took: began.elapsed(), result });
            }
        }
        Ok(())
    }

    fn connect(&mut self) -> io::Result<OwnedFd> {
        let family = if self.to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket =
            rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        if self.close == Close::Reset {
            sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
        }
        if let Some(source) = self.from.get(self.next) {
            // Else each address would have one range of ports for all destinations together.
            nix::sys::socket::setsockopt(&socket, IpBindAddressNoPort, &true)?;
            rustix::net::bind(&socket, source)?;
            self.next = (self.next + 1) % self.from.len();
        }
        match rustix::net::connect(&socket, &self.to) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
            Err(error) => Err(error.into()),
        }
    }

    fn advance(&mut self, token: u64, each: &mut impl FnMut(Finished)) {
        let Some(attempt) = self.attempts.find(token) else { return };
        let step = match attempt.stage {
            Stage::Connecting => attempt.greet(&self.hello).and_then(|step| {
                let changed = self.poller.change(&attempt.socket, token, IN);
                changed.map_err(|error| attempt.stage.failure(&error)).map(|()| step)
            }),
            Stage::Greeting | Stage::Leaving => attempt.listen(self.expect),
        };
        let result = match step {
            Ok(Step::GoesOn) => return,
            Ok(Step::Done(end)) => Ok(end),
            Err(kind) => Err(kind),
        };
        let Some(attempt) = self.attempts.remove(token) else { return };
        let took = attempt.began.elapsed();
        // The receiver may keep the socket, and nothing here is to hear of it again. Closing does
        // the same by itself.
        let result = match result {
            Ok(end) if self.expect == Expect::Reply => self
                .poller
                .forget(&attempt.socket)
                .map_err(|error| attempt.stage.failure(&error))
                .map(|()| end),
            result => result,
        };
        each(Finished { took, result: result.map(|end| Opened { socket: attempt.socket, end }) });
    }

    fn expire(&mut self, each: &mut impl FnMut(Finished)) {
        // Asking for the time costs less than a search, so the oldest is asked first.
        while let Some((began, token)) = self.order.front().copied() {
            let Some(attempt) = self.attempts.find(token) else {
                self.order.pop_front();
                continue;
            };
            let took = began.elapsed();
            if took < self.patience {
                return;
            }
            let result = Err(format!("{}: no more patience", attempt.stage.name()));
            self.order.pop_front();
            self.attempts.remove(token);
            each(Finished { took, result });
        }
    }
}

impl Attempt {
    /// Sends the hello, now that the connection is there, or has failed.
    fn greet(&mut self, hello: &[u8]) -> Result<Step, String> {
        match poll::send(&self.socket, hello) {
            Ok(sent) if sent < hello.len() => Err("connecting: no room for a hello".to_owned()),
            Ok(_) => {
                self.stage = Stage::Greeting;
                Ok(Step::GoesOn)
            }
            Err(error) => Err(self.stage.failure(&error.into())),
        }
    }

    /// Takes what has come.
    fn listen(&mut self, expect: Expect) -> Result<Step, String> {
        let mut buffer = [0; 2_048];
        let end = match poll::receive(&self.socket, &mut buffer) {
            Ok(Got::Nothing) => return Ok(Step::GoesOn),
            Ok(Got::Bytes(length)) => {
                let missing = ALERT.saturating_sub(self.head.len());
                self.head.extend(buffer.iter().take(length.min(missing)));
                self.got += length;
                return self.judge(expect);
            }
            Ok(Got::End) => "closed".to_owned(),
            Err(Errno::CONNRESET) => "reset".to_owned(),
            Err(error) => return Err(self.stage.failure(&error.into())),
        };
        match (expect, self.alert()) {
            (Expect::Refusal(_), Some(alert)) => Ok(Step::Done(Some(format!("{alert}, {end}")))),
            (Expect::Refusal(Refusal::Any), None) if self.got == 0 => Ok(Step::Done(Some(end))),
            (Expect::Farewell, _) if self.stage == Stage::Leaving => Ok(Step::Done(Some(end))),
            (_, Some(alert)) => Err(format!("{}: {alert}, {end}", self.stage.name())),
            (_, None) => Err(format!("{}: {end}", self.stage.name())),
        }
    }

    /// Looks at what has come so far. After an alert, the end is waited for.
    fn judge(&mut self, expect: Expect) -> Result<Step, String> {
        match (self.head.first(), expect) {
            (Some(21), _) => Ok(Step::GoesOn),
            (Some(22), Expect::Refusal(_)) => Err("not refused".to_owned()),
            (Some(22), _) if self.got < REPLY => Ok(Step::GoesOn),
            (Some(22), Expect::Reply) if self.got == REPLY => Ok(Step::Done(None)),
            (Some(22), Expect::Farewell) if self.got == REPLY => {
                self.stage = Stage::Leaving;
                poll::send_whole(&self.socket, &Command::Quit.bytes())
                    .map_err(|error| self.stage.failure(&error))?;
                Ok(Step::GoesOn)
            }
            _ => Err(format!("{}: unexpected bytes", self.stage.name())),
        }
    }

    /// The alert that has come, by its number (RFC 8446 section 6).
    fn alert(&self) -> Option<String> {
        match *self.head {
            [21, 3, _, 0, 2, _, description] => Some(format!("alert {description}")),
            _ => None,
        }
    }
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Greeting => "waiting for the reply",
            Self::Leaving => "waiting for the end",
        }
    }

    fn failure(self, error: &io::Error) -> String {
        format!("{}: {error}", self.name())
    }
}

fn failed(error: io::Error) -> String {
    format!("no flows: {error}")
}

/// Flows opened at a time before a measurement begins.
pub(super) const SET_UP: usize = 64;
/// Flows begun before others have their turn.
const BURST: usize = 32;
/// Bytes of an alert's record.
const ALERT: usize = 7;
