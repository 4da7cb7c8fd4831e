//! The keeper: a thread of low priority that seals segments and removes old ones.
//!
//! It never touches the segment that is written. A sealed segment is first given its line in the
//! manifest, then compressed; what an earlier run did not come to is done the same way. Segments are
//! removed oldest first, only with a line in the manifest, and only when the record of it is
//! durable. On a disk without any room the record cannot come first: it waits in memory, and is
//! written before anything that comes later.
//!
//! How much is kept:
//! - from 90 % of the quota on, what every sink has taken is removed; with `on-full = "overwrite"`
//!   also what no sink has taken, and a `gap` record says so;
//! - within the last sixteenth of the quota new flows are refused; ends, refusals and checkpoints
//!   still go there;
//! - a disk that runs full is treated like a full quota.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::chain::Stored;
use super::clock;
use super::errands::Usage;
use super::inbox::Shared;
use super::manifest::{Manifest, Sealed};
use super::seal::{self, NotSealed};
use super::segment::{self, Scan, SegmentName};
use super::storage;
use super::system::{self, Happened, Removal, RemovedSegment};
use crate::config::{OnFull, Retention};

/// The thread's state; see the module.
#[derive(Debug)]
pub(super) struct Keeper {
    shared: Arc<Shared>,
    manifest: Option<Manifest>,
    /// Segments that are evidence, by first sequence number.
    damaged: HashSet<u64>,
    /// Segments whose removal the log says, or will say before anything else, and that may be there
    /// still.
    announced: VecDeque<SegmentName>,
    /// The first segment, and when its first line was written.
    oldest: Option<(u64, u64)>,
    /// What went wrong last, so that it is logged once.
    trouble: Option<String>,
}

