//! Which segments can hold what is asked for.

use std::path::{Path, PathBuf};

use super::Query;
use crate::audit::chain::Stored;
use crate::audit::manifest;
use crate::audit::read::ReadError;
use crate::audit::segment::{Scan, SegmentName, if_there, segments};

/// The segments to look into, oldest first.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(super) pieces: Vec<Piece>,
}

/// One segment.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) path: PathBuf,
    /// The first sequence number that belongs to the next segment: what stands behind is not part of
    /// the log.
    pub(super) end: u64,
    /// Only so many bytes.
    pub(super) bytes: u64,
}

impl Plan {
    /// Leaves out what cannot fit.
    ///
    /// Segments are told apart by the times at which their lines were written. A record's own time is
    /// earlier by what a write takes; more than [`SLACK_MS`] needs a clock that was set back.
    ///
    /// # Errors
    /// The directory or a segment cannot be read.
    pub fn new(directory: &Path, query: &Query) -> Result<Self, ReadError> {
        let unreadable = |source| ReadError { path: None, source };
        let segments = segments(directory).map_err(unreadable)?;
        let times = match (query.since, query.until) {
            (None, None) => vec![None; segments.len()],
            _ => times(directory, &segments)?,
        };
        let (first, last) = query.sequence();
        let mut pieces = Vec::new();
        for (index, (segment, times)) in segments.iter().zip(times).enumerate() {
            let end = segments.get(index + 1).map_or(u64::MAX, |next| next.first);
            let (from, to) = times.unwrap_or((0, u64::MAX));
            let early = query.since.is_some_and(|since| to.saturating_add(SLACK_MS) < since);
            let late = query.until.is_some_and(|until| until.saturating_add(SLACK_MS) < from);
            if !early && !late && first < end && segment.first <= last {
                pieces.push(Piece { path: segment.path.clone(), end, bytes: u64::MAX });
            }
        }
        Ok(Self { pieces })
    }
}

/// The least and greatest time at which lines of each segment were written, as far as it is known:
/// from the manifest, or else from the first lines.
fn times(directory: &Path, segments: &[SegmentName]) -> Result<Vec<Option<(u64, u64)>>, ReadError> {
    let sealed = manifest::read(directory, segments)?;
    let mut firsts = Vec::with_capacity(segments.len());
    for segment in segments {
        let known = sealed.get(&segment.first).map(|sealed| sealed.first_time);
        firsts.push(match known {
            Some(time) => Some(time),
            None => first_time(segment)?,
        });
    }
    let of = |(index, segment): (usize, &SegmentName)| {
        if let Some(sealed) = sealed.get(&segment.first) {
            return Some((sealed.first_time, sealed.last_time));
        }
        let from = firsts.get(index).copied().flatten()?;
        let to = firsts.get(index + 1).copied().flatten().unwrap_or(u64::MAX);
        // A next one that begins earlier was begun after the clock was set back.
        Some((from, if to < from { u64::MAX } else { to }))
    };
    Ok(segments.iter().enumerate().map(of).collect())
}

fn first_time(segment: &SegmentName) -> Result<Option<u64>, ReadError> {
    let failed = |source| ReadError { path: Some(segment.path.clone()), source };
    let mut line = Vec::new();
    let first = Scan::open(&segment.path, 0).and_then(|mut scan| scan.next(&mut line));
    if_there(first).map_err(failed)?;
    Ok(Stored::parse(&line).map(|stored| stored.metadata.logged_time))
}

const SLACK_MS: u64 = 300_000;
