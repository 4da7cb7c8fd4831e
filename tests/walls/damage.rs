//! Somebody damages the rules while the gate runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use sluicegate::lab::device::tcp_connect;
use sluicegate::lab::services::IOT_DATA;
use sluicegate::lab::{Daemon, Lab, inside};

use super::gate::*;

#[test]
fn damaged_rules_and_routes_are_restored() {
    inside::test("damage::damaged_rules_and_routes_are_restored", || {
        let lab = lab();
        let config = write_config(&lab, "site.toml", &lab.daemon_config());
        let daemon = start(&lab);
        let serves = |damage: &str| {
            let reply = get(&lab, 0, dialled(IOT, 443), IOT_DATA);
            assert!(reply.is_ok(), "after `{damage}`: {reply:?}");
        };
        serves("nothing");

        // A device that tries all the time, as real ones do.
        let (stop, attempts) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let trying = {
            let (stop, attempts) = (Arc::clone(&stop), Arc::clone(&attempts));
            lab.device(2).spawn(async move || {
                while !stop.load(Ordering::Relaxed) {
                    let patience = Duration::from_secs(2);
                    let _ = tcp_connect(dialled(IOT, 80), patience).await;
                    attempts.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        until("attempts", || (attempts.load(Ordering::Relaxed) > 20).then_some(()));
        let took = damage(&lab, &daemon, "nft", "flush ruleset");
        println!("flush ruleset: restored within {took:?}");
        assert_nothing_left(&lab, "between the flush and the repair");
        stop.store(true, Ordering::Relaxed);
        trying.join();
        assert_all_refused(&lab, Gate::Running, "after flush ruleset");
        serves("flush ruleset");

        nft(&lab, "table inet other {\n chain c { type filter hook forward priority 7; }\n }");
        let other = nft(&lab, "list table inet other");
        for words in ["flush table inet sluicegate", "delete table inet sluicegate"] {
            damage(&lab, &daemon, "nft", words);
            assert_all_refused(&lab, Gate::Running, words);
            serves(words);
            assert_eq!(nft(&lab, "list table inet other"), other, "another tool's table");
        }
        let routing = [
            "rule del fwmark 0x51c00001 lookup 5100",
            "-6 rule del fwmark 0x51c00001 lookup 5100",
            "route flush table 5100",
            "-6 route flush table 5100",
            "rule del fwmark 0x51c00002 lookup 5102",
            "-6 rule del fwmark 0x51c00002 lookup 5102",
            "route flush table 5102",
            "-6 route flush table 5102",
            "rule del priority 101",
            "-6 rule del priority 101",
            "route flush table 5101",
            "-6 route flush table 5101",
        ];
        for words in routing {
            damage(&lab, &daemon, "ip", words);
            serves(words);
        }
        assert_all_refused(&lab, Gate::Running, "after all damage");
        let verified = sluicegate(&lab, &["nft", "verify", "--config", &config]);
        assert!(verified.status.success(), "{verified:?}");
        let rules = ip(&lab, "rule") + &ip(&lab, "-6 rule");
        assert_eq!(rules.matches("lookup 5100").count(), 2, "{rules}");
        assert_eq!(rules.matches("iif lan0 lookup 5101").count(), 2, "{rules}");
        assert_eq!(rules.matches("lookup 5102").count(), 2, "{rules}");
        assert_log(&lab);
    });
}

/// Does damage and waits until it is repaired; returns how long that took.
fn damage(lab: &Lab, daemon: &Daemon, program: &str, words: &str) -> Duration {
    let restored = |status: &Value| status["rules"]["restored_total"].as_u64().unwrap();
    let before = restored(&daemon.status_json().unwrap());
    run(lab.edge(), program, &words.split_whitespace().collect::<Vec<_>>());
    let began = Instant::now();
    until("the table", || {
        let found = lab.edge().command("nft", &["list", "chain", "inet", "sluicegate", "refuse"]);
        let found = { found }.output().unwrap();
        String::from_utf8_lossy(&found.stdout).contains("udp_blocked").then_some(())
    });
    let took = began.elapsed();
    until_status(daemon, &format!("`{words}` to be repaired"), |status| {
        restored(status) > before && status["rules"]["intact"] == true
    });
    took
}
