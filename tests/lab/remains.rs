//! A lab is gone when its process is, however that ended, and everybody can have one.

use std::path::Path;
use std::process::{Command, Stdio};

use sluicegate::lab::device::Failure;
use sluicegate::lab::inside;
use sluicegate::lab::topology::public;

use super::{SILENCE, SOON, lab, private, reach};

#[test]
fn a_panic_inside_is_a_failure_outside() {
    if inside::is_inside() {
        return inside::test("remains::a_panic_inside_is_a_failure_outside", || {
            let lab = lab();
            lab.device(0).run(async || panic!("as intended"));
        });
    }
    let ended = inside::run_test("remains::a_panic_inside_is_a_failure_outside").unwrap();
    assert!(!ended.status.success() && ended.entered);
    assert!(ended.output.contains("as intended"), "{}", ended.output);
    assert!(!ended.directory.exists());
    let nothing = std::panic::catch_unwind(|| inside::test("no_such_test", || ()));
    assert!(nothing.is_err(), "a test that does not exist must not pass");
}

/// Numbers of all processes in the user namespace of this name.
fn processes_in(namespace: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let inside = entries.filter(|entry| {
        let link = std::fs::read_link(entry.path().join("ns/user"));
        link.is_ok_and(|link| link.to_string_lossy() == namespace)
    });
    inside.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Waits until nothing lives in the namespace: the kernel kills what was started when its parent
/// dies, not before that.
fn await_end(namespace: &str) {
    let until = std::time::Instant::now() + SOON;
    while !processes_in(namespace).is_empty() {
        let left = processes_in(namespace);
        assert!(std::time::Instant::now() < until, "still there: {left:?}");
        std::thread::yield_now();
    }
}

#[test]
fn nothing_is_left_behind() {
    let own = "remains::nothing_is_left_behind";
    if inside::is_inside() {
        return inside::test(own, || {
            let lab = lab();
            let process = lab.start_process(lab.device(0), "sleep", &["1000"]).unwrap();
            let namespace = std::fs::read_link("/proc/self/ns/user").unwrap();
            let namespace = namespace.to_string_lossy();
            assert!(processes_in(&namespace).contains(&process.pid().to_string()));
            println!("namespace {namespace}.");
            std::mem::forget((lab, process));
            // As a crash does it: without a single destructor.
            std::process::abort();
        });
    }
    let named = || std::fs::read_dir("/run/netns").map(Iterator::count).unwrap_or(0);
    let before = named();
    let ended = inside::run_test(own).unwrap();
    assert!(ended.entered && !ended.status.success());
    assert!(!ended.directory.exists());
    let (_, rest) = ended.output.split_once("namespace ").expect("it said its namespace");
    let (namespace, _) = rest.split_once('.').unwrap();
    assert!(namespace.starts_with("user:["), "{namespace}");
    await_end(namespace);
    assert_eq!(named(), before);
}

#[test]
fn an_unprivileged_user_has_a_lab_too() {
    let directory = std::env::temp_dir().join(format!("lab-test-{}", std::process::id()));
    if !rustix::process::geteuid().is_root() {
        return a_lab_for_anybody();
    }
    // A copy, because the build directory may be closed to others.
    std::fs::create_dir(&directory).unwrap();
    let program = directory.join("program");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"])
        .arg(&program)
        .args(["--exact", "remains::anybody_has_a_lab", "--nocapture"])
        .current_dir("/")
        .env("PATH", "/usr/bin:/bin")
        .output();
    std::fs::remove_dir_all(&directory).unwrap();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{output:?}");
}

#[test]
fn anybody_has_a_lab() {
    a_lab_for_anybody();
}

fn a_lab_for_anybody() {
    inside::test("remains::anybody_has_a_lab", || {
        let lab = lab();
        lab.zone_down("eu-central-1b").unwrap();
        assert_eq!(reach(&lab, private(0, 11, 443), SOON), Ok(()));
        assert_eq!(reach(&lab, private(1, 11, 443), SILENCE), Err(Failure::TimedOut));
        let [public, _] = public(11);
        assert_eq!(reach(&lab, (public, 443).into(), SOON), Ok(()));
        assert!(lab.leaked_packets().unwrap() > 0);
    });
}

#[test]
fn a_signal_outside_ends_everything_inside() {
    let directory = std::env::temp_dir().join(format!("lab-signal-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let report = directory.join("report");
    let mut outer = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "remains::stay", "--nocapture"])
        .env(STAY, &report)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (namespace, lab) = loop {
        let text = std::fs::read_to_string(&report).unwrap_or_default();
        if let Some((namespace, lab)) = text.trim_end_matches('\n').split_once(' ') {
            break (namespace.to_owned(), Path::new(lab).to_owned());
        }
        assert_eq!(outer.try_wait().unwrap(), None, "it ended before it was up");
        std::thread::yield_now();
    };
    assert!(lab.exists() && processes_in(&namespace).len() >= 2);
    let pid = rustix::process::Pid::from_child(&outer);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(outer.wait().unwrap().code(), Some(130));
    assert!(!lab.exists(), "{} is left behind", lab.display());
    await_end(&namespace);
    std::fs::remove_dir_all(&directory).unwrap();
}

/// The lab that the test above ends; does nothing in a run of all tests.
#[test]
fn stay() {
    let Some(report) = std::env::var_os(STAY) else { return };
    inside::test("remains::stay", || {
        let lab = lab();
        let _process = lab.start_process(lab.device(0), "sleep", &["1000"]).unwrap();
        let namespace = std::fs::read_link("/proc/self/ns/user").unwrap();
        let text = format!("{} {}\n", namespace.display(), lab.directory().display());
        let whole = Path::new(&report).with_extension("new");
        std::fs::write(&whole, text).unwrap();
        std::fs::rename(whole, report).unwrap();
        loop {
            std::thread::park();
        }
    });
}

const STAY: &str = "SLUICEGATE_LAB_TEST_STAY";
