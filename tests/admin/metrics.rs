//! Metrics and health.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use sluicegate::lab::inside;

use crate::gate::*;
use crate::support::*;

/// Every sample, by its name and labels.
fn samples(text: &str) -> BTreeMap<&str, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.rsplit_once(' ')).map(|(k, v)| (k, v.parse().unwrap())).collect()
}

fn check(text: &str) {
    let command = Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).spawn();
    let mut checking =
        command.unwrap_or_else(|error| panic!("promtool: {error}; install prometheus"));
    checking.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(checking.wait().unwrap().success(), "promtool is not content with:\n{text}");
}

#[test]
fn promtool_reads_the_metrics_and_they_are_those_of_the_flows() {
    inside::test("metrics::promtool_reads_the_metrics_and_they_are_those_of_the_flows", || {
        let lab = lab();
        let daemon = start(&lab);
        let before = local(&lab, "/metrics");
        assert_eq!((before.status, before.exit), (200, 0), "{before:?}");
        assert_eq!(before.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        check(&before.body);
        let name = "a1b2c3d4e5f6g7-ats.iot.eu-central-1.amazonaws.com";
        get(&lab, 0, dialled(IOT, 443), name).unwrap();
        get(&lab, 0, dialled(IOT, 443), "example.com").unwrap_err();
        until_status(&daemon, "the end of the flow", |status| status["flows"]["live"] == 0);
        let after = until("fresh metrics", || {
            let reply = local(&lab, "/metrics");
            let samples = samples(&reply.body);
            let allowed = r#"sluicegate_flows_total{verdict="allow",reason="",stage=""}"#;
            (samples[allowed] > 0.0).then_some(reply)
        });
        check(&after.body);
        let samples = samples(&after.body);
        let refused =
            r#"sluicegate_flows_total{verdict="deny",reason="name_not_allowed",stage="policy"}"#;
        assert_eq!(samples[refused], 1.0);
        for step in ["hello", "resolve", "dial", "audit"] {
            let count = format!("sluicegate_set_up_seconds_count{{step=\"{step}\"}}");
            assert!(samples[count.as_str()] >= 1.0, "{step}");
            let last = format!("sluicegate_set_up_seconds_bucket{{le=\"+Inf\",step=\"{step}\"}}");
            assert_eq!(samples[last.as_str()], samples[count.as_str()], "{step}");
        }
        assert!(samples[r#"sluicegate_relayed_bytes_total{direction="up",way="copied"}"#] > 100.0);
        assert_eq!(samples["sluicegate_audit_lost_records_total"], 0.0);
        assert_eq!(samples["sluicegate_audit_waiting_records"], 0.0);
        assert_eq!(samples[r#"sluicegate_tunnel_up{interface="vpn1"}"#], 1.0);
        let open = curl(
            lab.edge(),
            &[
                "-H",
                "Accept: application/openmetrics-text;version=1.0.0",
                "http://127.0.0.1:9443/metrics",
            ],
        );
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        assert_eq!(open.header("content-type"), Some(kind));
        assert!(open.body.ends_with("# EOF\n"), "{}", open.body);
        assert!(open.body.contains("# TYPE sluicegate_flows counter\n"), "{}", open.body);
    });
}

#[test]
fn a_gate_that_cannot_take_flows_is_not_ready() {
    inside::test("metrics::a_gate_that_cannot_take_flows_is_not_ready", || {
        let lab = lab();
        let daemon = start(&lab);
        let asked = |path| {
            let reply = local(&lab, path);
            (reply.status, reply.body)
        };
        assert_eq!(asked("/livez"), (200, "ok\n".to_owned()));
        assert_eq!(asked("/readyz"), (200, "ok\n".to_owned()));
        lab.tunnel_down(1).unwrap();
        lab.tunnel_down(2).unwrap();
        until("not ready", || {
            (asked("/readyz") == (503, "no tunnel is up\n".to_owned())).then_some(())
        });
        assert_eq!(asked("/livez"), (200, "ok\n".to_owned()), "it works, all the same");
        lab.tunnel_up(1).unwrap();
        until("ready again", || (asked("/readyz").0 == 200).then_some(()));
        drop(daemon);
    });
}