/// Whether there is more to do at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    More,
    Done,
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            manifest: None,
            damaged: HashSet::new(),
            announced: VecDeque::new(),
            oldest: None,
            trouble: None,
        }
    }

    /// The thread: until the log is closed.
    pub(super) fn run(mut self) {
        lower_priority();
        loop {
            let round = self.round();
            let wait = if matches!(round, Ok(Round::More)) { Duration::ZERO } else { SURVEY };
            self.complain(round.err());
            if !self.shared.keeper.wait(wait) {
                return;
            }
        }
    }

    fn complain(&mut self, error: Option<io::Error>) {
        let trouble = error.map(|error| error.to_string());
        if let Some(error) = trouble.as_ref().filter(|_| self.trouble != trouble) {
            tracing::error!(
                error,
                "Old segments of the audit log could not be put in order; trying again."
            );
        }
        self.trouble = trouble;
    }

    fn round(&mut self) -> io::Result<Round> {
        let directory = &self.shared.directory;
        let present = segment::segments(directory)?;
        let mut manifest = match self.manifest.take() {
            Some(manifest) => manifest,
            None => Manifest::open(directory, &present)?,
        };
        let round = self.work(&present, &mut manifest);
        self.manifest = Some(manifest);
        round
    }

    fn work(&mut self, present: &[SegmentName], manifest: &mut Manifest) -> io::Result<Round> {
        let current = self.shared.keeper.current();
        let sealed = present.iter().zip(present.iter().skip(1));
        let sealed: Vec<_> = sealed.filter(|(_, next)| next.first <= current).collect();
        let new = sealed.iter().find(|(segment, _)| {
            manifest.of(segment).is_none() && !self.damaged.contains(&segment.first)
        });
        // Also when this fails for want of room, what can go has to go.
        let listed = new.map(|(segment, next)| self.list(segment, next, manifest)).transpose();
        let kept = self.remove_old(present, current, manifest)?;
        if listed?.is_some() || kept == Round::More {
            return Ok(Round::More);
        }
        for (segment, _) in sealed {
            let Some(line) = manifest.of(segment) else { continue };
            if !segment.is_compressed() && !self.damaged.contains(&segment.first) {
                self.compress(segment, line)?;
                return Ok(Round::More);
            }
        }
        Ok(Round::Done)
    }

    /// Gives a segment its line in the manifest.
    fn list(
        &mut self,
        segment: &SegmentName,
        next: &SegmentName,
        manifest: &mut Manifest,
    ) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        match seal::survey(segment, next, &|| !shared.keeper.is_closing()) {
            Ok(sealed) => {
                let appended = shared.keeper.with_signer(|key| manifest.append(sealed, key));
                appended.unwrap_or(Ok(()))
            }
            Err(error) => self.not_sealed(segment, error),
        }
    }

    fn compress(&mut self, segment: &SegmentName, line: &Sealed) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let compressed = seal::compress(segment, line, &|| !shared.keeper.is_closing());
        compressed.or_else(|error| self.not_sealed(segment, error))
    }

    fn not_sealed(&mut self, segment: &SegmentName, error: NotSealed) -> io::Result<()> {
        match error {
            NotSealed::Io(error) => Err(error),
            NotSealed::Stopped => Ok(()),
            NotSealed::Damaged(line) => {
                let file = segment.path.display().to_string();
                tracing::error!(
                    file,
                    line,
                    "A segment of the audit log does not hold what was written: it is kept as \
                     evidence, and neither signed nor compressed."
                );
                self.damaged.insert(segment.first);
                Ok(())
            }
        }
    }

    /// Removes what is too old or too much, and says how much there is.
    fn remove_old(
        &mut self,
        present: &[SegmentName],
        current: u64,
        manifest: &mut Manifest,
    ) -> io::Result<Round> {
        self.remove_announced(manifest)?;
        let sizes = Sizes::of(&self.shared.directory, present)?;
        let candidates = present.iter().zip(&sizes.segments).filter_map(|(segment, bytes)| {
            let line = manifest.of(segment).filter(|line| line.last < current)?;
            Some(Candidate { segment, line, bytes: *bytes })
        });
        let candidates: Vec<_> = candidates.collect();
        let wanted = self.shared.keeper.take_room_wanted();
        let retention = self.shared.keeper.retention();
        let doomed = doomed(&candidates, retention, self.shared.shipped(), sizes.all, wanted);
        let (count, reason) =
            doomed.filter(|_| self.announced.is_empty()).unwrap_or((0, Doom::Age));
        let doomed = candidates.get(..count).unwrap_or_default();
        let freed = doomed.iter().map(|doomed| doomed.bytes).sum();
        self.publish(present, sizes.all.saturating_sub(freed), retention);
        if doomed.is_empty() {
            return Ok(Round::Done);
        }
        self.announce(doomed, reason)?;
        self.remove_announced(manifest)?;
        self.shared.poke();
        Ok(Round::More)
    }

    /// Records that these segments are removed, and waits until that is durable.
    fn announce(&mut self, doomed: &[Candidate<'_>], reason: Doom) -> io::Result<()> {
        let removal = Removal {
            segments: doomed.iter().map(|doomed| RemovedSegment::from(doomed.line)).collect(),
            records: doomed.iter().map(|doomed| doomed.line.records).sum(),
            bytes: doomed.iter().map(|doomed| doomed.line.bytes).sum(),
            last_hash: doomed.last().map(|doomed| doomed.line.last_hash.as_str()),
            reason: reason.word(),
        };
        let happened = match reason {
            Doom::Age | Doom::Shipped => Happened::Retention(removal),
            Doom::Quota | Doom::DiskFull => Happened::Gap(removal),
        };
        let shared = &self.shared;
        let recorded = shared.record(system::body(&shared.site, &shared.region, &happened));
        match recorded.blocking_recv() {
            // The log is closed: nothing was recorded, and nothing is removed.
            Err(_) => return Ok(()),
            Ok(recorded) => {
                if let Err(error) = recorded {
                    tracing::warn!(%error, "The removal of old segments of the audit log waits to \
                        be recorded.");
                }
            }
        }
        self.announced.extend(doomed.iter().map(|doomed| doomed.segment.clone()));
        Ok(())
    }

    fn remove_announced(&mut self, manifest: &mut Manifest) -> io::Result<()> {
        // Their record waits behind a disk that does not work; only room makes a full one work.
        if self.announced.is_empty() || self.shared.is_broken() {
            return Ok(());
        }
        while let Some(segment) = self.announced.pop_front() {
            if let Err(error) = seal::remove(&segment) {
                self.announced.push_front(segment);
                return Err(error);
            }
            tracing::info!(file = %segment.path.display(), "An old segment of the audit log was \
                removed.");
            manifest.forget(segment.first);
        }
        storage::sync_parent(&self.shared.directory.join("."))
    }

    fn publish(&mut self, present: &[SegmentName], bytes: u64, retention: Retention) {
        let first = present.first();
        if self.oldest.map(|(first, _)| first) != first.map(|first| first.first) {
            self.oldest = first.and_then(|first| Some((first.first, began(&first.path)?)));
        }
        let oldest = self.oldest.map(|(_, at)| at);
        self.shared.keeper.set_usage(Usage { bytes, oldest });
        let reserve = retention.quota / RESERVE;
        let over = bytes >= retention.quota.saturating_sub(reserve);
        self.shared.set_over_quota(over.then_some(retention.quota));
    }
}

