//! One measurement: one subject, one workload, once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit};
use serde_json::Value;

use crate::Failure;
use crate::drive::Client;
use crate::plan::{Direction, Kind, Subject, Workload};
use crate::probe;
use crate::stage::{FOREIGN, NAME, Stage, crowd, endpoint};
use crate::subjects::Running;

/// The figures of one measurement, by name; see [`crate::report`] for their units.
pub(crate) type Figures = BTreeMap<&'static str, f64>;

/// Starts the subject, runs the workload and takes the subject away.
///
/// # Errors
/// When subject or client do not do their work.
pub(crate) fn take(
    stage: &Stage,
    subject: Subject,
    workload: Workload,
    length: Duration,
) -> Result<Figures, Failure> {
    let running = Running::start(subject, stage)?;
    let taken = match workload.kind() {
        Kind::Idle => idle(stage, &running),
        Kind::Storm => storm(stage, &running),
        kind => timed(stage, &running, kind, length),
    };
    let stopped = running.stop(stage);
    let figures = taken?;
    stopped?;
    Ok(figures)
}

fn timed(
    stage: &Stage,
    running: &Running,
    kind: Kind,
    length: Duration,
) -> Result<Figures, Failure> {
    let before = bytes_moved(running)?;
    let mut client = Client::start(stage, &arguments(kind, length))?;
    let pids = running.pids();
    let others = probe::Others::now();
    let (busy, process) = (probe::busy_seconds(), probe::process_seconds(&pids));
    client.go()?;
    client.wait_end()?;
    let busy = probe::busy_seconds() - busy;
    let others = others.used();
    let process = probe::process_seconds(&pids) - process;
    let findings = client.findings()?;
    client.finish()?;
    let cost = Cost { busy: busy - others, process, wall: number(&findings, "seconds") };
    let mut figures = Figures::from([("others_cores", others / cost.wall)]);
    match kind {
        Kind::Bulk { .. } => {
            cost.per(&mut figures, number(&findings, "bytes") / 1e9, "cpu_s_per_gb", 1.0);
            figures.insert("gbit_s", number(&findings, "bytes") * 8e-9 / cost.wall);
        }
        Kind::Messages { .. } => {
            cost.per(&mut figures, number(&findings, "pairs"), "cpu_us_per_pair", 1e6);
            figures.insert("pairs_s", number(&findings, "pairs") / cost.wall);
            latencies(&mut figures, &findings);
        }
        _ => {
            cost.per(&mut figures, number(&findings, "flows"), "cpu_us_per_flow", 1e6);
            figures.insert("flows_s", number(&findings, "flows") / cost.wall);
            figures.insert("failed", failed(&findings, running));
            latencies(&mut figures, &findings);
        }
    }
    if let (Some(before), Some(after)) = (before, settled(running, kind)?) {
        let all = after.all - before.all;
        if all > 0.0 {
            figures.insert("copied_share", 1.0 - (after.spliced - before.spliced) / all);
        }
    }
    Ok(figures)
}

/// What an interval has cost.
#[derive(Clone, Copy, Debug)]
struct Cost {
    busy: f64,
    process: f64,
    wall: f64,
}

impl Cost {
    /// The machine's and the process's CPU by unit of work, `scale` 1 for seconds.
    fn per(&self, figures: &mut Figures, units: f64, name: &'static str, scale: f64) {
        figures.insert(name, self.busy / units * scale);
        figures.insert("own_cpu", self.process / units * scale);
    }
}

fn arguments(kind: Kind, length: Duration) -> Vec<String> {
    let (workload, flows, name) = match kind {
        Kind::Bulk { direction: Direction::Down, flows } => ("bulk-down", flows, NAME),
        Kind::Bulk { direction: Direction::Up, flows } => ("bulk-up", flows, NAME),
        Kind::Messages { flows, .. } => ("messages", flows, NAME),
        Kind::Connect { at_once } => ("connect", at_once, NAME),
        Kind::Deny { at_once } => ("deny", at_once, FOREIGN),
        Kind::Idle | Kind::Storm => ("idle", 1, NAME),
    };
    let mut args = client(workload, flows, name);
    args.extend(["--seconds".to_owned(), length.as_secs_f64().to_string()]);
    if let Kind::Messages { size, .. } = kind {
        args.extend(["--size".to_owned(), size.to_string()]);
    }
    if let Kind::Connect { .. } = kind {
        // As devices do it.
        args.extend(["--close".to_owned(), "client".to_owned()]);
    }
    if let Kind::Deny { .. } = kind {
        // The peers close without an alert.
        args.extend(["--refusal".to_owned(), "any".to_owned()]);
    }
    args
}

