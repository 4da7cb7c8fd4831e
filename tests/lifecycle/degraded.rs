//! What `status` says, and what the gate does, while something is wrong.

use serde_json::Value;
use sluicegate::lab::services::{IOT_CREDENTIALS, IOT_DATA};
use sluicegate::lab::topology::{DEVICES, ZONES};
use sluicegate::lab::{Daemon, Lab, inside};

use super::gate::*;

/// Waits until a problem shows, and until everything is told of it.
fn until_told(daemon: &Daemon, code: &str) -> Value {
    let status = until_status(daemon, code, |status| problem_codes(status).contains(&code));
    assert_eq!(status["healthy"], false);
    let text = daemon.subcommand(&["status"]).unwrap();
    assert_eq!(text.status.code(), Some(4), "{text:?}");
    assert_eq!(daemon.subcommand(&["status", "--json"]).unwrap().status.code(), Some(4));
    let text = stdout(&text);
    assert!(text.contains("DEGRADED"), "{text}");
    for problem in list(&status["problems"]) {
        let [sentence, remedy] = ["sentence", "remedy"].map(|key| problem[key].as_str().unwrap());
        assert!(sentence.ends_with(['.', ')']) && remedy.ends_with('.'), "{problem}");
        if problem["code"] == code {
            assert!(text.contains(sentence) && text.contains(remedy), "{problem} in {text}");
        }
    }
    status
}

fn until_healthy(daemon: &Daemon) {
    until_status(daemon, "health", |status| status["healthy"] == true);
    let text = daemon.subcommand(&["status"]).unwrap();
    assert_eq!(text.status.code(), Some(0), "{text:?}");
    assert!(stdout(&text).contains("augsburg-2 is healthy"), "{}", stdout(&text));
}

fn refused_with(lab: &Lab, name: &str) -> Value {
    let skip = records(lab).len();
    get(lab, 0, dialled(IOT, 443), name).expect_err("refused");
    until_end_behind(lab, skip, DEVICES[0].address.into())["status_code"].clone()
}

#[test]
fn status_tells_what_is_wrong_and_what_to_do() {
    inside::test("degraded::status_tells_what_is_wrong_and_what_to_do", || {
        let lab = lab();
        let config = write_config(&lab, "site.toml", &lab.daemon_config());
        let nobody = sluicegate(&lab, &["status", "--config", &config]);
        assert_eq!(nobody.status.code(), Some(1));
        assert!(stdout(&nobody).is_empty());
        assert!(stderr(&nobody).contains("no gate runs here"), "{nobody:?}");

        let daemon = start(&lab);
        until_healthy(&daemon);
        lab.tunnel_down(1).unwrap();
        until_told(&daemon, "tunnel_interface_down");
        assert!(get(&lab, 0, dialled(IOT, 443), IOT_DATA).is_ok(), "by the second tunnel");
        lab.tunnel_down(2).unwrap();
        until_told(&daemon, "tunnel_down");
        assert_eq!(refused_with(&lab, IOT_DATA), "tunnel_down");
        lab.tunnel_up(1).unwrap();
        lab.tunnel_up(2).unwrap();
        until_healthy(&daemon);

        lab.zone().remove_private(IOT_CREDENTIALS);
        let status = until_told(&daemon, "address_public");
        assert_eq!(endpoint(&status, IOT_CREDENTIALS)["reason"], "address_public");
        assert_eq!(refused_with(&lab, IOT_CREDENTIALS), "address_public");
        assert!(get(&lab, 0, dialled(IOT, 443), IOT_DATA).is_ok(), "another name");
        lab.zone().set_private(IOT_CREDENTIALS, &ZONES.map(|zone| zone.address(12)));
        until_healthy(&daemon);
        assert!(get(&lab, 0, dialled(IOT, 443), IOT_CREDENTIALS).is_ok());
        assert_eq!(lab.leaked_packets().unwrap(), 0);
        daemon.kill_hard();
        let dead = daemon.subcommand(&["status"]).unwrap();
        assert_eq!(dead.status.code(), Some(1));
        assert!(stderr(&dead).contains("no gate runs here"), "{dead:?}");
    });
}

#[test]
fn last_good_answers_serve_while_resolvers_are_away() {
    inside::test("degraded::last_good_answers_serve_while_resolvers_are_away", || {
        let lab = lab();
        let daemon = start(&lab);
        lab.resolvers_down().unwrap();
        let status = until_status(&daemon, "an answer beyond its TTL", |status| {
            endpoint(status, IOT_DATA)["last_good"] == true && resolvers_down(status) == 2
        });
        assert!(problem_codes(&status).contains(&"resolver_down"));
        until_told(&daemon, "resolver_down");
        let skip = records(&lab).len();
        assert!(get(&lab, 0, dialled(IOT, 443), IOT_DATA).is_ok());
        let record = until_end_behind(&lab, skip, DEVICES[0].address.into());
        let dns = &record["unmapped"]["egress"]["dns"];
        assert_eq!(dns["last_good"], true, "{record}");
        assert!(dns["age_ms"].as_u64() > dns["ttl"].as_u64().map(|ttl| ttl * 1000), "{dns}");
        // Nor does a reload that needs new resolvers forget what was learnt.
        let before = daemon.status_json().unwrap()["policy"]["hash"].clone();
        let other = lab.daemon_config().replace("[tunnel]\n", "[tunnel]\nmss = 1300\n");
        daemon.reload(&other).unwrap();
        until_status(&daemon, "the new file", |status| status["policy"]["hash"] != before);
        assert!(get(&lab, 0, dialled(IOT, 443), IOT_DATA).is_ok());
        lab.resolvers_up().unwrap();
        until_healthy(&daemon);
        until_status(&daemon, "a fresh answer", |s| endpoint(s, IOT_DATA)["last_good"] == false);
        let skip = records(&lab).len();
        assert!(get(&lab, 0, dialled(IOT, 443), IOT_DATA).is_ok());
        let record = until_end_behind(&lab, skip, DEVICES[0].address.into());
        assert_eq!(record["unmapped"]["egress"]["dns"]["last_good"], false);
        drop(daemon);

        // A site that does not want old answers.
        let config = lab.daemon_config();
        let strict = config.replace("[resolver]\n", "[resolver]\nlast-good = \"1s\"\n");
        assert_ne!(strict, config);
        let daemon = start_with(&lab, &strict);
        assert!(get(&lab, 0, dialled(IOT, 443), IOT_DATA).is_ok());
        lab.resolvers_down().unwrap();
        until_status(&daemon, "an answer beyond its TTL", |status| {
            endpoint(status, IOT_DATA)["last_good"] == true
        });
        let reason = refused_with(&lab, IOT_DATA);
        assert!(reason == "resolve_failed" || reason == "resolve_timeout", "{reason}");
        lab.resolvers_up().unwrap();
        until_healthy(&daemon);
        until_status(&daemon, "a fresh answer", |s| endpoint(s, IOT_DATA)["last_good"] == false);
        assert!(get(&lab, 0, dialled(IOT, 443), IOT_DATA).is_ok());
        assert_eq!(lab.leaked_packets().unwrap(), 0);
    });
}

fn resolvers_down(status: &Value) -> usize {
    list(&status["resolvers"]).iter().filter(|resolver| resolver["healthy"] == false).count()
}
