//! SIGHUP: what changes, what stays, and what is refused.

use std::sync::mpsc;

use sluicegate::lab::device::{Call, Failure, tls_connect};
use sluicegate::lab::services::{BUCKET, Blob, IOT_CREDENTIALS, IOT_DATA};
use sluicegate::lab::topology::DEVICES;
use sluicegate::lab::{Daemon, inside};
use tokio::io::AsyncReadExt;
use tokio::sync::oneshot;

use super::gate::*;

/// The policy hash in force.
fn hash(daemon: &Daemon) -> String {
    daemon.status_json().unwrap()["policy"]["hash"].as_str().unwrap().to_owned()
}

fn reload(daemon: &Daemon, config: &str) {
    let before = hash(daemon);
    daemon.reload(config).unwrap();
    until_status(daemon, "the new policy", |status| status["policy"]["hash"] != before.as_str());
}

fn reload_refused(daemon: &Daemon, config: &str, sentence: &str) {
    let before = hash(daemon);
    daemon.reload(config).unwrap();
    let status = until_status(daemon, sentence, |status| {
        status["policy"]["refused_reload"].as_str().is_some_and(|text| text.contains(sentence))
    });
    assert_eq!(status["policy"]["hash"], before.as_str(), "the old policy stays");
    assert_eq!(status["healthy"], false);
    assert_eq!(problem_codes(&status), ["reload_refused"]);
    let told = daemon.subcommand(&["status"]).unwrap();
    assert_eq!(told.status.code(), Some(4));
    assert!(stdout(&told).contains("The last reload was refused"), "{}", stdout(&told));
}

#[test]
fn a_reload_cuts_what_is_withdrawn_and_nothing_else() {
    inside::test("reload::a_reload_cuts_what_is_withdrawn_and_nothing_else", || {
        let lab = lab();
        let daemon = start(&lab);
        // Press and gateway may both use iot-data; the press will not any more.
        let without = lab.daemon_config().replacen(
            "allow   = [\"iot-data\", \"iot-credentials\"]",
            "allow   = [\"iot-credentials\", \"s3\"]",
            1,
        );
        assert_ne!(without, lab.daemon_config());
        let (go_on, told) = oneshot::channel();
        let (connected, ready) = mpsc::channel();
        let published = connected.clone();
        let pki = lab.pki();
        let size = 20_000_003;
        let kept = lab.device(1).spawn(async move || {
            let session = tls_connect(&pki, &Call::new(dialled(S3, 443), BUCKET)).await?;
            connected.send(()).unwrap();
            told.await.unwrap();
            session.get(&format!("/blob?size={size}")).await
        });
        let (pki, mqtt) = (lab.pki(), Call::new(dialled(IOT, 8883), IOT_DATA).with_certificate());
        let withdrawn = lab.device(0).spawn(async move || {
            let mut session = tls_connect(&pki, &mqtt).await.unwrap();
            session.mqtt_publish("press/3", b"x").await.unwrap();
            published.send(()).unwrap();
            // Nobody sends anything more: the read ends when the flow does.
            use tokio::io::AsyncReadExt as _;
            session.stream().read(&mut [0; 16]).await.map_err(|error| error.kind())
        });
        until_ready(&ready, "the first flow");
        until_ready(&ready, "the second flow");
        assert!(get(&lab, 0, dialled(S3, 443), BUCKET).is_err(), "not allowed yet");

        reload(&daemon, &without);
        assert_eq!(withdrawn.join(), Err(std::io::ErrorKind::ConnectionReset));
        let record = until_record(&lab, "the withdrawal", |record| {
            record["status_code"] == "policy_withdrawn"
        });
        assert_eq!(record["src_endpoint"]["ip"], DEVICES[0].address.to_string());
        go_on.send(()).unwrap();
        let kept = kept.join().expect("a flow that is still granted lives on");
        assert_eq!((kept.bytes, kept.sha256), (size, Blob::sha256(size)));

        // New flows go by the new policy.
        let skip = records(&lab).len();
        let refused = get(&lab, 0, dialled(IOT, 443), IOT_DATA);
        assert!(matches!(refused, Err(Failure::TlsAlert(_))), "{refused:?}");
        let record = until_end_behind(&lab, skip, DEVICES[0].address.into());
        assert_eq!(record["status_code"], "device_not_allowed");
        assert!(get(&lab, 0, dialled(S3, 443), BUCKET).is_ok());
        assert!(get(&lab, 0, dialled(IOT, 443), IOT_CREDENTIALS).is_ok());
        assert!(get(&lab, 1, dialled(IOT, 443), IOT_DATA).is_ok());
        assert_eq!(lab.leaked_packets().unwrap(), 0);
        until_status(&daemon, "all ends", |status| status["flows"]["live"] == 0);
        assert_log(&lab);
    });
}

