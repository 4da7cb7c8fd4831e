//! The client: shares the work out, keeps the protocol with its caller, adds up the results.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::bulk::Bulk;
use super::churn::Churn;
use super::hold::Hold;
use super::latency::Latencies;
use super::messages::Messages;
use super::open::{Finished, Opened};
use super::{Client, Workload};

/// One thread's part of a workload.
pub(super) trait Work: Send + Sized {
    /// Everything before `start`. The plan is the thread's own part.
    fn set_up(plan: Client) -> Result<Self, String>;

    /// Everything between `g` and `end`. What is open stays open.
    fn work(&mut self, from: Instant) -> Result<Tally, String>;

    /// How many of the open flows the peer has given up.
    fn lost(&self) -> usize {
        0
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Bytes of bulk data that arrived.
    pub(super) bytes: u64,
    /// Message pairs or flows that went as they should.
    pub(super) done: u64,
    /// How these ended, where there is more than one way.
    pub(super) ends: BTreeMap<String, u64>,
    /// Flows that did not, by kind.
    pub(super) failures: BTreeMap<String, u64>,
    /// Flows under way when the time was over; in no other count.
    pub(super) abandoned: u64,
    pub(super) latencies: Latencies,
}

/// Runs a workload; see the module above for what is read and written when.
pub(super) fn run(
    plan: &Client,
    input: &mut impl Read,
    output: &mut impl Write,
) -> Result<(), String> {
    match plan.workload {
        Workload::BulkDown | Workload::BulkUp => conduct::<Bulk>(plan, input, output),
        Workload::Messages => conduct::<Messages>(plan, input, output),
        Workload::Connect | Workload::Deny => conduct::<Churn>(plan, input, output),
        Workload::Idle | Workload::Storm => conduct::<Hold>(plan, input, output),
    }
}

fn conduct<W: Work>(
    plan: &Client,
    input: &mut impl Read,
    output: &mut impl Write,
) -> Result<(), String> {
    match plan.workload {
        Workload::Idle | Workload::Storm => {}
        Workload::BulkDown | Workload::BulkUp if plan.seconds.is_none() => {
            return Err("bulk data needs --seconds".to_owned());
        }
        _ if plan.seconds.is_none() && plan.count.is_none() => {
            return Err("--seconds or --count is missing".to_owned());
        }
        _ => {}
    }
    let shares = shares(plan);
    let threads = shares.len();
    let (tell, ready) = mpsc::channel();
    let (tally, took, workers) = thread::scope(|scope| {
        let mut starts = Vec::new();
        let mut handles = Vec::new();
        for share in shares {
            let (start, started) = mpsc::channel::<Instant>();
            let tell = tell.clone();
            starts.push(start);
            handles.push(scope.spawn(move || {
                let worker = W::set_up(share);
                let _ = tell.send(worker.as_ref().err().cloned());
                let mut worker = worker?;
                // Nobody says so when another thread could not be set up.
                let from = started.recv().map_err(|_| "not started".to_owned())?;
                let tally = worker.work(from)?;
                Ok::<_, String>((worker, tally, Instant::now()))
            }));
        }
        for _ in 0..threads {
            if let Ok(Some(sentence)) = ready.recv() {
                drop(starts);
                return Err(sentence);
            }
        }
        say(output, "start")?;
        if heard(input)? != Some(b'g') {
            return Err("expected g to go on".to_owned());
        }
        let from = Instant::now();
        for start in starts {
            let _ = start.send(from);
        }
        let mut tally = Tally::default();
        let mut until = from;
        let mut workers = Vec::new();
        for handle in handles {
            let (worker, part, ended) =
                handle.join().map_err(|_| "a thread has panicked".to_owned())??;
            tally.merge(part);
            until = until.max(ended);
            workers.push(worker);
        }
        Ok::<_, String>((tally, until - from, workers))
    })?;
    say(output, "end")?;
    let lost = hold(plan, &tally, &workers, input, output)?;
    drop(workers);
    say(output, &report(plan, &tally, took, lost).to_string())
}

/// Keeps flows open until told otherwise; how many were lost by then.
fn hold<W: Work>(
    plan: &Client,
    tally: &Tally,
    workers: &[W],
    input: &mut impl Read,
    output: &mut impl Write,
) -> Result<Option<usize>, String> {
    if !plan.hold && plan.workload != Workload::Idle {
        return Ok(None);
    }
    say(output, &format!("held {}", tally.done))?;
    match heard(input)? {
        Some(b'q') | None => Ok(Some(workers.iter().map(Work::lost).sum())),
        Some(other) => Err(format!("expected q to end, not {}", other.escape_ascii())),
    }
}

/// The next byte that is not white space; `None` at the end.
fn heard(input: &mut impl Read) -> Result<Option<u8>, String> {
    let mut byte = [0];
    loop {
        match input.read(&mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) if byte[0].is_ascii_whitespace() => {}
            Ok(_) => return Ok(Some(byte[0])),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("standard input is gone: {error}")),
        }
    }
}

