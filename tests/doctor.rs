//! `sluicegate doctor` names the cause of each fault that is staged, and none where there is none.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, a panic is the report"
)]

#[path = "support/gate.rs"]
mod gate;

use std::path::Path;

use gate::*;
use rustix::process::Signal;
use serde_json::Value;
use sluicegate::lab::dns::Mood;
use sluicegate::lab::services::{HISTORIAN, IOT_DATA};
use sluicegate::lab::topology::{BOX_LAN, Offload, Wiring, ZONES};
use sluicegate::lab::{Lab, inside};

/// What `doctor --json` says, and whether its exit code agrees.
fn examine(lab: &Lab, config: &str) -> Vec<Value> {
    let output = sluicegate(lab, &["doctor", "--json", "--config", config]);
    let said: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let findings = list(&said["findings"]).to_vec();
    let count = |state: &str| findings.iter().filter(|f| f["state"] == state).count();
    assert_eq!(said["failed"], count("failed"), "{said}");
    assert_eq!(said["warnings"], count("warning"), "{said}");
    assert_eq!(said["healthy"], count("failed") == 0, "{said}");
    let code = if count("failed") == 0 { 0 } else { 4 };
    assert_eq!(output.status.code(), Some(code), "{said}");
    findings
}

fn wrong(findings: &[Value]) -> Vec<String> {
    let wrong = findings.iter().filter(|finding| finding["state"] != "ok");
    wrong.map(|f| format!("{} {}: {}", f["check"], f["subject"], f["sentence"])).collect()
}

