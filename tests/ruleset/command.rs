//! `sluicegate nft` and its exit codes.

use std::process::{Command, Output};

use sluicegate::config;
use sluicegate::intercept::{Plan, render};
use sluicegate::lab::inside;
use sluicegate::policy::Policy;

use super::gate::{BINARY, stderr, stdout};
use super::{feed, said};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/appliance/sluicegate.toml.example");

fn nft(action: &str) -> Output {
    Command::new(BINARY).args(["nft", action, "--config", EXAMPLE]).output().unwrap()
}

#[track_caller]
fn assert_ended(output: &Output, code: i32, said: &str) {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    let text = stdout(output) + &stderr(output);
    assert!(text.contains(said), "{text}");
}

#[test]
fn the_commands_do_what_their_exit_codes_say() {
    inside::test("command::the_commands_do_what_their_exit_codes_say", || {
        let loaded = config::load(EXAMPLE.as_ref()).unwrap();
        let plan = Plan::new(&loaded.site, Policy::compile(&loaded.site).ports());
        let printed = nft("print");
        assert_ended(&printed, 0, "");
        assert_eq!((stdout(&printed), stderr(&printed)), (render::text(&plan), String::new()));
        assert!(!said("nft", "list tables").contains("sluicegate"), "printing changes nothing");

        assert_ended(&nft("verify"), 1, "no table `inet sluicegate`");
        assert_ended(&nft("apply"), 0, "");
        assert_ended(&nft("verify"), 0, "are those of the configuration");
        assert!(said("ip", "rule").contains("lookup 5100"));

        feed("add element inet sluicegate vpc_v4 { 198.51.100.0/24 }\n");
        let differs = nft("verify");
        assert_ended(&differs, 1, "198.51.100.0");
        assert!(stdout(&differs).is_empty(), "what is wrong is a note");
        assert_ended(&nft("apply"), 0, "");
        assert_ended(&nft("verify"), 0, "");

        for _ in 0..2 {
            let clear = Command::new(BINARY).args(["nft", "clear"]).output().unwrap();
            assert_ended(&clear, 0, "");
            assert_ended(&nft("verify"), 1, "no table");
            assert!(!said("ip", "rule").contains("5100"));
        }
    });
}

#[test]
fn the_commands_say_what_they_need() {
    inside::test("command::the_commands_say_what_they_need", || {
        let unprivileged = |action: &str| {
            let args = ["--bounding-set", "-net_admin", BINARY, "nft", action, "--config", EXAMPLE];
            Command::new("setpriv").args(args).output().unwrap()
        };
        assert_ended(&unprivileged("print"), 0, "table inet sluicegate");
        assert_ended(&unprivileged("verify"), 1, "run as root or with CAP_NET_ADMIN");
        assert_ended(&unprivileged("apply"), 1, "run as root or with CAP_NET_ADMIN");
        assert!(!said("ip", "rule").contains("5100"), "half applied");
        let args = ["--bounding-set", "-net_admin", BINARY, "nft", "clear"];
        let clear = Command::new("setpriv").args(args).output().unwrap();
        assert_ended(&clear, 1, "run as root or with CAP_NET_ADMIN");

        let broken = Command::new(BINARY).args(["nft", "apply", "--config", "/dev/null"]).output();
        assert_ended(&broken.unwrap(), 2, "[site]");
        assert!(!said("nft", "list tables").contains("sluicegate"));
    });
}
