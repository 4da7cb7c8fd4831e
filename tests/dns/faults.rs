//! Resolvers that fail: what a device is told, and what it is not.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use sluicegate::lab::dns::Mood;
use sluicegate::lab::services::{HISTORIAN, IOT_CREDENTIALS, IOT_DATA, SPARE_OCTET};
use sluicegate::lab::topology::ZONES;
use sluicegate::lab::{Daemon, Lab, Process, inside};

use crate::ask::{BOX, Said, assert_addresses, config, dig, enis, start};
use crate::gate::{BINARY, IOT, lab, until, write_config};

/// Starts the gate though nothing is resolved.
fn start_anyway(lab: &Lab, config: &str) -> Daemon {
    lab.start_daemon(Path::new(BINARY), config).unwrap_or_else(|error| panic!("{error}"))
}

fn until_said(lab: &Lab, name: &str, wanted: impl Fn(&Said) -> bool) -> Said {
    until(&format!("another answer for {name}"), || {
        let said = dig(lab, 0, BOX, &[name]);
        wanted(&said).then_some(said)
    })
}

fn fails_with(code: &'static str) -> impl Fn(&Said) -> bool {
    move |said| said.status() == Some("SERVFAIL") && said.text.contains(code)
}

#[test]
fn a_name_that_nobody_resolves_fails_in_time() {
    inside::test("faults::a_name_that_nobody_resolves_fails_in_time", || {
        let lab = lab();
        lab.resolvers_down().unwrap();
        let _daemon = start_anyway(&lab, &config(&lab, ""));
        let began = Instant::now();
        let said = dig(&lab, 0, BOX, &[IOT_DATA]);
        assert!(began.elapsed() < Duration::from_secs(5), "within a device's patience");
        assert!(fails_with("EDE: 22")(&said), "{}", said.text);
        // Other names do not wait for it.
        assert_eq!(dig(&lab, 0, BOX, &["www.example.com"]).status(), Some("REFUSED"));
        lab.resolvers_up().unwrap();
        assert_addresses(&until_said(&lab, IOT_DATA, |said| !said.addresses().is_empty()), IOT);
    });
}

#[test]
fn the_last_good_answer_serves_while_resolvers_fail() {
    inside::test("faults::the_last_good_answer_serves_while_resolvers_fail", || {
        let lab = lab();
        let _daemon = start(&lab, "");
        lab.zone().set_mood(Mood::Failing);
        let said = until_said(&lab, IOT_DATA, |said| said.text.contains("EDE: 3 (Stale Answer)"));
        assert_addresses(&said, IOT);
        assert!(said.addresses().iter().all(|(_, ttl)| *ttl == 30), "{}", said.text);
        lab.zone().set_mood(Mood::Answering);
        until_said(&lab, IOT_DATA, |said| !said.text.contains("EDE") && said.status().is_some());
    });
}

#[test]
fn no_address_outside_the_endpoint_reaches_a_device() {
    inside::test("faults::no_address_outside_the_endpoint_reaches_a_device", || {
        let lab = lab();
        let _daemon = start(&lab, "");
        let foreign = Ipv4Addr::new(192, 168, 7, 7);
        let public = Ipv4Addr::new(198, 51, 100, 7);
        let good = enis(IOT)[0];
        for (answer, code) in [
            (vec![public], "address_public"),
            (vec![good, public], "address_public"),
            (vec![foreign], "address_outside_endpoint"),
            (vec![good, foreign], "address_outside_endpoint"),
            (vec![], "resolve_nxdomain"),
        ] {
            lab.zone().set_private(IOT_DATA, &answer);
            let said = until_said(&lab, IOT_DATA, fails_with(code));
            assert_eq!(said.addresses(), [], "{}", said.text);
            lab.zone().set_private(IOT_DATA, &enis(IOT));
            until_said(&lab, IOT_DATA, |said| said.addresses().len() == 2);
        }
        // The private zone is removed while the gate runs: the answer is public.
        lab.zone().remove_private(IOT_DATA);
        until_said(&lab, IOT_DATA, fails_with("address_public"));
    });
}

