//! SIGTERM, once and twice.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use sluicegate::lab::device::{Call, Failure, tcp_connect, tls_connect};
use sluicegate::lab::inside;
use sluicegate::lab::party::Work;
use sluicegate::lab::services::IOT_DATA;
use sluicegate::lab::{Daemon, Lab};
use tokio::io::AsyncReadExt;
use tokio::sync::oneshot;

use super::gate::*;

/// A flow that is open and silent until it is told to go on: then it makes one request and closes.
struct Waiting {
    go_on: oneshot::Sender<()>,
    end: Work<Result<u16, Failure>>,
}

fn waiting_flow(lab: &Lab, daemon: &Daemon) -> Waiting {
    let (go_on, told) = oneshot::channel();
    let (connected, ready) = mpsc::channel();
    let pki = lab.pki();
    let end = lab.device(0).spawn(async move || {
        let session = tls_connect(&pki, &Call::new(dialled(IOT, 443), IOT_DATA)).await?;
        connected.send(()).unwrap();
        // A sender that is gone says the same.
        let _ = told.await;
        Ok(session.get("/").await?.status)
    });
    until_ready(&ready, "the flow");
    assert_eq!(daemon.status_json().unwrap()["flows"]["live"], 1);
    Waiting { go_on, end }
}

/// Waits until the gate accepts nothing more.
fn until_draining(lab: &Lab) {
    until("no more flows", || {
        (attempt(lab, 2, Way::Tcp(dialled(IOT, 443))) == Err(Failure::Refused)).then_some(())
    });
}

fn assert_gone(lab: &Lab, daemon: &Daemon) {
    let status = daemon.wait(SOON).unwrap().expect("it ends");
    assert_eq!(status.code(), Some(0), "{}", daemon.stderr_text());
    assert!(!lab.directory().join("control.sock").exists(), "the socket file stays behind");
    let verified = daemon.subcommand(&["nft", "verify"]).unwrap();
    assert!(verified.status.success(), "the rules must stay: {verified:?}");
    assert!(ip(lab, "rule").contains("lookup 5100"));
    assert_all_refused(lab, Gate::Away, "after the end");
}

#[test]
fn a_flow_in_progress_may_end_before_the_gate_does() {
    inside::test("drain::a_flow_in_progress_may_end_before_the_gate_does", || {
        let lab = lab();
        let daemon = start(&lab);
        let flow = waiting_flow(&lab, &daemon);
        daemon.signal(Signal::TERM).unwrap();
        until_draining(&lab);
        flow.go_on.send(()).unwrap();
        assert_eq!(flow.end.join(), Ok(200), "{}", daemon.stderr_text());
        assert_gone(&lab, &daemon);
        let records = assert_log(&lab);
        assert!(records.iter().all(|record| record["status_code"] != "drained"), "{records:?}");
        let allowed = records.iter().filter(|record| record["activity_id"] == 1).count();
        assert_eq!(allowed, 1);
        assert_eq!(lab.leaked_packets().unwrap(), 0);
    });
}

#[test]
fn what_the_kernel_has_accepted_at_the_end_is_refused_on_record() {
    inside::test("drain::what_the_kernel_has_accepted_at_the_end_is_refused_on_record", || {
        let lab = lab();
        let daemon = start(&lab);
        // Stopped, it accepts nothing; the kernel does it in its place.
        daemon.signal(Signal::STOP).unwrap();
        let waiting = lab.device(0).run(async || {
            let mut streams = Vec::new();
            for _ in 0..20 {
                streams.push(tcp_connect(dialled(IOT, 443), SOON).await.unwrap());
            }
            streams
        });
        daemon.signal(Signal::TERM).unwrap();
        daemon.signal(Signal::CONT).unwrap();
        let ends = lab.device(0).run(async move || {
            let mut ends = Vec::new();
            for mut stream in waiting {
                ends.push(tokio::time::timeout(SOON, stream.read(&mut [0; 64])).await);
            }
            ends
        });
        assert!(ends.iter().all(Result::is_ok), "told at once: {ends:?}");
        assert_gone(&lab, &daemon);
        let records = assert_log(&lab);
        // A thread that woke before it was told to drain took some on, to wait for their hello.
        let refused = records.iter().filter(|record| record["activity_id"] == 5);
        let codes: Vec<_> = refused.map(|record| record["status_code"].as_str().unwrap()).collect();
        assert_eq!(codes.len(), 20, "{codes:?}");
        let right = ["shutting_down", "hello_timeout"];
        assert!(codes.iter().all(|code| right.contains(code)), "{codes:?}");
    });
}

#[test]
fn a_second_signal_ends_at_once_and_on_record() {
    inside::test("drain::a_second_signal_ends_at_once_and_on_record", || {
        let lab = lab();
        let daemon = start(&lab);
        let flow = waiting_flow(&lab, &daemon);
        daemon.signal(Signal::TERM).unwrap();
        until_draining(&lab);
        let asked = Instant::now();
        daemon.signal(Signal::TERM).unwrap();
        daemon.wait(SOON).unwrap().expect("it ends");
        // The patience with flows is five seconds.
        assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
        assert_gone(&lab, &daemon);
        drop(flow.go_on);
        let end = flow.end.join().expect_err("the flow was cut");
        assert_ne!(end, Failure::TimedOut);
        let records = assert_log(&lab);
        let drained = records.iter().filter(|record| record["status_code"] == "drained").count();
        assert_eq!(drained, 1, "{records:?}");
        assert_eq!(lab.leaked_packets().unwrap(), 0);
    });
}
