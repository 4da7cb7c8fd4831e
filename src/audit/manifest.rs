//! `manifest.ndjson`: one signed line for each segment that is no longer written, for ever.
//!
//! A line says what the segment holds and its hash, and holds the SHA-256 of the manifest's line
//! before it (of no bytes before the first), so that no line can be removed unseen. It stays when the
//! segment is removed: what follows is then tied to its `last_hash`.

use std::collections::{BTreeMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::chain::{Hash, Hex, hash};
use super::read::ReadError;
use super::segment::{Scan, SegmentName, if_there};
use super::sign::{Context, SigningKey};
use super::storage::{self, SegmentFile as _};

/// What a segment that is no longer written holds: a line of the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sealed {
    pub(super) v: u8,
    /// The name of its plain form.
    pub(super) segment: String,
    /// Sequence numbers of its first and its last line.
    pub(super) first: u64,
    pub(super) last: u64,
    /// The least and the greatest `logged_time` of its lines, Unix time in ms.
    pub(super) first_time: u64,
    pub(super) last_time: u64,
    pub(super) records: u64,
    /// Of its plain form.
    pub(super) bytes: u64,
    /// Of its plain form, hex.
    pub(super) sha256: String,
    /// SHA-256 of its last line, hex.
    pub(super) last_hash: String,
    /// SHA-256 of the manifest's line before.
    #[serde(default)]
    pub(super) prev: String,
}

/// The manifest of a log that is being written.
#[derive(Debug)]
pub(super) struct Manifest {
    path: PathBuf,
    /// Bytes that are durable.
    len: u64,
    /// The last line's hash.
    prev: Hash,
    /// The segments that are in it and still there, by first sequence number.
    sealed: BTreeMap<u64, Sealed>,
}

impl Manifest {
    /// Reads what there is, and moves aside what a crash left of a line.
    pub(super) fn open(directory: &Path, present: &[SegmentName]) -> io::Result<Self> {
        let path = directory.join(MANIFEST);
        let mut manifest =
            Self { len: 0, prev: hash(b""), sealed: BTreeMap::new(), path: path.clone() };
        let firsts: HashSet<u64> = present.iter().map(|segment| segment.first).collect();
        let found = each_line(&path, |line, end, sealed| {
            manifest.len = end;
            manifest.prev = hash(line);
            if firsts.contains(&sealed.first) {
                manifest.sealed.insert(sealed.first, sealed);
            }
        })?;
        if found > manifest.len {
            let aside = storage::set_aside(&path, manifest.len)?;
            tracing::warn!(file = %aside.display(), "A torn line of the audit log's manifest was \
                moved aside.");
        }
        manifest.file()?;
        Ok(manifest)
    }

    /// The line of a segment.
    pub(super) fn of(&self, segment: &SegmentName) -> Option<&Sealed> {
        self.sealed.get(&segment.first)
    }

    /// The segment is gone; its line stays in the file.
    pub(super) fn forget(&mut self, first: u64) {
        self.sealed.remove(&first);
    }

    /// Signs the line of a segment and makes it durable.
    pub(super) fn append(&mut self, mut sealed: Sealed, key: &SigningKey) -> io::Result<()> {
        sealed.prev = Hex(&self.prev).to_string();
        let mut line = serde_json::to_vec(&sealed)?;
        line.pop();
        key.seal(Context::Manifest, &mut line, 0);
        let prev = hash(&line);
        line.push(b'\n');
        let mut file = self.file()?;
        if let Err(error) = file.write_all(&line).and_then(|()| file.sync_all()) {
            // Only what was written of it: the room that was taken ahead stays.
            if file.metadata()?.len() > self.len {
                file.cut(self.len)?;
            }
            return Err(error);
        }
        self.len += line.len() as u64;
        self.prev = prev;
        self.sealed.insert(sealed.first, sealed);
        Ok(())
    }

    /// Opens the file to append to it, and takes room ahead: also on a full disk, what is to be
    /// removed gets its line first.
    fn file(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(storage::FILE_MODE);
        let mut file = options.open(&self.path)?;
        if self.len == 0 {
            storage::sync_parent(&self.path)?;
        }
        let _ = file.reserve(self.len, AHEAD);
        Ok(file)
    }
}

/// The lines of those segments, by first sequence number. Signatures are not looked at.
pub(super) fn read(
    directory: &Path,
    present: &[SegmentName],
) -> Result<BTreeMap<u64, Sealed>, ReadError> {
    let firsts: HashSet<u64> = present.iter().map(|segment| segment.first).collect();
    let mut found = BTreeMap::new();
    let path = directory.join(MANIFEST);
    let read = each_line(&path, |_, _, sealed| {
        if firsts.contains(&sealed.first) {
            found.insert(sealed.first, sealed);
        }
    });
    read.map_err(|source| ReadError { path: Some(path), source })?;
    Ok(found)
}

/// Calls `seen` with each line, where it ends, and what it says; returns the file's length. What is
/// no line of a manifest is left out.
fn each_line(path: &Path, mut seen: impl FnMut(&[u8], u64, Sealed)) -> io::Result<u64> {
    let Some(mut scan) = if_there(Scan::open(path, 0))? else { return Ok(0) };
    let mut line = Vec::new();
    while let Some(raw) = scan.next(&mut line)? {
        if let Some(sealed) = serde_json::from_slice(&line).ok().filter(|_| raw.whole) {
            seen(&line, scan.offset(), sealed);
        }
    }
    Ok(scan.offset())
}

/// In the log's directory.
pub(super) const MANIFEST: &str = "manifest.ndjson";
const AHEAD: u64 = 64 << 10;
