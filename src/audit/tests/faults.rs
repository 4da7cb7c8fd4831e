//! Files that fail on demand, and that forget at a crash what was not synced.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::super::manifest::MANIFEST;
use super::super::storage::{Disk, SegmentFile, Storage};
use super::super::verify::Verdict;
use super::super::{Audit, FlowEnd, FlowRecord, TrafficFacts, Tuning, segment};
use super::{
    codes, copy_keys, flow, records, start, start_on, system_codes, verified, wait, whole_flow,
};
use crate::reason::Reason;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Op {
    Create,
    Append,
    /// Writes half of the bytes before it fails.
    AppendHalf,
    Sync,
    Cut,
    Remove,
}

/// Real files with faults.
#[derive(Clone, Debug, Default)]
pub(super) struct Faulty {
    state: Arc<Mutex<State>>,
    changed: Arc<Condvar>,
}

#[derive(Debug, Default)]
struct State {
    /// How often each operation still fails.
    failing: HashMap<Op, usize>,
    kind: Option<io::ErrorKind>,
    /// How many syncs may still be made, where they are counted; others wait.
    permits: Option<usize>,
    syncs: usize,
    /// Bytes of each file that a crash would keep.
    synced: HashMap<PathBuf, u64>,
}

const ALWAYS: usize = usize::MAX;

impl Faulty {
    fn fail(&self, op: Op, times: usize) {
        self.state.lock().unwrap().failing.insert(op, times);
    }

    fn fail_as(&self, kind: io::ErrorKind) {
        self.state.lock().unwrap().kind = Some(kind);
    }

    fn mend(&self) {
        self.state.lock().unwrap().failing.clear();
    }

    /// Lets only so many syncs be made from now on.
    pub(super) fn permit(&self, syncs: Option<usize>) {
        self.state.lock().unwrap().permits = syncs;
        self.changed.notify_all();
    }

    /// Bytes of a file that a crash would keep.
    pub(super) fn synced(&self, path: &Path) -> u64 {
        self.state.lock().unwrap().synced.get(path).copied().unwrap_or_default()
    }

