//! `flows -f`: what comes while somebody looks.

use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdout, Stdio};

use crate::support::{Fate, IOT, Log, PRESS, ROBOT, VENDOR, program};
use sluicegate::audit::query::{Plan, Query, Tail};
use sluicegate::reason::Reason;

const REFUSED: Fate = Fate::Refused(Reason::NameNotAllowed);

struct Follower {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Follower {
    fn new(log: &Log, arguments: &str) -> Self {
        let mut child = program()
            .args(["flows", "-f"])
            .args(arguments.split(' '))
            .arg("--dir")
            .arg(log.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Waits for the next line.
    fn next(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_comes_is_shown_across_segments_and_restarts() {
    let mut log = Log::new();
    for _ in 0..3 {
        log.flow(PRESS, VENDOR, 443, REFUSED);
        log.flow(PRESS, IOT, 443, Fate::Allowed { up: 1, down: 1 });
    }
    log.close();
    let mut follower = Follower::new(&log, "--denied -n 2 -o json");
    let stored = |log: &Log| {
        let denied = |line: &String| line.contains("\"action_id\":2");
        log.lines().into_iter().filter(denied).collect::<Vec<_>>()
    };
    let mut shown = vec![follower.next(), follower.next()];
    assert_eq!(shown, stored(&log)[1..]);
    log.start();
    log.flow(ROBOT, VENDOR, 443, REFUSED);
    shown.push(follower.next());
    log.flow(ROBOT, IOT, 443, Fate::Allowed { up: 1, down: 1 });
    log.flow(ROBOT, VENDOR, 443, REFUSED);
    shown.push(follower.next());
    log.close();
    // The next segment, as rotation makes it.
    let next = log.lines().len() + 1;
    let refusal = stored(&log)[0].replace("\"sequence\":3,", &format!("\"sequence\":{next},"));
    let segment = log.path().join(format!("flow-{next:020}.ndjson"));
    fs::write(&segment, refusal + "\n").unwrap();
    shown.push(follower.next());
    assert_eq!(shown, stored(&log)[1..], "shown once each, and in order");
}

#[test]
fn a_line_is_shown_when_it_is_whole() {
    let mut log = Log::new();
    log.flow(PRESS, VENDOR, 443, REFUSED);
    log.close();
    let query = Query::new([]);
    let mut plan = Plan::new(&log.path(), &query).unwrap();
    let mut tail = Tail::behind(&log.path(), &mut plan).unwrap();
    let mut poll = || {
        let mut shown = Vec::new();
        tail.poll(&query, |line, _| shown.push(String::from_utf8_lossy(line).into_owned()))
            .unwrap();
        shown
    };
    assert_eq!(poll(), Vec::<String>::new());
    let segment = log.path().join(format!("flow-{:020}.ndjson", 1));
    let text = fs::read_to_string(&segment).unwrap();
    let line = log.lines().into_iter().find(|line| line.contains("\"class_uid\":4001")).unwrap();
    let (half, rest) = line.split_at(line.len() / 2);
    for (more, expected) in [(half, 0), (rest, 0), ("\n", 1)] {
        let mut file = OpenOptions::new().append(true).open(&segment).unwrap();
        file.write_all(more.as_bytes()).unwrap();
        assert_eq!(poll(), vec![line.clone(); expected]);
    }
    assert!(fs::read_to_string(&segment).unwrap().starts_with(&text));
}

#[test]
fn an_interrupt_ends_it_quietly() {
    let mut log = Log::new();
    log.flow(PRESS, VENDOR, 443, REFUSED);
    log.close();
    let mut follower = Follower::new(&log, "-o json");
    follower.next();
    // The second line is only shown once it waits for more, and then it listens for signals.
    log.start();
    log.flow(PRESS, VENDOR, 443, REFUSED);
    follower.next();
    let pid = rustix::process::Pid::from_child(&follower.child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(follower.child.wait().unwrap().code(), Some(0));
}

#[test]
fn it_ends_when_nobody_reads_any_more() {
    let mut log = Log::new();
    log.flow(PRESS, VENDOR, 443, REFUSED);
    log.close();
    let mut child = program()
        .args(["flows", "-f", "--dir"])
        .arg(log.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    drop(out);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
