//! What a start finds: the head of the chain, a torn tail, flows that never ended.
//!
//! What a crash can leave is moved aside, and the segment is cut there. Anything else is evidence: it
//! is not touched, and the log goes on in a new segment.
//!
//! What a crash can leave follows from how the log is written. A batch is appended and synced before
//! the next one is begun, and a record is acknowledged only then. So a power cut can harm one batch
//! only, the last one of the last segment, of which nothing was acknowledged; but of that batch it
//! can keep any sectors, so that a bad line may have good ones behind it. All lines of a batch have
//! one `logged_time`. Two of them behind a bad line prove that it was durable when the later was
//! written: then it was changed afterwards, by somebody or by the disk. With one of them, and no more
//! bytes than a batch can have, a crash explains it. (So does a change of a line less than a
//! millisecond before the end. It is moved aside then, but not lost, and not hidden: the recovery
//! record says `damaged`, and names the evidence.) Lost sectors read as zeros, which no line has: a
//! line that is whole and out of place is no crash's work.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

use super::chain::{Head, Stored};
use super::keys::KeyInForce;
use super::segment::{self, MAX_LINE, Scan, SegmentName};
use super::spool::SETTLED;
use super::tuning::Tuning;
use super::{clock, kind, storage};

/// What was found.
#[derive(Debug)]
pub(super) struct Recovered {
    /// Where the chain goes on.
    pub(super) head: Head,
    /// The chain's epoch, from its last line.
    pub(super) epoch: u32,
    /// The segment to go on in, its length and its age; a new one is begun where absent.
    pub(super) tail: Option<Tail>,
    /// Flows with an Open and no end, in order.
    pub(super) open: Vec<OpenFlow>,
    /// The key that the chain goes on with; absent before its first record.
    pub(super) key: Option<KeyInForce>,
    /// What had to be put in order.
    pub(super) damage: Option<Damage>,
}

/// The end of the log.
#[derive(Clone, Debug)]
pub(super) struct Tail {
    pub(super) name: SegmentName,
    pub(super) len: u64,
    pub(super) age: Duration,
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
    /// A bad line has good ones behind it, or the chain is broken.
    pub(super) damaged: bool,
}

/// A flow that was open when the box stopped.
#[derive(Clone, Debug)]
pub(super) struct OpenFlow {
    pub(super) flow: Uuid,
    segment: PathBuf,
    offset: u64,
}

/// Reads Opens again. In their order each segment is read once.
#[derive(Debug, Default)]
pub(super) struct Opens {
    at: Option<(PathBuf, Scan)>,
    line: Vec<u8>,
}

impl Opens {
    /// The line of a flow's Open.
    pub(super) fn read(&mut self, flow: &OpenFlow) -> io::Result<&[u8]> {
        let at = self.at.take();
        let here = at.filter(|(path, scan)| *path == flow.segment && scan.offset() <= flow.offset);
        let mut scan = match here {
            Some((_, scan)) => scan,
            None => Scan::open(&flow.segment, flow.offset)?,
        };
        scan.skip_to(flow.offset)?;
        scan.next(&mut self.line)?;
        self.at = Some((flow.segment.clone(), scan));
        Ok(&self.line)
    }
}

/// Reads a directory, and repairs its tail.
pub(super) fn recover(directory: &Path, tuning: &Tuning) -> io::Result<Recovered> {
    let mut segments = segment::segments(directory)?;
    let settled = settled(directory);
    let batch = tuning.batch_bytes as u64 + 2 * MAX_LINE as u64;
    let mut survey =
        Survey { settled, batch, head: None, epoch: 1, open: HashMap::new(), key: None };
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
    /// A batch has no more bytes.
    batch: u64,
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
    /// A line that a crash does not explain.
    damaged: bool,
    /// What is torn has good lines in it.
    lines_in_torn: bool,
}

impl Survey {
    fn read(&mut self, segment: &SegmentName, next: Option<u64>) -> io::Result<Found> {
        let mut scan = Scan::open(&segment.path, 0)?;
        let mut line = Vec::new();
        let mut found = Found::default();
        let mut number = 0;
        loop {
            let raw = match scan.next(&mut line) {
                Ok(Some(raw)) => raw,
                Ok(None) => break,
                Err(error) if segment::is_damage(&error) => {
                    found.damaged = true;
                    let file = segment.path.display().to_string();
                    tracing::error!(file, %error, "A compressed segment of the audit log is \
                        damaged. Keep the file as evidence.");
                    break;
                }
                Err(error) => return Err(error),
            };
            number += 1;
            if next.is_some_and(|next| segment.first + number > next) {
                break;
            }
            found.len = raw.offset + raw.bytes;
            let Some(stored) = Stored::parse(&line).filter(|_| raw.whole) else { continue };
            let follows = self.head.as_ref().is_none_or(|head| stored.follows(head));
            if (found.good < raw.offset || !follows) && !found.damaged {
                if next.is_none() && found.good < raw.offset {
                    found.lines_in_torn = one_batch(&segment.path, found.good, self.batch)?;
                }
                if found.lines_in_torn {
                    found.len = std::fs::metadata(&segment.path)?.len();
                    break;
                }
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

/// Whether all good lines from `offset` on can be of one batch that was being written.
fn one_batch(path: &Path, offset: u64, most: u64) -> io::Result<bool> {
    let mut scan = Scan::open(path, offset)?;
    let mut line = Vec::new();
    let mut logged = None;
    while let Some(raw) = scan.next(&mut line)? {
        if scan.offset() - offset > most {
            return Ok(false);
        }
        let Some(stored) = Stored::parse(&line).filter(|_| raw.whole) else { continue };
        if *logged.get_or_insert(stored.metadata.logged_time) != stored.metadata.logged_time {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Makes the last segment fit to be continued; `None` where a new one must be begun.
fn repair(
    segment: &SegmentName,
    found: &Found,
    head: &Head,
    tuning: &Tuning,
    damage: &mut Option<Damage>,
) -> Option<Tail> {
    if segment.is_compressed() {
        return None;
    }
    let path = &segment.path;
    if found.good < found.len && !found.damaged {
        let bytes = found.len - found.good;
        let damaged = found.lines_in_torn;
        let mut torn = Damage { file: path.clone(), bytes, damaged, ..Damage::default() };
        let aside = storage::set_aside(path, found.good);
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
    let tail = Tail { name: segment.clone(), len: found.good, age };
    (whole && young && path.exists()).then_some(tail)
}

fn settled(directory: &Path) -> u64 {
    let content = std::fs::read_to_string(directory.join(SETTLED)).unwrap_or_default();
    content.trim_end().parse().unwrap_or(0)
}

/// OCSF Network Activity `activity_id`.
const OPEN: u8 = 1;
const TRAFFIC: u8 = 6;