/// The cause is named, with a remedy.
#[track_caller]
fn assert_named(findings: &[Value], fault: &str, check: &str, words: &str) {
    let named = findings.iter().find(|finding| {
        finding["check"] == check
            && finding["state"] != "ok"
            && finding["sentence"].as_str().is_some_and(|sentence| sentence.contains(words))
    });
    let named = named.unwrap_or_else(|| panic!("{fault}: {:#?}", wrong(findings)));
    assert!(named["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()), "{fault}: {named}");
}

/// A fault, how it is undone, and what must be said of it.
struct Fault {
    name: &'static str,
    stage: fn(&Lab),
    heal: fn(&Lab),
    check: &'static str,
    words: &'static str,
}

fn vpc_nft(lab: &Lab, words: &str) {
    run(lab.vpc(), "nft", &[words]);
}

/// A table of the VPC's own in which a test refuses or drops.
fn vpc_rule(lab: &Lab, rule: &str) {
    vpc_nft(
        lab,
        &format!(
            "table inet staged {{\n chain in {{\n type filter hook prerouting priority 0\n {rule}\n }}\n }}"
        ),
    );
}

fn no_vpc_rule(lab: &Lab) {
    vpc_nft(lab, "delete table inet staged");
}

fn set(lab: &Lab, setting: &str, value: &str) {
    run(lab.edge(), "sysctl", &["-q", "-w", &format!("{setting}={value}")]);
}

fn iot_addresses() -> [std::net::Ipv4Addr; 2] {
    ZONES.map(|zone| zone.address(IOT))
}

const FAULTS: &[Fault] = &[
    Fault {
        name: "reverse path filter",
        stage: |lab| set(lab, "net.ipv4.conf.all.rp_filter", "1"),
        heal: |lab| set(lab, "net.ipv4.conf.all.rp_filter", "2"),
        check: "settings",
        words: "rp_filter is strict",
    },
    Fault {
        name: "short listen queue",
        stage: |lab| set(lab, "net.core.somaxconn", "128"),
        heal: |lab| set(lab, "net.core.somaxconn", "4096"),
        check: "settings",
        words: "net.core.somaxconn is 128",
    },
    Fault {
        name: "tunnel without a link",
        stage: |lab| lab.tunnel_down(1).unwrap(),
        heal: |lab| lab.tunnel_up(1).unwrap(),
        check: "tunnel",
        words: "The tunnel interface vpn1 is down",
    },
    Fault {
        name: "tunnel that swallows everything",
        stage: |lab| lab.tunnel_blackhole(2).unwrap(),
        heal: |lab| lab.tunnel_heal(2).unwrap(),
        check: "tunnel",
        words: "vpn2 is up, and no resolver answers through it",
    },
    Fault {
        name: "source address lost",
        stage: |lab| drop(ip(lab, "addr del 10.99.0.7/32 dev lo")),
        heal: |lab| {
            ip(lab, "addr add 10.99.0.7/32 dev lo");
            // Routes with this source went with it.
            lab.tunnel_up(1).and_then(|()| lab.tunnel_up(2)).unwrap();
        },
        check: "tunnel",
        words: "Cannot assign requested address",
    },
    Fault {
        name: "one resolver silent",
        stage: |lab| vpc_rule(lab, "ip daddr 10.20.1.53 drop"),
        heal: no_vpc_rule,
        check: "resolver",
        words: "10.20.1.53:53 does not answer through vpn1",
    },
    Fault {
        name: "resolvers that fail",
        stage: |lab| lab.zone().set_mood(Mood::Failing),
        heal: |lab| lab.zone().set_mood(Mood::Answering),
        check: "name",
        words: "Server Failure",
    },
    Fault {
        name: "private hosted zone missing",
        stage: |lab| lab.zone().remove_private(IOT_DATA),
        heal: |lab| lab.zone().set_private(IOT_DATA, &iot_addresses()),
        check: "name",
        words: "the private zone for it is missing",
    },
    Fault {
        name: "zone without the record",
        stage: |lab| lab.zone().set_private(IOT_DATA, &[]),
        heal: |lab| lab.zone().set_private(IOT_DATA, &iot_addresses()),
        check: "name",
        words: "knows no address of a1b2c3d4e5f6g7-ats.iot",
    },
    Fault {
        name: "record that leads elsewhere",
        stage: |lab| lab.zone().set_private(IOT_DATA, &["10.30.0.5".parse().unwrap()]),
        heal: |lab| lab.zone().set_private(IOT_DATA, &iot_addresses()),
        check: "name",
        words: "which is outside of the networks of [endpoint.iot-data]",
    },
    Fault {
        name: "security group",
        stage: |lab| vpc_rule(lab, "ip daddr 10.20.0.11 tcp dport 8883 drop"),
        heal: no_vpc_rule,
        check: "endpoint",
        words: "10.20.0.11:8883 (eu-central-1a) cannot be reached",
    },
    Fault {
        name: "nothing listens",
        stage: |lab| {
            let historian = ZONES.map(|zone| zone.address(200));
            run(lab.vpc(), "ip", &["addr", "add", &format!("{}/32", historian[0]), "dev", "lo"]);
            lab.zone().set_private(HISTORIAN, &historian[..1]);
        },
        heal: |lab| {
            let octet = historian_octet();
            run(lab.vpc(), "ip", &["addr", "del", "10.20.0.200/32", "dev", "lo"]);
            lab.zone().set_private(HISTORIAN, &ZONES.map(|zone| zone.address(octet)));
        },
        check: "endpoint",
        words: "Connection refused",
    },
    Fault {
        name: "device interface down",
        stage: |lab| drop(ip(lab, "link set lan0 down")),
        heal: |lab| drop(ip(lab, "link set lan0 up")),
        check: "devices",
        words: "lan0 is down or has no carrier",
    },
];

fn historian_octet() -> u8 {
    let mut services = sluicegate::lab::services::SERVICES.iter();
    services.find(|service| service.names.contains(&HISTORIAN)).unwrap().octet
}

#[test]
fn a_healthy_box_has_no_finding_and_each_fault_its_own() {
    inside::test("a_healthy_box_has_no_finding_and_each_fault_its_own", || {
        let lab = lab();
        let daemon = start(&lab);
        // A device is heard.
        get(&lab, 0, dialled(IOT, 443), IOT_DATA).unwrap();
        let config = daemon.config_file().to_str().unwrap().to_owned();
        let healthy = examine(&lab, &config);
        assert_eq!(wrong(&healthy), [""; 0]);
        assert!(!healthy.iter().any(|finding| finding["check"] == "dns"), "it is off");
        for check in
            ["rights", "rules", "gate", "audit", "devices", "tunnel", "name", "endpoint", "clock"]
        {
            assert!(healthy.iter().any(|finding| finding["check"] == check), "{check}");
        }
        for fault in FAULTS {
            (fault.stage)(&lab);
            let findings = examine(&lab, &config);
            assert_named(&findings, fault.name, fault.check, fault.words);
            (fault.heal)(&lab);
        }
    });
}

#[test]
fn a_gate_that_is_away_and_files_that_do_not_fit_are_named() {
    inside::test("a_gate_that_is_away_and_files_that_do_not_fit_are_named", || {
        let lab = lab();
        let daemon = start(&lab);
        let config = lab.daemon_config();

        let other = config.replace("ports = [443, 8443]", "ports = [443, 8444]");
        let findings = examine(&lab, &write_config(&lab, "other.toml", &other));
        assert_named(&findings, "another file", "rules", "are not those of this file");

        let name = config.replace("[\"historian.corp.example\"]", "[\"archive.corp.example\"]");
        lab.zone().set_private("archive.corp.example", &iot_addresses());
        let findings = examine(&lab, &write_config(&lab, "name.toml", &name));
        assert_named(&findings, "foreign certificate", "certificate", "is for other names");

        let roots = lab.directory().join("roots.pem");
        openssl_root(&lab, &roots);
        let health = with_roots(&config, &roots.display().to_string());
        let findings = examine(&lab, &write_config(&lab, "roots.toml", &health));
        assert_named(&findings, "unknown root", "certificate", "comes from no trusted root");
        let trusted = lab.directory().join("ca.pem");
        let health = with_roots(&config, &trusted.display().to_string());
        let findings = examine(&lab, &write_config(&lab, "trusted.toml", &health));
        assert!(!findings.iter().any(|f| f["check"] == "certificate"), "{:#?}", wrong(&findings));
        let health = with_roots(&config, "/nonexistent.pem");
        let findings = examine(&lab, &write_config(&lab, "none.toml", &health));
        assert_named(&findings, "no roots", "roots", "/nonexistent.pem");

        let disk = lab.directory().join("disk");
        std::fs::create_dir(&disk).unwrap();
        let place = disk.to_str().unwrap();
        run(lab.edge(), "mount", &["-t", "tmpfs", "-o", "size=1m", "tmpfs", place]);
        let full = config
            .replace(audit_directory(&lab).to_str().unwrap(), disk.join("audit").to_str().unwrap());
        let findings = examine(&lab, &write_config(&lab, "full.toml", &full));
        run(lab.edge(), "umount", &[place]);
        assert_named(&findings, "small disk", "audit", "MiB left");

        let file = daemon.config_file().to_str().unwrap().to_owned();
        daemon.signal(Signal::TERM).unwrap();
        assert!(daemon.wait(SOON).unwrap().is_some());
        let findings = examine(&lab, &file);
        assert_named(&findings, "no gate", "gate", "No gate answers");
        nft(&lab, "delete table inet sluicegate");
        let findings = examine(&lab, &file);
        assert_named(&findings, "no rules", "rules", "none of the gate's rules");

        let garbage = write_config(&lab, "garbage.toml", "[site\n");
        let output = sluicegate(&lab, &["doctor", "--config", &garbage]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    });
}

#[test]
fn whether_devices_ask_the_box_for_names_is_told_where_it_answers() {
    inside::test("whether_devices_ask_the_box_for_names_is_told_where_it_answers", || {
        let lab = lab();
        let config = lab.daemon_config().replace("listen = \"off\"", "listen = \"lan\"");
        let daemon = start_with(&lab, &config);
        let file = daemon.config_file().to_str().unwrap().to_owned();
        let findings = examine(&lab, &file);
        assert_named(&findings, "nobody asks", "dns", "No device has asked this box for DNS");
        let server = format!("@{BOX_LAN}");
        run(lab.device(0), "dig", &[&server, "+short", IOT_DATA]);
        let findings = examine(&lab, &file);
        let dns = findings.iter().find(|finding| finding["check"] == "dns").unwrap();
        assert_eq!(dns["state"], "ok", "{dns}");
        assert!(dns["sentence"].as_str().unwrap().contains("1 answers"), "{dns}");
    });
}

#[test]
fn a_path_that_swallows_large_packets_is_named_with_the_size_that_passes() {
    inside::test("a_path_that_swallows_large_packets_is_named_with_the_size_that_passes", || {
        let wiring = Wiring { offload: Offload::Off, ..Wiring::default() };
        let lab = Lab::up_with(wiring).unwrap();
        let daemon = start(&lab);
        let config = daemon.config_file().to_str().unwrap().to_owned();
        // What a path does whose ICMP errors somebody drops.
        vpc_nft(
            &lab,
            "table inet staged {
             chain out {
                 type filter hook postrouting priority 0
                 oifname { tun1, tun2 } meta length > 1300 drop
             }
             }",
        );
        let findings = examine(&lab, &config);
        assert_named(&findings, "black hole", "mtu", "1240 bytes of segment get through");
    });
}

fn with_roots(config: &str, file: &str) -> String {
    config.replace("[health]\n", &format!("[health]\nroots = \"{file}\"\n"))
}

/// A root that has signed nothing here.
fn openssl_root(lab: &Lab, file: &Path) {
    let file = file.to_str().unwrap();
    let words = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=Another authority",
        "-keyout",
        "/dev/null",
        "-out",
        file,
    ];
    run(lab.edge(), "openssl", &words);
}
