//! Readings of the kernel's counters.
//!
//! The CPU of the whole machine is what counts: on veth the receiver's TCP work is billed to the
//! sender, so a process's own time misleads. All counts are differences of two readings.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// The machine's CPU time spent on anything, in seconds of one core, since it started.
///
/// From /proc/stat (proc(5)): all but idle, waiting for I/O, and time that the hypervisor took.
pub(crate) fn busy_seconds() -> f64 {
    let text = read("/proc/stat");
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<f64> = line.split_whitespace().skip(1).map_while(|w| w.parse().ok()).collect();
    // user nice system idle iowait irq softirq; guest time is part of user time.
    let busy: f64 = [0, 1, 2, 5, 6].iter().filter_map(|place| ticks.get(*place)).sum();
    busy / TICKS_PER_SECOND
}

/// CPU time of the machine's other users, the same way: programs that are not this one's.
///
/// What has ended by the second reading is missed. On a machine that does nothing else it is nothing.
#[derive(Debug)]
pub(crate) struct Others(BTreeMap<u32, f64>);

impl Others {
    /// A reading now.
    pub(crate) fn now() -> Self {
        let own = family(std::process::id());
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        // Kernel threads do the box's work, too. They have no program (proc(5), cmdline).
        let others = pids
            .filter(|pid| !own.contains(pid) && !read(&format!("/proc/{pid}/cmdline")).is_empty());
        Self(others.map(|pid| (pid, process_seconds(&[pid]))).collect())
    }

    /// What they have used since, in seconds.
    pub(crate) fn used(&self) -> f64 {
        let now = Self::now();
        let since =
            |(pid, seconds): (&u32, &f64)| seconds - self.0.get(pid).copied().unwrap_or_default();
        now.0.iter().map(since).filter(|used| *used > 0.0).sum()
    }
}

/// CPU time of these processes with their ended threads, in seconds: utime and stime.
pub(crate) fn process_seconds(pids: &[u32]) -> f64 {
    let ticks = |pid: &u32| {
        let text = read(&format!("/proc/{pid}/stat"));
        // The second field is the name in parentheses, which may contain anything.
        let fields: Vec<&str> =
            text.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect()).unwrap_or_default();
        let field = |place: usize| fields.get(place).and_then(|text| text.parse::<f64>().ok());
        field(11).unwrap_or_default() + field(12).unwrap_or_default()
    };
    pids.iter().map(ticks).sum::<f64>() / TICKS_PER_SECOND
}

/// CPU time of each thread of these processes, in seconds, exact where ticks are too coarse.
#[derive(Debug)]
pub(crate) struct Threads(BTreeMap<PathBuf, f64>);

impl Threads {
    /// What they have used more than at an earlier reading. Threads that have ended are left out.
    pub(crate) fn since(&self, earlier: &Self) -> f64 {
        let more = |(thread, seconds): (&PathBuf, &f64)| {
            seconds - earlier.0.get(thread).copied().unwrap_or_default()
        };
        self.0.iter().map(more).sum()
    }
}

/// A reading of the threads of these processes, from their schedstat.
pub(crate) fn threads(pids: &[u32]) -> Threads {
    let mut all = BTreeMap::new();
    for pid in pids {
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for thread in threads.flatten() {
            let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
            let first = text.split(' ').next().and_then(|word| word.parse::<f64>().ok());
            all.insert(thread.path(), first.unwrap_or_default() / 1e9);
        }
    }
    Threads(all)
}

/// A process and all its descendants.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let mut pids = vec![pid];
    let mut next = 0;
    while let Some(pid) = pids.get(next).copied() {
        next += 1;
        // A child belongs to the thread that started it.
        for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            pids.extend(children.split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
        }
    }
    pids
}

/// Whether a thread of the process still runs, or is about to end (proc(5), state).
pub(crate) fn lives(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut states = threads.map(|thread| {
        let text = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        text.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('X')
    });
    states.any(|state| !matches!(state, 'Z' | 'X'))
}

/// Memory, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Proportional set size of the subject's processes.
    pub(crate) user: f64,
    /// All of the kernel's slabs.
    pub(crate) slab: f64,
    /// What the kernel could still give away.
    pub(crate) available: f64,
}

impl Memory {
    /// A reading now, with these processes' part.
    pub(crate) fn now(pids: &[u32]) -> Self {
        let user = |pid: &u32| kilobytes(&read(&format!("/proc/{pid}/smaps_rollup")), "Pss:");
        let meminfo = read("/proc/meminfo");
        Self {
            user: pids.iter().map(user).sum(),
            slab: active_slab().unwrap_or_else(|| kilobytes(&meminfo, "Slab:")),
            available: kilobytes(&meminfo, "MemAvailable:"),
        }
    }
}

/// How often a connection of a listener was dropped because nobody accepted in time, in the network
/// namespace of this process.
pub(crate) fn listen_overflows(pid: u32) -> f64 {
    let text = read(&format!("/proc/{pid}/net/netstat"));
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return 0.0 };
    let mut pairs = names.split(' ').zip(values.split(' '));
    pairs
        .find(|(name, _)| *name == "ListenOverflows")
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or_default()
}

/// Objects in use, which MemAvailable and Slab cannot tell from those that are only kept; readable
/// by root alone (slabinfo(5)).
fn active_slab() -> Option<f64> {
    let text = fs::read_to_string("/proc/slabinfo").ok()?;
    let bytes = |line: &str| {
        let mut numbers = line.split_whitespace().skip(1).map_while(|w| w.parse::<f64>().ok());
        let (active, _, size) = (numbers.next()?, numbers.next()?, numbers.next()?);
        Some(active * size)
    };
    Some(text.lines().skip(2).filter_map(bytes).sum())
}

fn kilobytes(text: &str, key: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
    line.split_whitespace().next().and_then(|word| word.parse::<f64>().ok()).unwrap_or_default()
        * 1024.0
}

/// What cannot be read counts as nothing: a process may have ended.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// `USER_HZ`, which is 100 on every architecture that matters (time(7)).
const TICKS_PER_SECOND: f64 = 100.0;
