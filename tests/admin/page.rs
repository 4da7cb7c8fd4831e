//! The page, its events, and what they say of the flows. Looked at with a browser by `docs/screenshots/take`.

use sluicegate::lab::inside;

use crate::gate::*;
use crate::support::*;

#[test]
fn the_page_is_one_document_that_runs_nothing_but_its_own() {
    inside::test("page::the_page_is_one_document_that_runs_nothing_but_its_own", || {
        let lab = lab();
        let _daemon = start(&lab);
        let page = local(&lab, "/");
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        let policy = page.header("content-security-policy").unwrap();
        for (element, directive) in [("script", "script-src"), ("style", "style-src")] {
            let (open, close) = (format!("<{element}>"), format!("</{element}>"));
            let inside = page.body.split(&open).nth(1).unwrap().split(&close).next().unwrap();
            assert_eq!(page.body.matches(&open).count(), 1);
            let file = lab.directory().join(element);
            std::fs::write(&file, inside).unwrap();
            let digest = format!("openssl dgst -sha256 -binary {} | base64", file.display());
            let digest = run(lab.edge(), "sh", &["-c", &digest]);
            let allowed = format!("{directive} 'sha256-{}'", digest.trim());
            assert!(policy.contains(&allowed), "{allowed} is not in {policy}");
        }
    });
}

#[test]
fn events_tell_the_whole_and_then_the_pulse() {
    inside::test("page::events_tell_the_whole_and_then_the_pulse", || {
        let lab = lab();
        let daemon = start(&lab);
        let name = "nothing.example.com";
        get(&lab, 0, dialled(IOT, 443), name).unwrap_err();
        until_status(&daemon, "the refusal", |status| status["flows"]["denied_total"] == 1);
        let url = "http://127.0.0.1:9443/events";
        let reply = curl(lab.edge(), &["-N", "--max-time", "4", url]);
        assert_eq!((reply.status, reply.exit), (200, 28), "it goes on: {reply:?}");
        assert_eq!(reply.header("content-type"), Some("text/event-stream"));
        let events: Vec<_> = reply.body.split("event: ").skip(1).collect();
        assert!(events.len() >= 3, "{}", reply.body);
        let (kind, data) = events[0].split_once("\ndata: ").unwrap();
        assert_eq!(kind, "status");
        let whole: serde_json::Value =
            serde_json::from_str(data.split("\n\n").next().unwrap()).unwrap();
        let refusal = &whole["lately"]["refusals"][0];
        assert_eq!(refusal["device"], "press-3", "{whole}");
        assert_eq!(
            (&refusal["reason"], &refusal["count"]),
            (&"name_not_allowed".into(), &1.into())
        );
        assert_eq!(refusal["places"][0]["name"], name);
        assert!(!refusal["remedy"].as_str().unwrap().is_empty());
        assert_eq!(whole["lately"]["devices"][0]["name"], "press-3");
        assert!(events[1].starts_with("pulse\ndata: {"), "{}", events[1]);
    });
}

#[test]
fn no_more_than_a_few_watch_from_one_address() {
    inside::test("page::no_more_than_a_few_watch_from_one_address", || {
        let lab = lab();
        let _daemon = start(&lab);
        let url = "http://127.0.0.1:9443/events";
        let watchers: Vec<_> = (0..16)
            .map(|_| lab.start_process(lab.edge(), "curl", &["-sSNi", url]).unwrap())
            .collect();
        for watcher in &watchers {
            until("an event", || watcher.said().contains("event: status").then_some(()));
        }
        assert_eq!(curl(lab.edge(), &[url]).status, 503, "one more");
        assert_eq!(local(&lab, "/livez").status, 200, "nothing else is held up");
        drop(watchers);
        until("a place", || {
            (curl(lab.edge(), &["-N", "--max-time", "1", url]).status == 200).then_some(())
        });
    });
}

#[test]
fn what_learn_mode_lets_through_is_proposed_and_refused_packets_are_told() {
    inside::test(
        "page::what_learn_mode_lets_through_is_proposed_and_refused_packets_are_told",
        || {
            let lab = lab();
            let learning = "mode    = \"learn\"\nlearn-until = 2099-01-01T00:00:00Z";
            let config = lab.daemon_config().replace("mode    = \"enforce\"", learning);
            let daemon = start_with(&lab, &config);
            let bucket = "augsburg-artifacts.s3.eu-central-1.amazonaws.com";
            get(&lab, 0, dialled(S3, 443), bucket).unwrap();
            let status = daemon.status_json().unwrap();
            let learnt = &status["lately"]["learnt"][0];
            assert_eq!(learnt["device"], "press-3", "{}", status["lately"]);
            assert_eq!(
                (&learnt["endpoint"], &learnt["reason"]),
                (&"s3".into(), &"device_not_allowed".into())
            );
            assert_eq!(status["flows"]["learnt_total"], 1);
            attempt(&lab, 2, Way::Udp(dialled(IOT, 443))).unwrap_err();
            let refused = |status: &serde_json::Value| {
                let refusals = list(&status["lately"]["refusals"]).to_vec();
                refusals.into_iter().find(|of| of["reason"] == "quic_blocked")
            };
            let status = until_status(&daemon, "the refused packet", |s| refused(s).is_some());
            let refusal = refused(&status).unwrap();
            assert_eq!(
                (&refusal["device"], &refusal["places"][0]["port"]),
                (&"legacy-1".into(), &443.into())
            );
        },
    );
}
