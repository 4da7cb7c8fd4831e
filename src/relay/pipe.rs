//! One kernel pipe, and how many bytes are in it.
//!
//! Owns both ends, so a splice out of it never meets end of file. Never splices into a pipe that
//! holds bytes: a pipe is counted in slots, not bytes, so EAGAIN from one that is not empty could mean
//! either "socket drained" or "pipe full", and taking the one for the other hangs the flow.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::{
    PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice,
};

/// A pipe and its content.
#[derive(Debug)]
pub(super) struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    size: usize,
    held: usize,
}

impl Pipe {
    /// A new empty pipe of about `size` bytes; `None` when the kernel refuses one worth having.
    ///
    /// Past `pipe-user-pages-soft` (pipe(7)) the kernel still hands out pipes, but of two pages, and
    /// refuses to grow them: those would be slower than copying.
    pub(super) fn open(size: usize) -> Option<Self> {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
        let size = match fcntl_setpipe_size(&writer, size) {
            Ok(size) => size,
            Err(_) => fcntl_getpipe_size(&writer).ok()?,
        };
        (size >= LEAST).then_some(Self { reader, writer, size, held: 0 })
    }

    /// Bytes in the pipe.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Moves what a socket has received into the empty pipe; 0 is the end of the stream.
    pub(super) fn fill(&mut self, source: impl AsFd) -> io::Result<usize> {
        assert_eq!(self.held, 0, "a pipe is filled only when empty");
        let size = splice(source, None, &self.writer, None, self.size, SpliceFlags::NONBLOCK)?;
        self.held = size;
        Ok(size)
    }

    /// Moves the pipe's bytes to a socket: exactly those, and without `SPLICE_F_MORE`, which would
    /// cork the last segment.
    pub(super) fn empty(&mut self, sink: impl AsFd) -> io::Result<usize> {
        let size = splice(&self.reader, None, sink, None, self.held, SpliceFlags::NONBLOCK)?;
        self.took(size)
    }

    /// Takes bytes out into user space, for a sink that cannot be spliced to.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = rustix::io::read(&self.reader, buffer)?;
        self.took(size)
    }

    fn took(&mut self, size: usize) -> io::Result<usize> {
        if size == 0 {
            // Cannot happen while bytes are held; going round again would spin.
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.held = self.held.saturating_sub(size);
        Ok(size)
    }
}

/// Below the size of the copy buffer a pipe only costs system calls.
const LEAST: usize = 64 * 1024;
