//! A segment that is being written.

use std::io;
use std::time::Instant;

use super::segment::SegmentName;
use super::storage::{self, SegmentFile, Storage};

/// A segment that is being written.
#[derive(Debug)]
pub(super) struct Segment<F> {
    pub(super) file: F,
    pub(super) name: SegmentName,
    /// Bytes that are durable.
    pub(super) len: u64,
    /// When it was begun.
    pub(super) since: Instant,
    /// Up to where room was taken on the disk.
    pub(super) taken: u64,
}

impl<F: SegmentFile> Segment<F> {
    /// Begins one. Nothing from its first sequence number on may be durable.
    pub(super) fn create<S: Storage<File = F>>(storage: &S, name: SegmentName) -> io::Result<Self> {
        let file = match storage.create(&name.path) {
            // What has this name is an earlier attempt that could not be removed, or a file that was
            // put there.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                storage::move_aside(&name.path)?;
                storage.create(&name.path)?
            }
            other => other?,
        };
        Ok(Self { file, name, len: 0, since: Instant::now(), taken: 0 })
    }

    /// Writes and syncs. After an error the segment must be given up: the kernel may have dropped the
    /// pages, and says so only once.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.append(bytes)?;
        self.file.sync()?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Takes back what a failed batch left behind. When that fails as well, readers leave it out:
    /// the next segment's name says where this one ends.
    pub(super) fn give_up<S: Storage<File = F>>(mut self, storage: &S) {
        let _ =
            if self.len == 0 { storage.remove(&self.name.path) } else { self.file.cut(self.len) };
    }
}