    fn meet(&self, op: Op) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        let kind = state.kind.unwrap_or(io::ErrorKind::Other);
        match state.failing.get_mut(&op) {
            None | Some(0) => Ok(()),
            Some(&mut ALWAYS) => Err(kind.into()),
            Some(left) => {
                *left -= 1;
                Err(kind.into())
            }
        }
    }

    /// What a power cut at this moment would leave, with `extra` bytes of what was not synced.
    fn cut_power(&self, from: &Path, to: &Path, extra: u64) {
        let state = self.state.lock().unwrap();
        let _ = std::fs::copy(from.join(MANIFEST), to.join(MANIFEST));
        for segment in segment::segments(from).unwrap() {
            let kept = to.join(segment.path.file_name().unwrap());
            match std::fs::read(&segment.path) {
                Ok(mut bytes) if !segment.is_compressed() => {
                    let synced = state.synced.get(&segment.path).copied().unwrap_or_default();
                    bytes.truncate(usize::try_from(synced + extra).unwrap());
                    std::fs::write(kept, bytes).unwrap();
                }
                Ok(bytes) => std::fs::write(kept, bytes).unwrap(),
                // It was compressed a moment ago.
                Err(_) => {
                    let other = segment::other_form(&segment.path);
                    std::fs::copy(other, segment::other_form(&kept)).map(drop).unwrap();
                }
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct FaultyFile {
    file: File,
    path: PathBuf,
    faults: Faulty,
}

impl Storage for Faulty {
    type File = FaultyFile;

    fn create(&self, path: &Path) -> io::Result<FaultyFile> {
        self.meet(Op::Create)?;
        let file = Disk.create(path)?;
        Ok(FaultyFile { file, path: path.to_owned(), faults: self.clone() })
    }

    fn append_to(&self, path: &Path) -> io::Result<FaultyFile> {
        let file = Disk.append_to(path)?;
        Ok(FaultyFile { file, path: path.to_owned(), faults: self.clone() })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.meet(Op::Remove)?;
        Disk.remove(path)
    }
}

impl SegmentFile for FaultyFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.faults.meet(Op::Append)?;
        if let Err(error) = self.faults.meet(Op::AppendHalf) {
            self.file.append(&bytes[..bytes.len() / 2])?;
            return Err(error);
        }
        self.file.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.faults.meet(Op::Sync)?;
        let len = self.file.metadata()?.len();
        let mut state = self.faults.state.lock().unwrap();
        while state.permits == Some(0) {
            state = self.faults.changed.wait(state).unwrap();
        }
        state.permits = state.permits.map(|permits| permits - 1);
        state.syncs += 1;
        state.synced.insert(self.path.clone(), len);
        Ok(())
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.faults.meet(Op::Cut)?;
        self.file.set_len(len)
    }

    fn reserve(&mut self, _offset: u64, _bytes: u64) -> io::Result<()> {
        let state = self.faults.state.lock().unwrap();
        if state.failing.get(&Op::Append) == Some(&ALWAYS) {
            return Err(state.kind.unwrap_or(io::ErrorKind::Other).into());
        }
        Ok(())
    }
}

pub(super) fn quick() -> Tuning {
    Tuning {
        retry: Duration::from_millis(2),
        gather: Duration::from_millis(2),
        ..Tuning::default()
    }
}

fn healed(audit: &Audit) {
    while audit.status().failure.is_some() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn an_open_resolves_after_the_sync_and_not_before() {
    let directory = tempfile::tempdir().unwrap();
    let faults = Faulty::default();
    let audit = start_on(directory.path(), faults.clone(), quick());
    faults.permit(Some(0));
    let mut record = flow(&audit);
    let mut open = Box::pin(record.open());
    let path = directory.path().join("flow-00000000000000000001.ndjson");
    // Once the line is in the file, only the sync is missing.
    while std::fs::read_to_string(&path).unwrap().lines().count() < 3 {
        std::thread::sleep(Duration::from_millis(1));
    }
    wait(async {
        let pending = std::future::poll_fn(|context| {
            std::task::Poll::Ready(open.as_mut().poll(context).is_pending())
        });
        assert!(pending.await, "the record is not durable yet");
        faults.permit(None);
        open.await.unwrap();
    });
    assert_eq!(audit.status().seq, 3);
}

#[test]
fn an_end_shares_the_sync_of_the_next_open() {
    let directory = tempfile::tempdir().unwrap();
    let faults = Faulty::default();
    let tuning = Tuning { linger: Duration::from_hours(1), ..quick() };
    let audit = start_on(directory.path(), faults.clone(), tuning);
    let before = faults.state.lock().unwrap().syncs;
    for _ in 0..10 {
        whole_flow(&audit);
    }
    let syncs = faults.state.lock().unwrap().syncs - before;
    assert_eq!(syncs, 10, "one for each Open, none for an end");
    assert_eq!(codes(directory.path()).len(), 19, "the last end lies");
    audit.close();
    assert_eq!(codes(directory.path()).len(), 20);
}

#[test]
fn an_end_that_no_open_follows_is_written_before_long() {
    let directory = tempfile::tempdir().unwrap();
    let audit = start_on(directory.path(), Faulty::default(), quick());
    // Twice: the writer lingers behind the first, and sleeps before the second.
    for flows in 1..=2 {
        whole_flow(&audit);
        while audit.status().seq < 2 + 2 * flows {
            std::thread::sleep(Duration::from_millis(1));
        }
        flow(&audit).refuse(Reason::NameNotAllowed, None, None, None);
        std::thread::sleep(quick().linger * 2);
    }
    audit.close();
    assert_eq!(codes(directory.path()).len(), 6);
}

#[test]
fn scarce_slots_come_back_without_lying() {
    let directory = tempfile::tempdir().unwrap();
    let tuning = Tuning { linger: Duration::from_hours(1), ..quick() };
    let audit = start_on(directory.path(), Faulty::default(), tuning);
    let mut held: Vec<_> = (0..250).map(|_| audit.reserve().unwrap()).collect();
    whole_flow(&audit);
    while audit.status().seq < 4 {
        std::thread::sleep(Duration::from_millis(1));
    }
    held.clear();
}

#[test]
fn a_power_cut_keeps_every_acknowledged_open() {
    let directory = tempfile::tempdir().unwrap();
    let faults = Faulty::default();
    let tuning = Tuning { segment_bytes: 20_000, ..quick() };
    let audit = start_on(directory.path(), faults.clone(), tuning);
    let acknowledged = Mutex::new(Vec::new());
    let load = |audit: &Audit| {
        for _ in 0..60 {
            let mut record = flow(audit);
            wait(record.open()).unwrap();
            acknowledged.lock().unwrap().push(record.uid().to_string());
            record.close(FlowEnd::Drained, TrafficFacts::default());
        }
    };
    std::thread::scope(|scope| {
        let load = &load;
        for _ in 0..4 {
            let audit = audit.clone();
            scope.spawn(move || load(&audit));
        }
        for extra in 0..40 {
            let before = acknowledged.lock().unwrap().clone();
            let after = tempfile::tempdir().unwrap();
            faults.cut_power(directory.path(), after.path(), extra * 97);
            copy_keys(directory.path(), after.path());
            start(after.path()).close();
            let codes = codes(after.path());
            let records = records(after.path());
            let opened: HashSet<_> = records
                .iter()
                .filter(|record| record["activity_id"] == 1)
                .filter_map(|record| record["metadata"]["correlation_uid"].as_str())
                .collect();
            assert!(
                before.iter().all(|uid| opened.contains(uid.as_str())),
                "lost with {extra}: {codes:?}"
            );
            let opens = codes.iter().filter(|code| *code == "open").count();
            assert_eq!(codes.len(), opens * 2, "an end for each Open");
        }
    });
}

#[test]
fn a_failed_write_or_sync_goes_on_in_a_new_segment() {
    for op in [Op::Append, Op::AppendHalf, Op::Sync] {
        for also in [None, Some(Op::Cut), Some(Op::Remove)] {
            for before in 0..2 {
                let directory = tempfile::tempdir().unwrap();
                let faults = Faulty::default();
                let audit = start_on(directory.path(), faults.clone(), quick());
                // One flow more or less: whether something is durable in the segment that fails.
                (0..before).for_each(|_| whole_flow(&audit));
                let mut record = flow(&audit);
                while audit.status().seq < before * 2 + 2 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                also.into_iter().for_each(|also| faults.fail(also, ALWAYS));
                faults.fail(op, 1);
                wait(record.open()).unwrap();
                faults.mend();
                record.close(FlowEnd::Drained, TrafficFacts::default());
                whole_flow(&audit);
                audit.close();
                let mut expected =
                    ["open", "closed_by_device"].repeat(usize::try_from(before).unwrap());
                expected.extend(["open", "drained", "open", "closed_by_device"]);
                assert_eq!(codes(directory.path()), expected, "{op:?} {also:?} {before}");
                // What a next start makes of it is the same.
                start(directory.path()).close();
                assert_eq!(codes(directory.path()), expected, "{op:?} {also:?} {before}");
            }
        }
    }
}

#[test]
fn a_dead_disk_refuses_and_heals_by_itself() {
    for (kind, full) in [(io::ErrorKind::Other, false), (io::ErrorKind::StorageFull, true)] {
        let directory = tempfile::tempdir().unwrap();
        let faults = Faulty::default();
        let audit = start_on(directory.path(), faults.clone(), quick());
        let mut running = flow(&audit);
        wait(running.open()).unwrap();
        let (mut opening, late) = (flow(&audit), flow(&audit));
        faults.fail_as(kind);
        faults.fail(Op::Sync, ALWAYS);
        let error = wait(opening.open()).unwrap_err();
        let status = audit.status();
        assert_eq!(status.failure, Some(error.0));
        assert_eq!(status.full, full);
        assert!(audit.reserve().is_err());
        (0..5).for_each(|_| audit.count_unrecorded());
        // Ends wait in memory.
        opening.refuse(Reason::AuditUnavailable, None, None, None);
        running.close(FlowEnd::ClosedByEndpoint, TrafficFacts::default());
        late.refuse(Reason::NameMissing, None, None, None);
        faults.mend();
        healed(&audit);
        whole_flow(&audit);
        audit.close();
        let found = codes(directory.path());
        let count = |code: &str| found.iter().filter(|found| *found == code).count();
        assert_eq!(count("open"), 2, "the Open that failed is void: {found:?}");
        assert_eq!(count("closed_by_endpoint") + count("closed_by_device"), 2);
        assert_eq!(count("name_missing"), 1);
        let records = records(directory.path());
        let counts: Vec<_> = records.iter().filter_map(|r| r["count"].as_u64()).collect();
        assert_eq!(counts.iter().sum::<u64>(), 5, "exact");
        assert_eq!(counts.len(), 1, "in one record");
        assert_eq!(count("audit_unavailable"), 2);
        let outages: Vec<_> = records.iter().filter(|r| r["status_code"] == "outage").collect();
        let [outage] = outages.as_slice() else { panic!("one, in the first batch: {outages:?}") };
        let facts = &outage["unmapped"]["system"];
        assert_eq!(facts["reason"], if full { "disk_full" } else { "write_failed" });
        assert!(facts["since_ns"].as_u64() < facts["mono_ns"].as_u64());
        let first = records.iter().position(|record| record["count"] == 5);
        assert!(records.iter().position(|record| record["status_code"] == "outage") < first);
        assert_eq!(verified(directory.path()).result, Verdict::Intact);
    }
}

#[test]
fn an_idle_log_heals_too() {
    let directory = tempfile::tempdir().unwrap();
    let faults = Faulty::default();
    let audit = start_on(directory.path(), faults.clone(), quick());
    faults.fail(Op::Append, ALWAYS);
    let mut opening = flow(&audit);
    wait(opening.open()).unwrap_err();
    faults.mend();
    // Nothing waits to be written, and nothing was refused: the log tries by itself.
    healed(&audit);
    assert!(system_codes(directory.path()).contains(&"outage".to_owned()), "signed at once");
    opening.refuse(Reason::AuditUnavailable, None, None, None);
    whole_flow(&audit);
    audit.close();
    assert_eq!(codes(directory.path()), ["audit_unavailable", "open", "closed_by_device"]);
}

#[test]
fn a_flow_that_did_not_hear_of_the_failure_has_its_open_and_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let faults = Faulty::default();
    let audit = start_on(directory.path(), faults.clone(), quick());
    let mut deaf = flow(&audit);
    let mut other = flow(&audit);
    faults.fail(Op::Sync, ALWAYS);
    drop(deaf.open());
    wait(other.open()).unwrap_err();
    other.refuse(Reason::AuditUnavailable, None, None, None);
    drop(deaf);
    faults.mend();
    healed(&audit);
    audit.close();
    let mut found = codes(directory.path());
    found.sort_unstable();
    assert_eq!(found, ["audit_unavailable", "internal_error", "open"]);
}

#[test]
fn slots_come_back_when_ends_are_durable() {
    let directory = tempfile::tempdir().unwrap();
    let audit = start(directory.path());
    for _ in 0..3 {
        let flows: Vec<_> = (0..256).map(|_| flow_when_free(&audit)).collect();
        assert!(audit.reserve().is_err());
        drop(flows);
    }
    audit.close();
    assert_eq!(codes(directory.path()).len(), 768);
}

/// A flow, as soon as there is a slot for it.
fn flow_when_free(audit: &Audit) -> FlowRecord {
    while audit.status().full {
        std::thread::sleep(Duration::from_millis(1));
    }
    flow(audit)
}
