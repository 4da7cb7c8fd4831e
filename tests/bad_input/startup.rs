//! A start that fails says why in one sentence, and leaves everything as it was.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;

use sluicegate::lab::services::IOT_DATA;
use sluicegate::lab::{Lab, inside};

use super::gate::*;
use super::mistakes::TEN_MISTAKES;

/// The gate must not start: exit code 1, one sentence, nothing half-applied.
#[track_caller]
fn assert_fails(lab: &Lab, by: &[&str], config: &str, sentence: &str) {
    let before = traces(lab);
    let file = write_config(lab, "failing.toml", config);
    let output = sluicegate_by(lab, by, &["run", "--config", &file]);
    assert_eq!(output.status.code(), Some(1), "{sentence}: {output:?}");
    let text = stderr(&output);
    let told: Vec<&str> = text.lines().filter(|line| line.starts_with("sluicegate: ")).collect();
    assert_eq!(told.len(), 1, "{sentence}: {text}");
    assert!(told[0].contains(sentence), "wanted `{sentence}`: {text}");
    assert!(text.ends_with(&format!("{}\n", told[0])), "one sentence, and the last: {text}");
    assert_eq!(traces(lab), before, "{sentence}: half-applied");
}

/// Everything that a gate puts somewhere: tables, routing, socket file.
fn traces(lab: &Lab) -> Vec<String> {
    let routing = ["rule", "-6 rule", "route show table all", "-6 route show table all"];
    // The kernel's own routes come and go.
    let own = |text: String| text.lines().filter(|line| line.contains("5100")).collect();
    let mut traces: Vec<String> = routing.map(|words| own(ip(lab, words))).into();
    traces.push(nft(lab, "list tables"));
    let sockets = ["control.sock", "other.sock"];
    traces.extend(sockets.map(|name| lab.directory().join(name).exists().to_string()));
    traces
}

/// A configuration whose files and port are not those of the lab's gate.
fn elsewhere(lab: &Lab) -> String {
    let config = lab.daemon_config().replace("/audit\"", "/audit-2\"");
    config.replace("control.sock", "other.sock") + "\n[intercept]\nport = 15999\n"
}

#[test]
fn a_start_that_fails_says_why_and_leaves_nothing() {
    inside::test("startup::a_start_that_fails_says_why_and_leaves_nothing", || {
        let lab = lab();
        let config = lab.daemon_config();
        assert_fails(
            &lab,
            &["env", "PATH=/nonexistent"],
            &config,
            "install the package `nftables`",
        );
        let unprivileged = ["setpriv", "--bounding-set", "-net_admin"];
        assert_fails(&lab, &unprivileged, &config, "run as root or with CAP_NET_ADMIN");
        // Nobody in particular: another user, who owns nothing here.
        assert_fails(&lab, &["unshare", "--user"], &config, "run as root or with CAP_NET_ADMIN");

        let missing = config.replace("[\"lan0\"]", "[\"lan9\"]");
        assert_fails(&lab, &[], &missing, "the device interface lan9 does not exist (there are: ");
        let file = write_config(&lab, "in-the-way", "");
        for unwritable in [format!("{file}/audit"), "/proc/sluicegate".to_owned()] {
            let directory = format!("{}/audit", lab.directory().display());
            let config = config.replace(&directory, &unwritable);
            assert_fails(&lab, &[], &config, "check that the directory is on a working disk");
        }
        let socket = format!("{}/control.sock", lab.directory().display());
        let config_socket = config.replace(&socket, &format!("{file}/control.sock"));
        assert_fails(&lab, &[], &config_socket, "cannot make the control socket");
        let taken = lab.edge().run(async || TcpListener::bind((Ipv4Addr::LOCALHOST, 15_443)));
        assert_fails(&lab, &[], &config, "another program has the port");
        drop(taken);
        assert_fails(
            &lab,
            &["env", &fake_nft(&lab)],
            &config,
            "nft failed while applying the ruleset",
        );

        // After all of that, it starts.
        let _daemon = start(&lab);
        assert!(get(&lab, 0, dialled(IOT, 443), IOT_DATA).is_ok());
    });
}

