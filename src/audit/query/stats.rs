//! How large a log is, and where it ends.

use std::path::Path;

use serde::Serialize;

use crate::audit::chain::{Hex, Stored, hash};
use crate::audit::clock;
use crate::audit::read::ReadError;
use crate::audit::segment::{Scan, SegmentName, if_there, segments};
use crate::audit::view::View;

/// How large a log is, how fast it grows, and where it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// How many segments there are.
    pub segments: usize,
    /// Bytes of all segments, as they are on the disk.
    pub bytes: u64,
    /// Records in them.
    pub records: u64,
    /// Records that were written in the last hour.
    pub last_hour: u64,
    /// The oldest record.
    pub oldest: Option<Place>,
    /// The newest record.
    pub newest: Option<Place>,
    /// The newest signed checkpoint that stands beside the segments.
    pub checkpoint: Option<Place>,
}

/// A record's place in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Its sequence number.
    pub seq: u64,
    /// When it was written, Unix time in ms.
    pub time: u64,
    /// SHA-256 of its line, hex.
    pub hash: String,
}

impl Stats {
    /// Measures the log of a directory.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of(directory: &Path) -> Result<Self, ReadError> {
        let failed = |source| ReadError { path: None, source };
        let segments = segments(directory).map_err(failed)?;
        let sizes = segments.iter().filter_map(|segment| segment.path.metadata().ok());
        let bytes = sizes.map(|file| file.len()).sum();
        let oldest = found(segments.iter().map(first))?;
        let newest = found(segments.iter().rev().map(last))?;
        let last_hour = match &newest {
            Some(newest) => last_hour(&segments, newest)?,
            None => 0,
        };
        let checkpoint = std::fs::read(directory.join("checkpoint")).unwrap_or_default();
        let held = |(oldest, newest): (&Place, &Place)| newest.seq.saturating_sub(oldest.seq) + 1;
        Ok(Self {
            segments: segments.len(),
            bytes,
            records: oldest.as_ref().zip(newest.as_ref()).map_or(0, held),
            last_hour,
            oldest,
            newest,
            checkpoint: Place::of(checkpoint.trim_ascii_end()),
        })
    }
}

impl Place {
    fn of(line: &[u8]) -> Option<Self> {
        let view = View::parse(line).ok()?;
        let hash = Hex(&hash(line)).to_string();
        Some(Self { seq: view.metadata.sequence, time: view.metadata.logged_time, hash })
    }
}

/// The first that is there; what is behind is not looked at.
fn found(
    mut places: impl Iterator<Item = Result<Option<Place>, ReadError>>,
) -> Result<Option<Place>, ReadError> {
    places.find_map(Result::transpose).transpose()
}

fn first(segment: &SegmentName) -> Result<Option<Place>, ReadError> {
    let failed = |source| ReadError { path: Some(segment.path.clone()), source };
    let mut line = Vec::new();
    let found = Scan::open(&segment.path, 0).and_then(|mut scan| scan.next(&mut line));
    let whole = if_there(found).map_err(failed)?.flatten().is_some_and(|raw| raw.ended);
    Ok(whole.then(|| Place::of(&line)).flatten())
}

fn last(segment: &SegmentName) -> Result<Option<Place>, ReadError> {
    let failed = |source| ReadError { path: Some(segment.path.clone()), source };
    let scan = if_there(Scan::open(&segment.path, 0)).map_err(failed)?;
    let Some(mut scan) = scan else { return Ok(None) };
    let (mut line, mut last) = (Vec::new(), Vec::new());
    while scan.next(&mut line).map_err(failed)?.is_some_and(|raw| raw.ended) {
        std::mem::swap(&mut line, &mut last);
    }
    Ok(Place::of(&last))
}

/// Counts by sequence numbers: only the segment in which the hour begins is read.
fn last_hour(segments: &[SegmentName], newest: &Place) -> Result<u64, ReadError> {
    let since = clock::unix_ms().saturating_sub(HOUR_MS);
    let mut begins = newest.seq.saturating_add(1);
    for segment in segments.iter().rev() {
        let failed = |source| ReadError { path: Some(segment.path.clone()), source };
        let scan = if_there(Scan::open(&segment.path, 0)).map_err(failed)?;
        // What is older is gone as well.
        let Some(mut scan) = scan else { break };
        let mut line = Vec::new();
        let mut is_first = true;
        while scan.next(&mut line).map_err(failed)?.is_some_and(|raw| raw.ended) {
            let Some(stored) = Stored::parse(&line) else { continue };
            if stored.metadata.logged_time >= since {
                begins = begins.min(stored.chain().seq);
                break;
            }
            is_first = false;
        }
        if !is_first {
            break;
        }
    }
    Ok(newest.seq.saturating_add(1).saturating_sub(begins))
}

const HOUR_MS: u64 = 3_600_000;
