//! A power cut that keeps any of the sectors that were not synced.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::faults::{Faulty, quick};
use super::{Tuning, codes, copy_keys, flow, records, start, start_on, tail, until, wait};
use crate::reason::Reason;

const SECTOR: usize = 512;
const FLOWS: usize = 24;

/// A segment as it is while a batch of many lines is appended and not synced.
struct Unsynced {
    bytes: Vec<u8>,
    synced: usize,
    _directory: tempfile::TempDir,
    home: PathBuf,
    name: PathBuf,
}

fn unsynced() -> Unsynced {
    let directory = tail::directory();
    let faults = Faulty::default();
    // With checkpoints among the lines that were not synced.
    let tuning = Tuning { checkpoint_lines: 7, ..quick() };
    let audit = start_on(directory.path(), faults.clone(), tuning);
    let path = directory.path().join("flow-00000000000000000001.ndjson");
    let mut acknowledged = flow(&audit);
    wait(acknowledged.open()).unwrap();
    // The first waits for its sync, and the others for the first.
    faults.permit(Some(0));
    let synced = faults.synced(&path);
    let len = || fs::metadata(&path).unwrap().len();
    let mut first = flow(&audit);
    let mut opens = vec![Box::pin(first.open())];
    until(|| len() > synced);
    let mut flows: Vec<_> = (0..FLOWS).map(|_| flow(&audit)).collect();
    opens.extend(flows.iter_mut().map(|flow| Box::pin(flow.open())));
    flow(&audit).refuse(Reason::NameMissing, None, None, None);
    faults.permit(Some(1));
    until(|| faults.synced(&path) > synced && len() > faults.synced(&path));
    let (bytes, synced) = (fs::read(&path).unwrap(), faults.synced(&path));
    let synced = usize::try_from(synced).unwrap();
    assert!(bytes.len() - synced > 40 * SECTOR, "{}", bytes.len());
    faults.permit(None);
    opens.into_iter().for_each(|open| wait(open).unwrap());
    let home = directory.path().to_owned();
    let name = path.file_name().unwrap().into();
    Unsynced { bytes, synced, home, name, _directory: directory }
}

impl Unsynced {
    /// What a crash leaves that keeps these sectors, in a file that has become this much longer.
    fn crash(&self, kept: &[bool], longer: usize) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        bytes.truncate(self.synced + longer.min(bytes.len() - self.synced));
        for (sector, kept) in bytes.chunks_mut(SECTOR).skip(self.synced / SECTOR).zip(kept) {
            if !kept {
                sector.fill(0);
            }
        }
        bytes[..self.synced].copy_from_slice(&self.bytes[..self.synced]);
        bytes
    }

    /// A directory with that, as the next start finds it.
    fn put(&self, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let directory = tail::directory();
        copy_keys(&self.home, directory.path());
        let path = directory.path().join(&self.name);
        fs::write(&path, bytes).unwrap();
        (directory, path)
    }
}

fn evidence(directory: &Path) -> Vec<u8> {
    let torn = tail::torn_files(directory);
    torn.first().map(|path| fs::read(path).unwrap()).unwrap_or_default()
}

#[test]
fn any_sectors_of_the_last_batch_may_be_lost() {
    let unsynced = unsynced();
    let sectors = unsynced.bytes.len() / SECTOR + 1;
    let longest = unsynced.bytes.len() - unsynced.synced;
    // A few lost sectors, about half of them, or all.
    let kept = prop_oneof![Just(0.97), Just(0.5), Just(0.03), Just(1.0)]
        .prop_flat_map(move |share| prop::collection::vec(prop::bool::weighted(share), sectors));
    let longer = prop_oneof![3 => Just(longest), 1 => 0..=longest];
    proptest!(|(kept in kept, longer in longer)| {
        let found = unsynced.crash(&kept, longer);
        let (directory, path) = unsynced.put(&found);
        start(directory.path()).close();
        // The chain is whole, and every Open has one end.
        let codes = codes(directory.path());
        let opens = codes.iter().filter(|code| *code == "open").count();
        let ends = codes.iter().filter(|code| *code == "unknown_crash").count();
        prop_assert_eq!(opens, ends);
        prop_assert!((2..=FLOWS + 2).contains(&opens));
        // What was synced is there, and nothing of the rest is lost without a trace.
        let after = fs::read(&path).unwrap();
        let torn = evidence(directory.path());
        let whole = found.len() - torn.len();
        prop_assert!(whole >= unsynced.synced);
        prop_assert_eq!(&after[..whole], &found[..whole]);
        prop_assert_eq!(&torn, &found[whole..]);
        let recovery = records(directory.path());
        let recovery = recovery.iter().find(|record| record["status_code"] == "recovery").unwrap();
        let facts = &recovery["unmapped"]["system"];
        prop_assert_eq!(facts["bytes"].as_u64(), Some(torn.len() as u64));
        let lines = torn.split(|byte| *byte == b'\n').skip(1);
        let whole_lines = lines.filter(|line| line.starts_with(b"{") && line.ends_with(b"}"));
        let whole_lines = whole_lines.filter(|line| !line.contains(&0)).count();
        prop_assert_eq!(facts["damaged"].as_bool(), Some(whole_lines > 0));
    });
}

#[test]
fn a_lost_sector_of_an_older_batch_is_no_crash() {
    let unsynced = unsynced();
    let mut bytes = unsynced.bytes.clone();
    // In the first of the acknowledged lines.
    bytes[SECTOR / 2..SECTOR].fill(0);
    let (directory, path) = unsynced.put(&bytes);
    start(directory.path()).close();
    assert!(fs::read(&path).unwrap() == bytes, "evidence is not touched");
    assert!(tail::torn_files(directory.path()).is_empty());
}
