//! What a start finds: the head of the chain, a torn tail, flows that never ended.
//!
//! A tail without a good line behind it is what a crash leaves; it is moved aside and cut. A bad
//! line with good ones behind it is not what a crash leaves: it is not touched, and the log goes on
//! in a new segment.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

use super::chain::{Head, Stored};
use super::keys::KeyInForce;
use super::read::{self, Scan, SegmentName};
use super::spool::{SETTLED, Tuning};
use super::{clock, kind, storage};

/// What was found.
#[derive(Debug)]
pub(super) struct Recovered {
    /// Where the chain goes on.
    pub(super) head: Head,
    /// The chain's epoch, from its last line.
    pub(super) epoch: u32,
    /// The segment to go on in, its length and its age; a new one is begun where absent.
    pub(super) tail: Option<(PathBuf, u64, Duration)>,
    /// Flows with an Open and no end, in order.
    pub(super) open: Vec<OpenFlow>,
    /// The key that the chain goes on with; absent before its first record.
    pub(super) key: Option<KeyInForce>,
    /// What had to be put in order.
    pub(super) damage: Option<Damage>,
}

/// What was wrong with the end of the log.
#[derive(Debug, Default)]
pub(super) struct Damage {
    /// The segment.
    pub(super) file: PathBuf,
    /// Bytes of a torn tail.
    pub(super) bytes: u64,
    /// Where they are kept.
    pub(super) evidence: Option<PathBuf>,
    /// A line that a crash does not explain.
    pub(super) damaged: bool,
}

/// A flow that was open when the box stopped.
#[derive(Clone, Debug)]
pub(super) struct OpenFlow {
    pub(super) flow: Uuid,
    segment: PathBuf,
    offset: u64,
}

impl OpenFlow {
    /// Reads its Open.
    pub(super) fn line(&self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        Scan::open(&self.segment, self.offset)?.next(&mut line)?;
        Ok(line)
    }
}

/// Reads a directory, and repairs its tail.
pub(super) fn recover(directory: &Path, tuning: &Tuning) -> io::Result<Recovered> {
    let mut segments = read::segments(directory)?;
    let settled = settled(directory);
    let mut survey = Survey { settled, head: None, epoch: 1, open: HashMap::new(), key: None };
    let begin = segments.iter().rposition(|segment| segment.first <= settled + 1).unwrap_or(0);
    let mut last = None;
    for at in begin..segments.len() {
        let limit = segments.get(at + 1).map(|next| next.first);
        let Some(segment) = segments.get(at) else { break };
        last = Some((segment.clone(), survey.read(segment, limit)?));
    }
    if survey.head.is_none() && begin > 0 {
        // Only an empty segment was read; the head is in the one before.
        segments.truncate(begin);
        if let Some(segment) = segments.last() {
            survey.read(segment, last.as_ref().map(|(last, _)| last.first))?;
        }
    }
    let Survey { head, epoch, open, key, .. } = survey;
    let head = head.unwrap_or_else(Head::genesis);
    if head.seq < settled {
        tracing::error!(
            expected = settled,
            found = head.seq,
            "The audit log is shorter than it \
            was at the last clean end: records are missing."
        );
    }
    let mut damage = None;
    let tail = last.and_then(|(segment, found)| {
        let wrong =
            Damage { file: segment.path.clone(), damaged: found.damaged, ..Damage::default() };
        damage = found.damaged.then_some(wrong);
        repair(&segment, &found, &head, tuning, &mut damage)
    });
    let mut open: Vec<_> = open.into_iter().collect();
    open.sort_by_key(|(_, (seq, _))| *seq);
    let open = open.into_iter().map(|(_, (_, flow))| flow).collect();
    Ok(Recovered { head, epoch, tail, open, key, damage })
}

struct Survey {
    settled: u64,
    head: Option<Head>,
    epoch: u32,
    open: HashMap<Uuid, (u64, OpenFlow)>,
    key: Option<KeyInForce>,
}

/// What one segment is like.
#[derive(Debug, Default)]
struct Found {
    /// End of the last good line.
    good: u64,
    len: u64,
    /// When its first line was written.
    began: Option<u64>,
    /// A bad line has good ones behind it, or the chain is broken.
    damaged: bool,
}

