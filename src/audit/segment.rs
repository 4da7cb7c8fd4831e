//! Segments: their names, plain and compressed, and the lines in them.
//!
//! A segment is named after the sequence number of its first line. One that is no longer written is
//! compressed: gzip members of whole lines (RFC 1952), which any gzip tool puts together again. While
//! that is done both forms may be there; they hold the same, and the plain one is taken.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use memchr::memchr;

use super::ahead::Ahead;

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
        Self { first, path: directory.join(format!("flow-{first:020}{PLAIN}")) }
    }

    /// Whether the file is the compressed form.
    pub(super) fn is_compressed(&self) -> bool {
        is_compressed(&self.path)
    }

    /// What the manifest calls it: the name of the plain form.
    pub(super) fn manifest_name(&self) -> String {
        format!("flow-{:020}{PLAIN}", self.first)
    }

    fn parse(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let name = name.strip_suffix(COMPRESSED).unwrap_or(name);
        let digits = name.strip_prefix("flow-")?.strip_suffix(PLAIN)?;
        let all_digits = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
        let first = digits.parse().ok().filter(|_| all_digits)?;
        Some(Self { first, path })
    }
}

/// The segments of a directory, oldest first.
pub(super) fn segments(directory: &Path) -> io::Result<Vec<SegmentName>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory)? {
        let Some(segment) = SegmentName::parse(entry?.path()) else { continue };
        match found.entry(segment.first) {
            Entry::Vacant(place) => {
                place.insert(segment);
            }
            Entry::Occupied(mut place) if !segment.is_compressed() => {
                place.insert(segment);
            }
            Entry::Occupied(_) => {}
        }
    }
    Ok(found.into_values().collect())
}

/// The other form's name.
pub(super) fn other_form(path: &Path) -> PathBuf {
    if is_compressed(path) {
        return path.with_extension("");
    }
    let mut name = path.as_os_str().to_owned();
    name.push(COMPRESSED);
    PathBuf::from(name)
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gz")
}

/// Whether this error says that a file's content is damaged, and not that it could not be read.
pub(super) fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
}

/// What opening or reading found; `None` where the file is gone, as when retention removed a segment
/// since it was listed.
pub(super) fn if_there<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

/// The lines of one segment in either form, in bounded memory.
#[derive(Debug)]
pub(super) struct Scan {
    reader: BufReader<Source>,
    offset: u64,
}

/// The content of one segment in either form.
#[derive(Debug)]
pub(super) enum Source {
    Plain(File),
    Compressed(Box<MultiGzDecoder<BufReader<File>>>),
    /// Compressed, and decompressed by another thread.
    Ahead(Ahead),
}

impl Source {
    /// Opens a segment. One that was compressed since it was listed is found under its other name.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let opened = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let other = other_form(path);
                File::open(&other).map(|file| (file, is_compressed(&other)))
            }
            other => other.map(|file| (file, is_compressed(path))),
        };
        let (file, compressed) = opened?;
        if !compressed {
            return Ok(Self::Plain(file));
        }
        let decoder = MultiGzDecoder::new(BufReader::with_capacity(READ_AHEAD, file));
        Ok(Self::Compressed(Box::new(decoder)))
    }
}

impl Read for Source {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(into),
            Self::Compressed(decoder) => decoder.read(into),
            Self::Ahead(ahead) => ahead.read(into),
        }
    }
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
    /// Reads a segment from an offset of its plain form on. A segment that was compressed since it
    /// was listed is found under its other name.
    pub(super) fn open(path: &Path, offset: u64) -> io::Result<Self> {
        match Source::open(path)? {
            Source::Plain(mut file) => {
                file.seek(SeekFrom::Start(offset))?;
                Ok(Self::of(Source::Plain(file), offset))
            }
            source => {
                let mut scan = Self::of(source, 0);
                scan.skip_to(offset)?;
                Ok(scan)
            }
        }
    }

    /// Reads a whole segment; one that is compressed is decompressed ahead by another thread.
    pub(super) fn ahead(path: &Path) -> io::Result<Self> {
        let source = match Source::open(path)? {
            Source::Compressed(decoder) => Source::Ahead(Ahead::of(decoder)?),
            source => source,
        };
        Ok(Self::of(source, 0))
    }

    fn of(source: Source, offset: u64) -> Self {
        Self { reader: BufReader::with_capacity(READ_AHEAD, source), offset }
    }

    /// Where the next line begins.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Goes forward to an offset.
    pub(super) fn skip_to(&mut self, offset: u64) -> io::Result<()> {
        let ahead = offset.saturating_sub(self.offset);
        self.offset += io::copy(&mut (&mut self.reader).take(ahead), &mut io::sink())?;
        Ok(())
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
            let newline = memchr(b'\n', available);
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
/// What a segment's name ends with.
const PLAIN: &str = ".ndjson";
/// What its compressed form's name has behind that.
const COMPRESSED: &str = ".gz";
const READ_AHEAD: usize = 256 << 10;