/// A `PATH` with an nft that may look but not change, as under a security module.
fn fake_nft(lab: &Lab) -> String {
    let directory = lab.directory().join("bin");
    std::fs::create_dir(&directory).unwrap();
    let script = "#!/bin/sh\ncase \"$*\" in *list*) exec /usr/sbin/nft \"$@\";; esac\n\
                  cat >/dev/null\necho 'Error: no room' >&2\nexit 1\n";
    let file = directory.join("nft");
    std::fs::write(&file, script).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    format!("PATH={}:/usr/sbin:/usr/bin:/sbin:/bin", directory.display())
}

#[test]
fn a_second_gate_does_not_start_beside_the_first() {
    inside::test("startup::a_second_gate_does_not_start_beside_the_first", || {
        let lab = lab();
        let daemon = start(&lab);
        let same_audit = elsewhere(&lab).replace("/audit-2\"", "/audit\"");
        assert_fails(&lab, &[], &same_audit, "is in use by another process");
        let same_socket = elsewhere(&lab).replace("other.sock", "control.sock");
        assert_fails(&lab, &[], &same_socket, "another sluicegate listens there already");
        let same_port = elsewhere(&lab).replace("15999", "15443");
        assert_fails(&lab, &[], &same_port, "is a second sluicegate running?");
        assert!(get(&lab, 0, dialled(IOT, 443), IOT_DATA).is_ok(), "the first serves on");
        assert!(daemon.subcommand(&["nft", "verify"]).unwrap().status.success());
        assert_eq!(daemon.status_json().unwrap()["rules"]["restored_total"], 0);
    });
}

#[test]
fn what_an_earlier_crash_left_is_replaced() {
    inside::test("startup::what_an_earlier_crash_left_is_replaced", || {
        let lab = lab();
        nft(
            &lab,
            "table inet sluicegate {
             set vpc_v4 { type mark; elements = { 7 }; }
             counter udp_blocked { packets 7 bytes 7; }
             chain old { type filter hook prerouting priority -200; policy drop; }
             chain forward { type filter hook forward priority 3; }
             }",
        );
        ip(&lab, "rule add fwmark 0x51c00001 lookup 5100 priority 100");
        ip(&lab, "route add local default dev lo table 5100");
        let socket = lab.directory().join("control.sock");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        assert!(socket.exists());
        let daemon = start(&lab);
        assert!(daemon.subcommand(&["nft", "verify"]).unwrap().status.success());
        assert_eq!(ip(&lab, "rule").matches("lookup 5100").count(), 1);
        assert!(get(&lab, 0, dialled(IOT, 443), IOT_DATA).is_ok());
        assert_all_refused(&lab, Gate::Running, "after a replaced table");
    });
}

#[test]
fn ten_mistakes_are_told_at_once() {
    inside::test("startup::ten_mistakes_are_told_at_once", || {
        let lab = lab();
        let before = traces(&lab);
        let file = write_config(&lab, "ten.toml", TEN_MISTAKES);
        let output = sluicegate(&lab, &["run", "--config", &file]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let text = stderr(&output);
        let errors = text.lines().filter(|line| line.starts_with("error")).count();
        assert_eq!(errors, 10, "{text}");
        for line in [3, 6, 7, 9, 10, 12, 16, 17, 19, 21] {
            assert!(text.contains(&format!("ten.toml:{line}:")), "line {line}: {text}");
        }
        assert_eq!(traces(&lab), before);

        let missing = sluicegate(&lab, &["run", "--config", "/nonexistent/sluicegate.toml"]);
        assert_eq!(missing.status.code(), Some(2), "{missing:?}");
        assert!(stderr(&missing).contains("/nonexistent/sluicegate.toml"), "{missing:?}");
    });
}