impl Survey {
    fn read(&mut self, segment: &SegmentName, next: Option<u64>) -> io::Result<Found> {
        let mut scan = Scan::open(&segment.path, 0)?;
        let mut line = Vec::new();
        let mut found = Found::default();
        let mut number = 0;
        while let Some(raw) = scan.next(&mut line)? {
            number += 1;
            if next.is_some_and(|next| segment.first + number > next) {
                break;
            }
            found.len = raw.offset + raw.bytes;
            let Some(stored) = Stored::parse(&line).filter(|_| raw.whole) else { continue };
            let follows = self.head.as_ref().is_none_or(|head| stored.follows(head));
            if (found.good < raw.offset || !follows) && !found.damaged {
                found.damaged = true;
                let file = segment.path.display().to_string();
                tracing::error!(
                    file,
                    line = number,
                    "The audit log's chain is broken here: a \
                    record was changed, added or removed. Keep the file as evidence."
                );
            }
            self.note(&stored, segment, raw.offset);
            found.began = found.began.or(Some(stored.metadata.logged_time));
            found.good = found.len;
            self.head = Some(Head::of(stored.chain().seq, &line));
        }
        Ok(found)
    }

    fn note(&mut self, stored: &Stored<'_>, segment: &SegmentName, offset: u64) {
        let chain = stored.chain();
        let epoch = chain.id.rsplit_once('/').and_then(|(_, epoch)| epoch.parse().ok());
        self.epoch = epoch.unwrap_or(self.epoch);
        if let Some(id) =
            stored.key().filter(|id| self.key.as_ref().is_none_or(|key| key.id != *id))
        {
            self.key = Some(KeyInForce { id: id.to_owned(), since: chain.seq });
        }
        if stored.class_uid != kind::CLASS_UID {
            return;
        }
        let flow = stored.metadata.correlation_uid.and_then(|uid| uid.parse().ok());
        let Some(flow) = flow.filter(|_| chain.seq > self.settled) else { return };
        match stored.activity_id {
            OPEN => {
                let segment = segment.path.clone();
                self.open.insert(flow, (chain.seq, OpenFlow { flow, segment, offset }));
            }
            TRAFFIC => {}
            _ => {
                self.open.remove(&flow);
            }
        }
    }
}

/// Makes the last segment fit to be continued; `None` where a new one must be begun.
fn repair(
    segment: &SegmentName,
    found: &Found,
    head: &Head,
    tuning: &Tuning,
    damage: &mut Option<Damage>,
) -> Option<(PathBuf, u64, Duration)> {
    let path = &segment.path;
    if found.good < found.len && !found.damaged {
        let bytes = found.len - found.good;
        let mut torn = Damage { file: path.clone(), bytes, ..Damage::default() };
        let aside = set_aside(path, found.good);
        torn.evidence = aside.as_ref().ok().cloned();
        *damage = Some(torn);
        if let Err(error) = aside {
            let file = path.display().to_string();
            tracing::error!(file, %error, "A torn tail of the audit log could not be moved \
                aside; going on in a new segment.");
            return None;
        }
        tracing::warn!(file = %path.display(), bytes, "A torn tail of the audit log was moved \
            aside.");
    }
    // What was read may be in memory only: the process before may have died before its sync.
    let synced = File::open(path).and_then(|file| file.sync_data());
    let age = clock::unix_ms().saturating_sub(found.began.unwrap_or(u64::MAX));
    let age = Duration::from_millis(age);
    let misplaced = found.good == 0 && segment.first != head.seq + 1;
    if misplaced && !found.damaged {
        let _ = storage::move_aside(path);
    }
    let whole = !found.damaged && !misplaced && synced.is_ok();
    let young = found.good < tuning.segment_bytes && age < tuning.segment_age;
    (whole && young && path.exists()).then(|| (path.clone(), found.good, age))
}

/// Moves everything from `offset` on to a file of its own, and cuts the segment there.
fn set_aside(path: &Path, offset: u64) -> io::Result<PathBuf> {
    if offset == 0 {
        return storage::move_aside(path);
    }
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let aside = storage::torn_path(path, offset);
    let mut torn =
        OpenOptions::new().write(true).create_new(true).mode(storage::FILE_MODE).open(&aside)?;
    let copied = io::copy(&mut (&file).take(u64::MAX), &mut torn).and_then(|_| torn.sync_all());
    if let Err(error) = copied.and_then(|()| storage::sync_parent(&aside)) {
        let _ = std::fs::remove_file(&aside);
        return Err(error);
    }
    file.set_len(offset)?;
    file.sync_all()?;
    Ok(aside)
}

fn settled(directory: &Path) -> u64 {
    let content = std::fs::read_to_string(directory.join(SETTLED)).unwrap_or_default();
    content.trim_end().parse().unwrap_or(0)
}

/// OCSF Network Activity `activity_id`.
const OPEN: u8 = 1;
const TRAFFIC: u8 = 6;
