//! What `appliance/canary` installs does what it says.

use super::*;

/// As its README says, with IPv6.
const SETTINGS: &str = "canary.conf";
const NETWORKS: [&str; 2] = ["192.168.253.0/30", "fd00:253::/126"];

/// Runs `place` in the box.
fn place(lab: &Lab, word: &str) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("appliance/canary");
    let conf = std::fs::read_to_string(directory.join(SETTINGS)).unwrap();
    let conf =
        write_config(lab, SETTINGS, &conf.replace("#ADDRESS", "ADDRESS").replace("#GATE", "GATE"));
    let script = directory.join("place");
    let mut command = lab.edge().command("timeout", &["30", script.to_str().unwrap(), word]);
    let output = command.env("CANARY_CONF", conf).output().unwrap();
    assert!(output.status.success(), "{word}: {output:?}");
}

/// Runs the canary there, by the words of its unit.
fn canary_there(lab: &Lab, config: &Path) -> (Option<i32>, Value, String) {
    let namespace = ["30", "ip", "netns", "exec", "sluicegate-canary"];
    let program = [BINARY, "canary", "--report", "--json", "--config", config.to_str().unwrap()];
    said(&lab.edge().command("timeout", &[&namespace[..], &program].concat()).output().unwrap())
}

#[test]
fn the_canarys_place_is_behind_the_gate() {
    inside::test("shipped::the_canarys_place_is_behind_the_gate", || {
        let lab = lab();
        let text = config(&lab, &everywhere(), "")
            .replace("[\"lan0\"]", "[\"lan0\", \"canary0\"]")
            .replace(
                "\"10.10.0.0/16\", ",
                &format!("\"10.10.0.0/16\", {NETWORKS:?}, ").replace(['[', ']'], ""),
            );
        let text = format!(
            "{text}\n[[device]]\nname = \"canary\"\naddress = \"192.168.253.2\"\nallow = []\n"
        );
        place(&lab, "up");
        let daemon = start_with(&lab, &text);
        for again in ["at first", "after another start of its unit"] {
            let (code, said, notes) = canary_there(&lab, daemon.config_file());
            assert_eq!(code, Some(0), "{again}: {said:#} {notes}");
            assert_eq!(outcomes(&said, "untried"), Vec::<String>::new(), "{again}: {said:#}");
            let refused = outcomes(&said, "refused");
            for way in ["tcp_443", "tcp_80", "tcp_53", "tcp_853"] {
                let all = refused.iter().filter(|refused| refused.starts_with(way));
                assert_eq!(all.count(), 4, "{again}: {way}: {said:#}");
            }
            place(&lab, "up");
        }
        assert_nothing_left(&lab, "the canary behind its own wire");
        let status = daemon.status_json().unwrap();
        assert_eq!(
            (&status["healthy"], &status["canary"]["last"]["tried"]),
            (&json!(true), &json!(32))
        );
        let record = until_record(&lab, "the canary's name in a record", |record| {
            record["src_endpoint"]["ip"] == "192.168.253.2" && is_end(record)
        });
        assert!(record.to_string().contains("\"canary\""), "{record}");

        daemon.kill_hard();
        let cleared = sluicegate(&lab, &["nft", "clear"]);
        assert!(cleared.status.success(), "{cleared:?}");
        nft(&lab, "table inet wan { chain nat { type nat hook postrouting priority 100; }; }");
        nft(&lab, "add rule inet wan nat oifname wan0 masquerade");
        let (code, said, notes) = canary_there(&lab, daemon.config_file());
        assert_eq!(code, Some(5), "{said:#} {notes}");
        place(&lab, "down");
        assert!(!ip(&lab, "link").contains("canary0"));
    });
}