fn client(workload: &str, flows: u32, name: &str) -> Vec<String> {
    let (to, flows) = (endpoint().to_string(), flows.to_string());
    ["load", "client", "--workload", workload, "--to", &to, "--name", name, "--flows", &flows]
        .map(str::to_owned)
        .to_vec()
}

fn number(findings: &Value, key: &str) -> f64 {
    findings.get(key).and_then(Value::as_f64).unwrap_or_default()
}

fn latencies(figures: &mut Figures, findings: &Value) {
    let latency = |key| findings.get("latency_us").map(|all| number(all, key)).unwrap_or_default();
    figures.insert("p50_us", latency("p50"));
    figures.insert("p99_us", latency("p99"));
}

/// How many flows failed; why is told at once.
fn failed(findings: &Value, running: &Running) -> f64 {
    let failed = number(findings, "failed");
    if failed > 0.0 {
        let kinds = findings.get("failures").cloned().unwrap_or_default();
        let status = running.gate().and_then(|gate| gate.status_json().ok()).unwrap_or_default();
        let reasons = status.pointer("/flows/denied_by_reason").cloned().unwrap_or_default();
        eprintln!("{failed} flows failed: {kinds}; refused by the gate: {reasons}");
    }
    failed
}

/// Bytes of ended flows that the gate has counted.
#[derive(Clone, Copy, Debug)]
struct Moved {
    all: f64,
    spliced: f64,
    live: f64,
}

fn bytes_moved(running: &Running) -> Result<Option<Moved>, Failure> {
    let Some(gate) = running.gate() else { return Ok(None) };
    let status = gate.status_json()?;
    let flows = status.get("flows").cloned().unwrap_or_default();
    let all = number(&flows, "bytes_up") + number(&flows, "bytes_down");
    let (spliced, live) = (number(&flows, "bytes_spliced"), number(&flows, "live"));
    Ok(Some(Moved { all, spliced, live }))
}

/// The same when the last flow has ended, which bulk flows do a moment after their client.
fn settled(running: &Running, kind: Kind) -> Result<Option<Moved>, Failure> {
    if !matches!(kind, Kind::Bulk { .. }) {
        return Ok(None);
    }
    let until = Instant::now() + SETTLED_WITHIN;
    loop {
        match bytes_moved(running)? {
            Some(moved) if moved.live > 0.0 && Instant::now() < until => {
                std::thread::sleep(GLANCE);
            }
            moved => return Ok(moved),
        }
    }
}

/// Opens flows step by step and looks at the memory at each.
fn idle(stage: &Stage, running: &Running) -> Result<Figures, Failure> {
    let mut clients = Vec::new();
    let mut points = Vec::new();
    let mut open = 0;
    for step in IDLE_STEPS {
        let mut args = client("idle", step - open, NAME);
        args.extend(["--from".to_owned(), crowd(open, step)]);
        let mut client = Client::start(stage, &args)?;
        client.go()?;
        client.wait_end()?;
        let held = client.held()?;
        if held != u64::from(step - open) {
            return Err(Failure::Other(format!("only {held} of {} flows", step - open)));
        }
        clients.push(client);
        open = step;
        std::thread::sleep(REST);
        points.push((f64::from(step), probe::Memory::now(&running.pids())));
    }
    let pids = running.pids();
    let before = probe::threads(&pids);
    std::thread::sleep(IDLE_WATCHED);
    let own = probe::threads(&pids).since(&before);
    for mut client in clients {
        client.quit()?;
        client.findings()?;
        client.finish()?;
    }
    let kilobytes = |memory: fn(&probe::Memory) -> f64| {
        let points: Vec<_> = points.iter().map(|(flows, at)| (*flows, memory(at))).collect();
        slope(&points) / 1024.0
    };
    Ok(Figures::from([
        ("user_kb_per_flow", kilobytes(|memory| memory.user)),
        ("slab_kb_per_flow", kilobytes(|memory| memory.slab)),
        ("taken_kb_per_flow", -kilobytes(|memory| memory.available)),
        ("idle_core_percent", own / IDLE_WATCHED.as_secs_f64() * 100.0),
    ]))
}

