//! A disk that is really full under the real gate: a small tmpfs.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use rustix::mount::{MountFlags, mount};
use sluicegate::lab::device::{Call, Failure, tls_connect};
use sluicegate::lab::inside;
use sluicegate::lab::services::IOT_DATA;
use tokio::sync::watch;

use crate::counted::{assert_recorded_first, count, end};
use crate::crowd::Plant;
use crate::gate::*;
use crate::number;

/// Flows that are open when the disk is full: their ends need more room than is kept for ends.
const RUNNING: usize = 300;

#[test]
fn a_full_disk_refuses_says_so_and_heals() {
    inside::test("full::a_full_disk_refuses_says_so_and_heals", || {
        let plant = Plant::up();
        let log = audit_directory(&plant.lab);
        fs::create_dir(&log).unwrap();
        mount("tmpfs", &log, "tmpfs", MountFlags::empty(), Some(c"size=8m,mode=750")).unwrap();
        let daemon = plant.start();
        let (go_on, told) = watch::channel(());
        let (connected, ready) = mpsc::channel();
        let pki = plant.lab.pki();
        let running = plant.lab.device(0).spawn(async move || {
            let mut flows = tokio::task::JoinSet::new();
            for _ in 0..RUNNING {
                let session = tls_connect(&pki, &Call::new(dialled(IOT, 443), IOT_DATA)).await?;
                connected.send(()).unwrap();
                let mut told = told.clone();
                flows.spawn_local(async move {
                    told.changed().await.unwrap();
                    Ok::<_, Failure>(session.get("/").await?.status)
                });
            }
            Ok::<_, Failure>(flows.join_all().await)
        });
        (0..RUNNING).for_each(|_| until_ready(&ready, "a flow that runs on"));

        let ballast = log.join("ballast");
        fill(&ballast);
        let load = plant.load(u64::MAX, 16);
        let status = until_status(&daemon, "a full disk", |status| status["healthy"] == false);
        assert_eq!(status["audit"]["full"], true, "{status}");
        let text = daemon.subcommand(&["status"]).unwrap();
        assert_eq!(text.status.code(), Some(4));
        assert!(stdout(&text).contains("DEGRADED"), "{}", stdout(&text));
        // Nothing more gets through.
        until("refusals", || {
            let strange: u64 = plant.seen.strange.lock().unwrap().values().sum();
            (strange > 50).then_some(())
        });
        let reached = plant.seen.count.load(Ordering::Relaxed);

        // The flows that run are served, and end.
        go_on.send(()).unwrap();
        let ended = running.join().unwrap();
        assert!(ended.iter().all(|end| *end == Ok(200)), "{ended:?}");
        std::thread::sleep(Duration::from_secs(number("SLUICEGATE_TEST_FULL_SECONDS", 0)));
        assert_eq!(plant.seen.count.load(Ordering::Relaxed), reached, "refused all the time");

        fs::remove_file(&ballast).unwrap();
        until_status(&daemon, "health", |status| status["healthy"] == true);
        until("new flows", || {
            (plant.seen.count.load(Ordering::Relaxed) > reached + 50).then_some(())
        });
        plant.stop();
        load.join();
        end(&daemon);
        let counted = count(&plant);
        assert_recorded_first(&plant, &counted);
        assert!(counted.ends[&(5, "audit_unavailable".to_owned())] > 50, "{counted:?}");
        assert!(counted.system.contains_key("outage"), "{:?}", counted.system);
    });
}

/// Takes all room but for some flows.
fn fill(ballast: &std::path::Path) {
    let mut file = OpenOptions::new().create(true).append(true).open(ballast).unwrap();
    let block = vec![1; 64 << 10];
    while file.write_all(&block).is_ok() {}
}
