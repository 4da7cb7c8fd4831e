//! What is done to a segment once nobody writes it any more: it is read once, for its line in the
//! manifest, and compressed.
//!
//! A segment that does not hold what its name and its neighbours say is evidence. It gets no line
//! and stays as it is: a signature over it would vouch for what was changed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use super::chain::{Head, Hex, Stored};
use super::manifest::Sealed;
use super::segment::{self, Raw, Scan, SegmentName};
use super::storage;

/// Why a segment was not sealed.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotSealed {
    /// A line is not what the log wrote there.
    #[error("line {0} is not what the log wrote there")]
    Damaged(u64),
    /// The log is being closed.
    #[error("the log is being closed")]
    Stopped,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The lines that a segment holds: those up to the first one of the next segment. What stands behind
/// them was never acknowledged; see `read`.
struct Lines<'a> {
    scan: Scan,
    left: u64,
    number: u64,
    going_on: &'a dyn Fn() -> bool,
    line: Vec<u8>,
}

impl<'a> Lines<'a> {
    fn open(path: &Path, records: u64, going_on: &'a dyn Fn() -> bool) -> Result<Self, NotSealed> {
        let scan = Scan::open(path, 0)?;
        Ok(Self { scan, left: records, number: 0, going_on, line: Vec::new() })
    }

    /// The next line with its newline, or `None` behind the last one.
    fn next(&mut self) -> Result<Option<&[u8]>, NotSealed> {
        if self.left == 0 {
            return Ok(None);
        }
        if self.number.is_multiple_of(STOP_EVERY) && !(self.going_on)() {
            return Err(NotSealed::Stopped);
        }
        self.left -= 1;
        self.number += 1;
        match self.scan.next(&mut self.line) {
            Ok(Some(Raw { whole: true, .. })) => {}
            Ok(_) => return Err(NotSealed::Damaged(self.number)),
            Err(error) if segment::is_damage(&error) => {
                return Err(NotSealed::Damaged(self.number));
            }
            Err(error) => return Err(error.into()),
        }
        self.line.push(b'\n');
        Ok(Some(&self.line))
    }
}

/// Reads a segment and the first line of the next one.
pub(super) fn survey(
    segment: &SegmentName,
    next: &SegmentName,
    going_on: &dyn Fn() -> bool,
) -> Result<Sealed, NotSealed> {
    let records = next.first.saturating_sub(segment.first);
    let mut lines = Lines::open(&segment.path, records, going_on)?;
    let mut digest = Sha256::new();
    let mut head: Option<Head> = None;
    let (mut least, mut greatest, mut bytes) = (u64::MAX, 0, 0);
    let mut number = 0;
    while let Some(line) = lines.next()? {
        number += 1;
        digest.update(line);
        bytes += line.len() as u64;
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let stored = Stored::parse(line).ok_or(NotSealed::Damaged(number))?;
        let follows = match &head {
            None => stored.chain().seq == segment.first,
            Some(head) => stored.follows(head),
        };
        if !follows {
            return Err(NotSealed::Damaged(number));
        }
        least = least.min(stored.metadata.logged_time);
        greatest = greatest.max(stored.metadata.logged_time);
        head = Some(Head::of(stored.chain().seq, line));
    }
    let head = head.ok_or(NotSealed::Damaged(0))?;
    if !goes_on(next, &head)? {
        return Err(NotSealed::Damaged(number));
    }
    Ok(Sealed {
        v: 1,
        segment: segment.manifest_name(),
        first: segment.first,
        last: head.seq,
        first_time: least,
        last_time: greatest,
        records,
        bytes,
        sha256: Hex(&digest.finalize()).to_string(),
        last_hash: Hex(&head.hash).to_string(),
        prev: String::new(),
    })
}

/// Whether a segment begins with the line behind `head`.
fn goes_on(next: &SegmentName, head: &Head) -> io::Result<bool> {
    let mut line = Vec::new();
    Scan::open(&next.path, 0)?.next(&mut line)?;
    Ok(Stored::parse(&line).is_some_and(|stored| stored.follows(head)))
}

/// Compresses a segment and removes its plain form.
///
/// In an order that a crash cannot break: the compressed form is durable, has been read back and has
/// its name before the plain one goes.
pub(super) fn compress(
    segment: &SegmentName,
    sealed: &Sealed,
    going_on: &dyn Fn() -> bool,
) -> Result<(), NotSealed> {
    let target = segment::other_form(&segment.path);
    let next = unfinished(&target);
    let written = write_compressed(segment, sealed, &next, going_on)
        .and_then(|()| read_back(&next, sealed, going_on));
    if let Err(error) = written {
        let _ = std::fs::remove_file(&next);
        return Err(error);
    }
    std::fs::rename(&next, &target)?;
    storage::sync_parent(&target)?;
    std::fs::remove_file(&segment.path)?;
    Ok(())
}

/// Removes a segment in whatever forms it has.
pub(super) fn remove(segment: &SegmentName) -> io::Result<()> {
    let other = segment::other_form(&segment.path);
    for path in [&segment.path, &other, &unfinished(&segment.path), &unfinished(&other)] {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The name of a compressed form that is being written; no segment's name.
fn unfinished(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!("next-{name}"))
}

fn write_compressed(
    segment: &SegmentName,
    sealed: &Sealed,
    to: &Path,
    going_on: &dyn Fn() -> bool,
) -> Result<(), NotSealed> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(storage::FILE_MODE);
    let mut file = options.open(to)?;
    let mut lines = Lines::open(&segment.path, sealed.records, going_on)?;
    let mut member = Vec::with_capacity(MEMBER);
    while let Some(line) = lines.next()? {
        member.extend_from_slice(line);
        if member.len() >= MEMBER {
            write_member(&mut file, &mut member)?;
        }
    }
    if !member.is_empty() {
        write_member(&mut file, &mut member)?;
    }
    file.sync_all()?;
    Ok(())
}

/// One member each, synced: a sync of the writer's never waits for a whole compressed segment.
fn write_member(file: &mut File, member: &mut Vec<u8>) -> io::Result<()> {
    let mut encoder = GzEncoder::new(&mut *file, Compression::default());
    encoder.write_all(member)?;
    encoder.finish()?;
    member.clear();
    file.sync_data()
}

/// The plain form may only go when this one holds the same.
fn read_back(path: &Path, sealed: &Sealed, going_on: &dyn Fn() -> bool) -> Result<(), NotSealed> {
    let mut lines = Lines::open(path, sealed.records, going_on)?;
    let mut digest = Sha256::new();
    while let Some(line) = lines.next()? {
        digest.update(line);
    }
    if Hex(&digest.finalize()).to_string() == sealed.sha256 {
        return Ok(());
    }
    Err(NotSealed::Damaged(0))
}

/// Lines in a member of the compressed form have about this many bytes, uncompressed.
const MEMBER: usize = 1 << 20;
/// Lines between two looks at whether the log is being closed.
const STOP_EVERY: u64 = 1024;
