//! Follows a log that is being written, across its segments.

use std::path::{Path, PathBuf};

use super::Query;
use super::plan::Plan;
use crate::audit::read::ReadError;
use crate::audit::segment::{Scan, SegmentName, if_there, segments};
use crate::audit::view::View;

/// Where reading goes on.
#[derive(Debug)]
pub struct Tail {
    directory: PathBuf,
    at: Option<(SegmentName, u64)>,
    line: Vec<u8>,
}

impl Tail {
    /// Cuts a plan where the log ends now, and goes on from there.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn behind(directory: &Path, plan: &mut Plan) -> Result<Self, ReadError> {
        let mut tail = Self { directory: directory.to_owned(), at: None, line: Vec::new() };
        let listed = tail.listed()?;
        if let Some(newest) = listed.last() {
            tail.at = Some((newest.clone(), 0));
            tail.drain(None, &mut |_, _| {})?;
            let end = tail.at.as_ref().map_or(0, |(_, offset)| *offset);
            plan.pieces.retain(|piece| listed.iter().any(|segment| segment.path == piece.path));
            for piece in plan.pieces.iter_mut().filter(|piece| piece.path == newest.path) {
                piece.bytes = end;
            }
        }
        Ok(tail)
    }

    /// Gives what was written since to `found`, as far as it fits.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn poll(
        &mut self,
        query: &Query,
        mut found: impl FnMut(&[u8], &View<'_>),
    ) -> Result<(), ReadError> {
        let mut fitting = |line: &[u8], view: &View<'_>| {
            if query.matches(view) {
                found(line, view);
            }
        };
        // Listed first: what is written to the segment after that is not lost when there is a next.
        let listed = self.listed()?;
        loop {
            let current = self.at.as_ref().map(|(segment, _)| segment.first);
            let next = listed.iter().find(|segment| current.is_none_or(|now| segment.first > now));
            self.drain(next.map(|next| next.first), &mut fitting)?;
            let Some(next) = next else { return Ok(()) };
            self.at = Some((next.clone(), 0));
        }
    }

    fn listed(&self) -> Result<Vec<SegmentName>, ReadError> {
        segments(&self.directory).map_err(|source| ReadError { path: None, source })
    }

    /// Reads the segment's whole lines, but for what belongs to the next one.
    fn drain(
        &mut self,
        end: Option<u64>,
        found: &mut dyn FnMut(&[u8], &View<'_>),
    ) -> Result<(), ReadError> {
        let Some((segment, offset)) = &mut self.at else { return Ok(()) };
        let failed = |source| ReadError { path: Some(segment.path.clone()), source };
        let scan = if_there(Scan::open(&segment.path, *offset)).map_err(failed)?;
        let Some(mut scan) = scan else { return Ok(()) };
        while let Some(raw) = scan.next(&mut self.line).map_err(failed)?.filter(|raw| raw.ended) {
            *offset += raw.bytes;
            let Ok(view) = View::parse(&self.line) else { continue };
            if end.is_none_or(|end| view.metadata.sequence < end) {
                found(&self.line, &view);
            }
        }
        Ok(())
    }
}