/// Opens flows, lets their devices vanish without a word, and has all come back at once.
fn storm(stage: &Stage, running: &Running) -> Result<Figures, Failure> {
    let flows = storm_flows();
    let pids = running.pids();
    let pid = pids.first().copied().unwrap_or_default();
    let overflows = probe::listen_overflows(pid);
    let empty = probe::Memory::now(&pids).user;
    let mut args = client("idle", flows, NAME);
    args.extend(["--from".to_owned(), crowd(0, flows)]);
    let mut old = Client::start(stage, &args)?;
    old.go()?;
    old.wait_end()?;
    old.held()?;
    std::thread::sleep(REST);
    let old_ones = probe::Memory::now(&pids).user - empty;
    // The old flows' devices lose power: nobody hears how their sockets end.
    stage.swallow_ends()?;
    old.kill();
    let mut args = client("storm", flows, NAME);
    args.extend(["--from".to_owned(), crowd(0, flows), "--hold".to_owned()]);
    let mut new = Client::start(stage, &args)?;
    let busy = probe::busy_seconds();
    let begun = Instant::now();
    new.go()?;
    let peak = peak_while(&pids, || new.wait_end())?;
    let took = begun.elapsed().as_secs_f64();
    let busy = probe::busy_seconds() - busy;
    new.held()?;
    // What twice the flows take in peace. What is left after the storm would be no measure: memory
    // that is never given back is in it.
    let steady = empty + 2.0 * old_ones;
    stage.let_ends_pass()?;
    new.quit()?;
    let findings = new.findings()?;
    new.finish()?;
    Ok(Figures::from([
        ("flows", f64::from(flows)),
        ("failed", failed(&findings, running)),
        ("overflows", probe::listen_overflows(pid) - overflows),
        ("seconds", took),
        ("cpu_us_per_flow", busy / f64::from(flows) * 1e6),
        ("steady_user_mb", steady / 1e6),
        ("peak_user_mb", peak / 1e6),
        ("peak_ratio", peak / steady),
    ]))
}

/// The largest user memory of these processes while something goes on.
fn peak_while(pids: &[u32], work: impl FnOnce() -> Result<(), Failure>) -> Result<f64, Failure> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut peak: f64 = 0.0;
            while !over.load(Ordering::Relaxed) {
                peak = peak.max(probe::Memory::now(pids).user);
                std::thread::sleep(GLANCE);
            }
            peak.max(probe::Memory::now(pids).user)
        });
        let done = work();
        over.store(true, Ordering::Relaxed);
        let peak = watcher.join().unwrap_or_default();
        done.map(|()| peak)
    })
}

/// How many come back: 9,000, or what the descriptors of one process allow, with two for each flow
/// and twice the flows.
pub(crate) fn storm_flows() -> u32 {
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    u32::try_from(limit.saturating_sub(SPARE_DESCRIPTORS) / 4).unwrap_or(u32::MAX).min(STORM)
}

/// How much the second grows with the first, by least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.iter().fold(0.0, |count, _| count + 1.0);
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let covariance: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let variance: f64 = points.iter().map(|(x, _)| (x - mean_x) * (x - mean_x)).sum();
    covariance / variance
}

/// How many devices a storm has, where descriptors allow it.
pub(crate) const STORM: u32 = 9_000;
const IDLE_STEPS: [u32; 3] = [1_000, 5_000, 9_000];
/// For listeners, logs and pipes beside the flows.
const SPARE_DESCRIPTORS: u64 = 1_000;
/// Until what was needed only at the beginning is given back.
const REST: Duration = Duration::from_secs(2);
/// Long enough to see a thousandth of a core.
const IDLE_WATCHED: Duration = Duration::from_secs(5);
const SETTLED_WITHIN: Duration = Duration::from_secs(2);
const GLANCE: Duration = Duration::from_millis(20);
