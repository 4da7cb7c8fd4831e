//! Reads the lines of a log back, in order and in bounded memory.
//!
//! Never changes a file, and needs no lock: a live log can be read, also while its segments are
//! compressed or removed. A segment holds the lines from
//! the sequence number in its name up to the one before the next segment's. What stands behind
//! these is what is left of a batch that could not be made durable and was written again to the
//! next segment; it was never acknowledged and is not part of the log.

use std::io;
use std::path::{Path, PathBuf};

use super::manifest;
use super::segment::{Raw, Scan, SegmentName, if_there, segments};

/// All lines of a directory; see [`lines`].
#[derive(Debug)]
pub struct Lines {
    segments: Vec<SegmentName>,
    next: usize,
    open: Option<Open>,
    buffer: Vec<u8>,
    torn_bytes: u64,
}

/// One line.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// The segment it is in.
    pub segment: &'a Path,
    /// Its number in the segment, from 1.
    pub number: u64,
    /// Where it begins in the segment.
    pub offset: u64,
    /// Its exact bytes, without the newline; of a line of more than 1 MiB only the beginning.
    pub bytes: &'a [u8],
}

/// What could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the audit log cannot be read: {source}")]
pub struct ReadError {
    /// The segment, where it was one.
    pub path: Option<PathBuf>,
    /// Why.
    pub source: io::Error,
}

/// Reads all segments of a directory, oldest first.
///
/// # Errors
/// The directory cannot be listed.
pub fn lines(directory: &Path) -> Result<Lines, ReadError> {
    let segments = segments(directory).map_err(|source| ReadError { path: None, source })?;
    Ok(Lines { segments, next: 0, open: None, buffer: Vec::new(), torn_bytes: 0 })
}

/// Like [`lines`], but leaves out segments that end before this sequence number. The first lines may
/// still be older.
///
/// # Errors
/// The directory cannot be listed.
pub fn lines_from(directory: &Path, seq: u64) -> Result<Lines, ReadError> {
    let mut lines = lines(directory)?;
    lines.next = lines.segments.partition_point(|segment| segment.first <= seq).saturating_sub(1);
    Ok(lines)
}

/// Like [`lines`], but leaves out the first segments as long as the manifest says that all that is
/// in them was written before this time (Unix time in ms). The first lines may still be older.
///
/// # Errors
/// The directory or the manifest cannot be read.
pub fn lines_since(directory: &Path, since_ms: u64) -> Result<Lines, ReadError> {
    let mut lines = lines(directory)?;
    let sealed = manifest::read(directory, &lines.segments)?;
    let older = |segment: &&SegmentName| {
        sealed.get(&segment.first).is_some_and(|sealed| sealed.last_time < since_ms)
    };
    lines.next = lines.segments.iter().take_while(older).count();
    Ok(lines)
}

impl Lines {
    /// The next line, or `None` behind the last whole one.
    ///
    /// # Errors
    /// A segment cannot be read.
    pub fn next_line(&mut self) -> Result<Option<Line<'_>>, ReadError> {
        let Some(raw) = self.advance()? else { return Ok(None) };
        Ok(self.open.as_ref().map(|open| Line {
            segment: &open.path,
            number: open.number,
            offset: raw.offset,
            bytes: &self.buffer,
        }))
    }

    /// How many segments there are.
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// Bytes behind the last whole line, once it has been read.
    pub fn torn_bytes(&self) -> u64 {
        self.torn_bytes
    }

    fn advance(&mut self) -> Result<Option<Raw>, ReadError> {
        loop {
            let Some(open) = self.open.as_mut() else {
                if self.open_next()? {
                    continue;
                }
                return Ok(None);
            };
            match open.step(&mut self.buffer) {
                Err(source) => return Err(ReadError { path: Some(open.path.clone()), source }),
                Ok(Some(raw)) if raw.ended => return Ok(Some(raw)),
                Ok(torn) => {
                    self.torn_bytes = torn.map_or(0, |raw| raw.bytes);
                    self.open = None;
                }
            }
        }
    }

    fn open_next(&mut self) -> Result<bool, ReadError> {
        let Some(segment) = self.segments.get(self.next) else { return Ok(false) };
        let behind = self.segments.get(self.next + 1);
        let limit = behind.map(|behind| behind.first.saturating_sub(segment.first));
        let path = segment.path.clone();
        self.next += 1;
        let scan = if_there(Scan::ahead(&path));
        let scan = scan.map_err(|source| ReadError { path: Some(path.clone()), source })?;
        if let Some(scan) = scan {
            self.torn_bytes = 0;
            self.open = Some(Open { path, scan, number: 0, limit });
        }
        Ok(true)
    }
}

#[derive(Debug)]
struct Open {
    path: PathBuf,
    scan: Scan,
    number: u64,
    limit: Option<u64>,
}

impl Open {
    fn step(&mut self, buffer: &mut Vec<u8>) -> io::Result<Option<Raw>> {
        if self.limit.is_some_and(|limit| self.number >= limit) {
            return Ok(None);
        }
        let raw = self.scan.next(buffer)?;
        self.number += 1;
        Ok(raw)
    }
}