#[test]
fn an_answer_without_time_to_live_is_asked_for_once_and_not_by_every_device() {
    inside::test(
        "faults::an_answer_without_time_to_live_is_asked_for_once_and_not_by_every_device",
        || {
            let lab = lab();
            lab.zone().set_time_to_live(Duration::ZERO);
            let _daemon = start(&lab, "");
            let count = || {
                let asked = lab.zone().questions();
                asked.iter().filter(|asked| asked.name == IOT_DATA).count()
            };
            let (began, before) = (Instant::now(), count());
            for _ in 0..40 {
                let said = dig(&lab, 0, BOX, &[IOT_DATA]);
                assert_addresses(&said, IOT);
                assert!(said.addresses().iter().all(|(_, ttl)| *ttl == 0), "{}", said.text);
            }
            // The book asks once a second, whoever asks it.
            let most = usize::try_from(began.elapsed().as_secs()).unwrap() + 2;
            let asked = count() - before;
            assert!(asked <= most, "{asked} questions, {most} expected at most");
        },
    );
}

/// A resolver of the VPC's as a program of its own, at the spare address of a zone.
fn unbound(lab: &Lab, zone: usize, lines: &str) -> Process {
    let address = ZONES[zone].address(SPARE_OCTET);
    let text = format!("{UNBOUND} interface: {address}\n{lines}\n");
    let config = write_config(lab, &format!("unbound-{zone}.conf"), &text);
    lab.start_process(lab.vpc(), "unbound", &["-d", "-c", &config]).unwrap()
}

#[test]
fn real_private_zones_of_a_real_resolver() {
    inside::test("faults::real_private_zones_of_a_real_resolver", || {
        let lab = lab();
        // The first is lame: it refuses everybody.
        let _lame = unbound(&lab, 0, " access-control: 0.0.0.0/0 refuse");
        let many: String = (1..=100)
            .map(|n| format!(" local-data: \"{HISTORIAN}. 60 A 10.20.1.{n}\"\n"))
            .collect();
        let [first, second] = [enis(IOT)[0], enis(IOT)[1]];
        let _good = unbound(
            &lab,
            1,
            &format!(
                " access-control: 0.0.0.0/0 allow
 local-zone: \"{IOT_DATA}.\" static
 local-data: \"{IOT_DATA}. 60 A {first}\"
 local-data: \"{IOT_DATA}. 60 A {second}\"
 local-data: \"{IOT_DATA}. 60 AAAA 2001:db8::11\"
 local-zone: \"{IOT_CREDENTIALS}.\" redirect
 local-data: \"{IOT_CREDENTIALS}. 60 CNAME elsewhere.example.\"
 local-zone: \"elsewhere.example.\" static
 local-data: \"elsewhere.example. 60 A 198.51.100.12\"
 local-zone: \"{HISTORIAN}.\" static
{many}"
            ),
        );
        let inbound = ZONES.map(|zone| format!("\"{}\"", zone.resolver())).join(", ");
        let spare = ZONES.map(|zone| format!("\"{}\"", zone.address(SPARE_OCTET))).join(", ");
        let config = config(&lab, "").replace(&inbound, &spare);
        let _daemon = start_anyway(&lab, &config);
        assert_addresses(&until_said(&lab, IOT_DATA, |said| !said.addresses().is_empty()), IOT);
        let said = dig(&lab, 0, BOX, &["-t", "AAAA", IOT_DATA]);
        assert!(said.text.contains("ANSWER: 0"), "{}", said.text);
        // An alias out of the zone leads to a public address.
        let said = until_said(&lab, IOT_CREDENTIALS, |said| said.status() == Some("SERVFAIL"));
        assert_eq!(said.addresses(), [], "{}", said.text);
        // More than fits into a datagram, on both sides.
        let said = until("the long answer", || {
            let said = dig(&lab, 1, BOX, &[HISTORIAN]);
            (!said.addresses().is_empty()).then_some(said)
        });
        assert_eq!(said.addresses().len(), 100);
        assert_eq!(lab.zone().question_count(), 0, "only the resolvers in the file are asked");
    });
}

const UNBOUND: &str = r#"server:
 username: ""
 chroot: ""
 directory: "/"
 pidfile: ""
 use-syslog: no
 do-daemonize: no
 module-config: "iterator"
"#;