#[test]
fn a_reload_that_cannot_be_leaves_everything_as_it_was() {
    inside::test("reload::a_reload_that_cannot_be_leaves_everything_as_it_was", || {
        let lab = lab();
        let daemon = start(&lab);
        let config = lab.daemon_config();
        let served = || assert!(get(&lab, 0, dialled(IOT, 443), IOT_DATA).is_ok());
        served();
        reload_refused(&daemon, &config.replace("[policy]", "[polity]"), "polity");
        served();
        // Nothing is left of it but the place where the gate is asked.
        let admin = &config[config.find("[admin]").unwrap()..];
        reload_refused(&daemon, admin, "not valid");
        served();
        let fixed = [
            ("[dns]\n", "[intercept]\nport = 15999\n\n[dns]\n", "[intercept] port"),
            ("[dns]\n", "[intercept]\ndata-threads = 1\n\n[dns]\n", "[intercept] data-threads"),
            ("/audit\"", "/elsewhere\"", "[audit] directory"),
            ("\"augsburg-2\"", "\"augsburg-3\"", "[site] name"),
        ];
        for (from, to, what) in fixed {
            let changed = config.replacen(from, to, 1);
            assert_ne!(changed, config);
            let sentence = format!("{what} cannot change while the gate runs; restart it");
            reload_refused(&daemon, &changed, &sentence);
            served();
        }
        let missing = config.replace("[\"lan0\"]", "[\"lan9\"]");
        reload_refused(&daemon, &missing, "the device interface lan9 does not exist");
        // The file says something else than the kernel has, which is still the old plan.
        assert!(daemon.subcommand(&["nft", "verify"]).unwrap().status.code() == Some(1));
        served();
        reload(&daemon, &format!("{config}\n# as it was, but for this line\n"));
        let status = daemon.status_json().unwrap();
        assert_eq!((&status["healthy"], problem_codes(&status)), (&true.into(), vec![]));
        assert!(status["policy"]["refused_reload"].is_null());
        served();
        assert!(daemon.subcommand(&["nft", "verify"]).unwrap().status.success());
        assert_eq!(lab.leaked_packets().unwrap(), 0);
    });
}

#[test]
fn a_reload_cuts_a_flow_whose_address_is_withdrawn() {
    inside::test("reload::a_reload_cuts_a_flow_whose_address_is_withdrawn", || {
        let lab = lab();
        let daemon = start(&lab);
        let (connected, ready) = mpsc::channel();
        let pki = lab.pki();
        let cut = lab.device(0).spawn(async move || {
            let call = Call::new(dialled(IOT, 8883), IOT_DATA).with_certificate();
            let mut session = tls_connect(&pki, &call).await.unwrap();
            session.mqtt_publish("press/3", b"x").await.unwrap();
            connected.send(()).unwrap();
            session.stream().read(&mut [0]).await.map_err(|error| error.kind())
        });
        until_ready(&ready, "the publication");
        let host = format!("host = \"{IOT_DATA}\"\n");
        let elsewhere = format!("{host}networks = [\"10.20.9.0/24\"]\n");
        reload(&daemon, &lab.daemon_config().replacen(&host, &elsewhere, 1));
        // The permission is the same; the address that it was connected to is not the endpoint's.
        assert_eq!(cut.join(), Err(std::io::ErrorKind::ConnectionReset));
        until_record(&lab, "the cut", |record| record["status_code"] == "policy_withdrawn");
        let refused = get(&lab, 0, dialled(IOT, 443), IOT_DATA);
        assert!(refused.is_err(), "{refused:?}");
        until_record(&lab, "the refusal", |r| r["status_code"] == "address_outside_endpoint");
        assert_log(&lab);
    });
}