fn say(output: &mut impl Write, line: &str) -> Result<(), String> {
    writeln!(output, "{line}")
        .and_then(|()| output.flush())
        .map_err(|error| format!("standard output is gone: {error}"))
}

/// A plan per thread, and at most one thread per flow.
fn shares(plan: &Client) -> Vec<Client> {
    let threads = plan.threads.min(plan.flows).get();
    let part =
        |whole: usize, thread: usize| whole / threads + usize::from(thread < whole % threads);
    let share = |thread| {
        let mut plan = plan.clone();
        plan.flows = part(plan.flows.get(), thread).try_into().ok()?;
        plan.count = plan.count.map(|count| {
            let (threads, thread) = (threads as u64, thread as u64);
            count / threads + u64::from(thread < count % threads)
        });
        let addresses = plan.from.len();
        plan.from.rotate_left(addresses * thread / threads);
        Some(plan)
    };
    (0..threads).filter_map(share).collect()
}

fn report(plan: &Client, tally: &Tally, took: Duration, lost: Option<usize>) -> Value {
    let name = clap::ValueEnum::to_possible_value(&plan.workload);
    let mut report = json!({
        "workload": name.map(|name| name.get_name().to_owned()),
        "seconds": took.as_secs_f64(),
    });
    let mut add = |key: &str, value: Value| {
        if let Some(object) = report.as_object_mut() {
            object.insert(key.to_owned(), value);
        }
    };
    match plan.workload {
        Workload::BulkDown | Workload::BulkUp => add("bytes", tally.bytes.into()),
        Workload::Messages => add("pairs", tally.done.into()),
        _ => {
            add("flows", tally.done.into());
            add("failed", tally.failures.values().sum::<u64>().into());
            add("failures", json!(tally.failures));
            add("abandoned", tally.abandoned.into());
        }
    }
    if plan.workload == Workload::Deny {
        add("ends", json!(tally.ends));
    }
    if !matches!(plan.workload, Workload::BulkDown | Workload::BulkUp) {
        add("latency_us", tally.latencies.json());
    }
    if let Some(lost) = lost {
        add("lost", lost.into());
    }
    report
}

impl Tally {
    /// Counts a flow; what it is if it went as it should.
    pub(super) fn count(&mut self, finished: Finished) -> Option<Opened> {
        match finished.result {
            Ok(mut opened) => {
                self.done += 1;
                self.latencies.add(finished.took);
                if let Some(end) = opened.end.take() {
                    *self.ends.entry(end).or_default() += 1;
                }
                Some(opened)
            }
            Err(kind) => {
                *self.failures.entry(kind).or_default() += 1;
                None
            }
        }
    }

    fn merge(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.done += other.done;
        self.abandoned += other.abandoned;
        for (kind, count) in other.ends {
            *self.ends.entry(kind).or_default() += count;
        }
        for (kind, count) in other.failures {
            *self.failures.entry(kind).or_default() += count;
        }
        self.latencies.merge(&other.latencies);
    }
}
