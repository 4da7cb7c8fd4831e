//! Reads the lines of a log back, in order and in bounded memory.
//!
//! Never changes a file, and needs no lock: a live log can be read. A segment holds the lines from
//! the sequence number in its name up to the one before the next segment's. What stands behind
//! these is what is left of a batch that could not be made durable and was written again to the
//! next segment; it was never acknowledged and is not part of the log.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

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
        let scan = Scan::open(&path, 0)
            .map_err(|source| ReadError { path: Some(path.clone()), source })?;
        self.torn_bytes = 0;
        self.open = Some(Open { path, scan, number: 0, limit });
        self.next += 1;
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

/// A segment's place in the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentName {
    /// The sequence number of its first line.
    pub(super) first: u64,
    /// The file.
    pub(super) path: PathBuf,
}

impl SegmentName {
    /// The name of the segment that begins with this sequence number.
    pub(super) fn new(directory: &Path, first: u64) -> Self {
        Self { first, path: directory.join(format!("flow-{first:020}.ndjson")) }
    }

    fn parse(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let digits = name.strip_prefix("flow-")?.strip_suffix(".ndjson")?;
        let all_digits = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
        let first = digits.parse().ok().filter(|_| all_digits)?;
        Some(Self { first, path })
    }
}

/// The segments of a directory, oldest first.
pub(super) fn segments(directory: &Path) -> io::Result<Vec<SegmentName>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        found.extend(SegmentName::parse(entry?.path()));
    }
    found.sort_by_key(|segment| segment.first);
    Ok(found)
}

/// The lines of one file, in bounded memory.
#[derive(Debug)]
pub(super) struct Scan {
    reader: BufReader<File>,
    offset: u64,
}

/// Where a line was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw {
    /// Where it begins.
    pub(super) offset: u64,
    /// Its bytes, with the newline.
    pub(super) bytes: u64,
    /// It ends with a newline.
    pub(super) ended: bool,
    /// It ends with a newline, and is no longer than any line of this log.
    pub(super) whole: bool,
}

impl Scan {
    /// Reads a file from an offset on.
    pub(super) fn open(path: &Path, offset: u64) -> io::Result<Self> {
        let mut file = File::open(path)?;
        io::Seek::seek(&mut file, io::SeekFrom::Start(offset))?;
        Ok(Self { reader: BufReader::with_capacity(READ_AHEAD, file), offset })
    }

    /// Reads the next line into `line`, without its newline. Of a longer one than [`MAX_LINE`]
    /// only the beginning is kept.
    pub(super) fn next(&mut self, line: &mut Vec<u8>) -> io::Result<Option<Raw>> {
        line.clear();
        let mut raw = Raw { offset: self.offset, bytes: 0, ended: false, whole: false };
        let mut fits = true;
        loop {
            let available = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            let newline = available.iter().position(|b| *b == b'\n');
            let text = available.get(..newline.unwrap_or(available.len())).unwrap_or_default();
            fits &= line.len() + text.len() <= MAX_LINE;
            if fits {
                line.extend_from_slice(text);
            }
            let taken = text.len() + usize::from(newline.is_some());
            let at_end = available.is_empty();
            self.reader.consume(taken);
            raw.bytes += taken as u64;
            self.offset += taken as u64;
            if newline.is_some() || at_end {
                raw.ended = newline.is_some();
                raw.whole = raw.ended && fits;
                return Ok((raw.bytes > 0).then_some(raw));
            }
        }
    }
}

/// Longer than any record: a hello has at most 64 KiB, and no field is longer than its bytes
/// escaped.
pub(super) const MAX_LINE: usize = 1 << 20;
const READ_AHEAD: usize = 256 << 10;