/// A segment that may be removed.
#[derive(Clone, Copy, Debug)]
struct Candidate<'a> {
    segment: &'a SegmentName,
    line: &'a Sealed,
    /// On the disk.
    bytes: u64,
}

/// Why segments are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doom {
    /// Older than `audit.retain`.
    Age,
    /// Too much, and taken by every sink.
    Shipped,
    /// Too much, and not taken.
    Quota,
    /// The disk is full, and they are not taken.
    DiskFull,
}

impl Doom {
    fn word(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Shipped | Self::Quota => "quota",
            Self::DiskFull => "disk_full",
        }
    }
}

/// How many of the candidates, oldest first, have to go, and why: all for one reason.
fn doomed(
    candidates: &[Candidate<'_>],
    retention: Retention,
    shipped: u64,
    used: u64,
    room_wanted: bool,
) -> Option<(usize, Doom)> {
    let limit = retention.retain.map(|retain| {
        let retain = u64::try_from(retain.as_millis()).unwrap_or(u64::MAX);
        clock::unix_ms().saturating_sub(retain)
    });
    let is_old = |line: &Sealed| limit.is_some_and(|limit| line.last_time < limit);
    let old = candidates.iter().take_while(|candidate| is_old(candidate.line)).count();
    if old > 0 {
        return Some((old.min(AT_ONCE), Doom::Age));
    }
    let goal = retention.quota / 10 * 9;
    if used < goal && !room_wanted {
        return None;
    }
    let shipped = candidates.iter().take_while(|candidate| candidate.line.last <= shipped).count();
    let (may_go, doom) = match (shipped, retention.on_full) {
        (0, OnFull::Refuse) => return None,
        (0, OnFull::Overwrite) if used < goal => (candidates.len(), Doom::DiskFull),
        (0, OnFull::Overwrite) => (candidates.len(), Doom::Quota),
        (shipped, _) => (shipped, Doom::Shipped),
    };
    let enough = (used.saturating_sub(goal)).max(if room_wanted { ROOM } else { 1 });
    let mut freed = 0;
    let count = candidates.iter().take(may_go.min(AT_ONCE)).take_while(|candidate| {
        let goes = freed < enough;
        freed += candidate.bytes;
        goes
    });
    Some((count.count(), doom)).filter(|(count, _)| *count > 0)
}

/// What is on the disk.
struct Sizes {
    /// Everything in the directory.
    all: u64,
    /// Each segment, in whatever forms it has.
    segments: Vec<u64>,
}

impl Sizes {
    fn of(directory: &Path, present: &[SegmentName]) -> io::Result<Self> {
        let mut all = 0;
        for entry in std::fs::read_dir(directory)? {
            // A file may have gone meanwhile.
            all += entry?.metadata().map(|metadata| metadata.blocks() * BLOCK).unwrap_or(0);
        }
        let on_disk = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.blocks() * BLOCK);
        let segments = present
            .iter()
            .map(|segment| on_disk(&segment.path) + on_disk(&segment::other_form(&segment.path)));
        Ok(Self { all, segments: segments.collect() })
    }
}

/// When a segment's first line was written.
fn began(path: &Path) -> Option<u64> {
    let mut line = Vec::new();
    Scan::open(path, 0).ok()?.next(&mut line).ok()?;
    Stored::parse(&line).map(|stored| stored.metadata.logged_time)
}

/// What the keeper does can always wait for what flows do.
fn lower_priority() {
    let thread = rustix::thread::gettid();
    if let Err(error) = rustix::process::setpriority_process(Some(thread), LOWEST) {
        tracing::debug!(%error, "the keeper of the audit log has the priority of the others");
    }
}

/// Between two looks at the directory when nothing happens.
const SURVEY: Duration = Duration::from_secs(5);
/// This part of the quota is kept for ends, refusals and checkpoints.
const RESERVE: u64 = 16;
/// What is made free at least when the disk is full.
const ROOM: u64 = 16 << 20;
/// Segments that one record says are removed: it must fit in a line.
const AT_ONCE: usize = 256;
/// The unit of `st_blocks` (inode(7)).
const BLOCK: u64 = 512;
/// nice(2).
const LOWEST: i32 = 19;
