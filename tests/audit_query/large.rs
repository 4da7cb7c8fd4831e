//! A log that is far larger than the memory that an answer may take.

use std::fs;
use std::time::Duration;

use crate::support::{Fate, IOT, Log, PRESS, program};

/// What waits to be written is at most a few blocks and batches for each thread.
#[test]
fn an_answer_of_any_size_takes_little_memory() {
    let mut log = Log::new();
    log.flow(PRESS, IOT, 443, Fate::Allowed { up: 1, down: 1 });
    log.close();
    let line = log.lines().into_iter().find(|line| line.contains("closed_by")).unwrap() + "\n";
    let segment = log.path().join(format!("flow-{:020}.ndjson", 1));
    fs::write(&segment, line.repeat(RECORDS)).unwrap();
    for arguments in [
        "flows --all -o json",
        "flows -n 1000000 -o compact",
        "audit export --format ecs",
        "audit top name",
    ] {
        let output = program()
            .args(arguments.split(' '))
            .arg("--dir")
            .arg(log.path())
            .stdout(fs::File::create(log.path().join("answer")).unwrap())
            .spawn()
            .unwrap();
        let pid = output.id();
        let most = watch(pid, output);
        assert!((1..MOST).contains(&most), "{arguments}: {most} KiB");
    }
}

/// Over 64 MiB, each with its 1.6 KiB.
const RECORDS: usize = 40_000;
/// In KiB.
const MOST: u64 = 32 << 10;

/// The most memory that a program had, in KiB, until it ended.
fn watch(pid: u32, mut child: std::process::Child) -> u64 {
    let mut most = 0;
    loop {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        most = most.max(number.map_or(0, |number| number.parse().unwrap()));
        if let Some(status) = child.try_wait().unwrap() {
            assert_eq!(status.code(), Some(0));
            return most;
        }
        // The mark only rises: what is asked last says it all, but for the very end.
        std::thread::sleep(Duration::from_millis(1));
    }
}
