//! Finds the lines of one segment that fit.
//!
//! Reads blocks of whole lines and searches them for bytes that an answer must have; only the lines
//! around what was found are parsed.

use std::io::{self, Read};
use std::ops::ControlFlow;

use memchr::memmem::Finder;
use memchr::{memchr, memrchr};

use super::Query;
use super::plan::Piece;
use crate::audit::read::ReadError;
use crate::audit::segment::{MAX_LINE, Source, if_there};
use crate::audit::view::View;

/// A query, made ready to search.
#[derive(Debug)]
pub(super) struct Search<'q> {
    query: &'q Query,
    /// What is searched for in whole blocks.
    driver: Option<Finder<'static>>,
    /// What each line must have beside that: one of each list.
    needles: Vec<Vec<Finder<'static>>>,
}

impl<'q> Search<'q> {
    pub(super) fn new(query: &'q Query) -> Self {
        let finders = query.needles().into_iter().map(|list| {
            let list = list.iter().map(|needle| Finder::new(&needle.bytes).into_owned());
            list.collect::<Vec<_>>()
        });
        let mut needles: Vec<Vec<_>> = finders.collect();
        let single = needles.first().is_some_and(|list| list.len() == 1);
        let driver = single.then(|| needles.remove(0)).and_then(|mut list| list.pop());
        Self { query, driver, needles }
    }

    /// Gives every record of a segment that fits to `found`, with its line. Returns how many lines
    /// cannot be read, of those that were looked at. In a segment that retention has removed since it
    /// was listed there is nothing.
    pub(super) fn piece(
        &self,
        piece: &Piece,
        mut found: impl FnMut(&[u8], &View<'_>) -> ControlFlow<()>,
    ) -> Result<u64, ReadError> {
        let failed = |source| ReadError { path: Some(piece.path.clone()), source };
        let Some(mut blocks) = if_there(Blocks::open(piece)).map_err(failed)? else {
            return Ok(0);
        };
        let mut unread = 0;
        let mut line = |line: &[u8]| {
            if !self.may_fit(line) {
                return ControlFlow::Continue(());
            }
            match View::parse(line) {
                Err(_) => unread += 1,
                Ok(view) if view.metadata.sequence >= piece.end => {}
                Ok(view) if self.query.matches(&view) => return found(line, &view),
                Ok(_) => {}
            }
            ControlFlow::Continue(())
        };
        while let Some(block) = blocks.next().map_err(failed)? {
            if self.block(block, &mut line).is_break() {
                break;
            }
        }
        Ok(unread + blocks.skipped)
    }

    /// Gives every line that has what is searched for to `line`.
    fn block(
        &self,
        block: &[u8],
        mut line: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let mut rest = block;
        while !rest.is_empty() {
            let hit = match &self.driver {
                None => 0,
                Some(driver) => match driver.find(rest) {
                    None => break,
                    Some(hit) => hit,
                },
            };
            let (before, behind) = rest.split_at(hit);
            let start = memrchr(b'\n', before).map_or(0, |newline| newline + 1);
            let end = hit + memchr(b'\n', behind).unwrap_or(behind.len());
            line(rest.get(start..end).unwrap_or_default())?;
            rest = rest.get(end + 1..).unwrap_or_default();
        }
        ControlFlow::Continue(())
    }

    fn may_fit(&self, line: &[u8]) -> bool {
        let has = |list: &Vec<Finder<'_>>| list.iter().any(|needle| needle.find(line).is_some());
        self.needles.iter().all(has)
    }
}

/// A segment as blocks of whole lines.
struct Blocks {
    source: io::Take<Source>,
    buffer: Vec<u8>,
    filled: usize,
    /// What was handed out.
    used: usize,
    /// The beginning of a line was given up: it is longer than any record.
    in_long_line: bool,
    skipped: u64,
}

impl Blocks {
    fn open(piece: &Piece) -> io::Result<Self> {
        Ok(Self {
            source: Source::open(&piece.path)?.take(piece.bytes),
            buffer: vec![0; BLOCK],
            filled: 0,
            used: 0,
            in_long_line: false,
            skipped: 0,
        })
    }

    /// The next lines, each with its newline; `None` behind the last whole one.
    fn next(&mut self) -> io::Result<Option<&[u8]>> {
        loop {
            self.buffer.copy_within(self.used..self.filled, 0);
            self.filled -= self.used;
            self.used = 0;
            self.make_room();
            let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
            let read = match self.source.read(room) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if read == 0 {
                return Ok(None);
            }
            self.filled += read;
            let filled = self.buffer.get(..self.filled).unwrap_or_default();
            let mut start = 0;
            if self.in_long_line {
                let Some(newline) = memchr(b'\n', filled) else {
                    self.used = self.filled;
                    continue;
                };
                start = newline + 1;
                self.in_long_line = false;
            }
            self.used = memrchr(b'\n', filled).map_or(0, |newline| newline + 1);
            if start < self.used {
                return Ok(self.buffer.get(start..self.used));
            }
        }
    }

    fn make_room(&mut self) {
        if self.filled < self.buffer.len() {
            return;
        }
        if self.filled <= MAX_LINE {
            self.buffer.resize(self.buffer.len() * 2, 0);
        } else {
            self.in_long_line = true;
            self.skipped += 1;
            self.filled = 0;
        }
    }
}

/// Fits into a core's own cache, where it is searched.
const BLOCK: usize = 256 << 10;
