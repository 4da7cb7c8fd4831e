//! Permissions, the order of reasons, revocation, expectations and explanations.

use super::support::*;
use crate::config::{Expectation, ExpectedVerdict, Service, Site};
use crate::policy::{Got, Policy, Step};
use crate::reason::Reason;

fn press() -> Site {
    let mut site = plant();
    site.device_entries = vec![
        device("press-3", MAC_A, "10.10.3.7", &["iot-data"]),
        device("silent", "", "10.10.3.8", &[]),
    ];
    site
}

fn reason(site: &Site, address: &str, mac: &str, text: &str, port: u16) -> Reason {
    let verdict = Policy::compile(site).judge(asking(address, mac), &name(text), port);
    verdict.outcome.expect_err(text).reason
}

#[test]
fn a_device_may_use_what_its_entry_allows_and_nothing_else() {
    let policy = Policy::compile(&press());
    let press = asking("10.10.3.7", MAC_A);
    let grant = policy.judge(press, &name(IOT), 8883).outcome.expect("its endpoint");
    assert_eq!(&**grant.rule(), "device press-3");
    let denial = policy.judge(press, &name(CREDENTIALS), 443).outcome.expect_err("not its own");
    assert_eq!(denial.reason, Reason::DeviceNotAllowed);
    assert_eq!(&*denial.rule(), "device press-3");
    assert!(denial.remedy().expect("a remedy").contains("\"iot-credentials\" to `allow`"));
    assert_eq!(denial.endpoint().as_deref(), Some("iot-credentials"));
    assert_eq!(denial.service().as_deref(), Some("com.amazonaws.eu-central-1.iot.credentials"));
    assert_eq!(
        reason(&self::press(), "10.10.3.8", "", IOT, 443),
        Reason::DeviceNotAllowed,
        "an empty list allows nothing, whatever the default is"
    );
    policy.judge(asking("10.10.9.9", ""), &name(CREDENTIALS), 443).outcome.expect("the default");
}

#[test]
fn permissions_hold_beyond_the_first_64_tables() {
    let mut site = bare();
    for number in 0..130 {
        let host = format!("h{number}.corp.example");
        site.endpoints.push(table(&format!("t{number}"), Service::Custom, &[&host]));
    }
    for listed in [[0, 64, 129], [1, 63, 65]] {
        site.policy.default = listed.iter().map(|number| format!("t{number}").into()).collect();
        site.policy.default.push("no-such".into());
        for number in 0..130 {
            let granted = ask(&site, &format!("h{number}.corp.example"), 443).is_ok();
            assert_eq!(granted, listed.contains(&number), "{number} of {listed:?}");
        }
    }
}

#[test]
fn the_first_thing_to_mend_is_the_reason() {
    let mut site = press();
    site.policy.default.clear();
    let stranger = "10.10.9.9";
    assert_eq!(reason(&site, stranger, "", "www.example.com", 443), Reason::DeviceUnknown);
    assert_eq!(reason(&site, stranger, "", IOT, 443), Reason::DeviceUnknown);
    assert_eq!(reason(&site, "10.10.3.7", "", IOT, 443), Reason::DeviceNotAllowed);
    let press = |text, port| reason(&site, "10.10.3.7", MAC_A, text, port);
    assert_eq!(press("www.example.com", 443), Reason::NameNotAllowed);
    assert_eq!(press(CREDENTIALS, 8883), Reason::PortNotAllowed);
    assert_eq!(press(CREDENTIALS, 443), Reason::DeviceNotAllowed);
}

#[test]
fn a_grant_is_judged_again_by_the_next_policy() {
    let site = press();
    let policy = Policy::compile(&site);
    let press = asking("10.10.3.7", MAC_A);
    let grant = policy.judge(press, &name(IOT), 8883).outcome.expect("its endpoint");
    assert!(policy.still_grants(press, &grant));
    assert!(!policy.still_grants(asking("10.10.3.8", MAC_A), &grant));

    let mut renamed = site.clone();
    renamed.endpoints[0].id = "mqtt".into();
    renamed.device_entries[0].allow = vec!["mqtt".into()];
    assert!(Policy::compile(&renamed).still_grants(press, &grant), "the permission is the same");

    let mut withdrawn = site.clone();
    withdrawn.device_entries[0].allow.clear();
    let denial = Policy::compile(&withdrawn).grant_again(press, &grant).expect_err("withdrawn");
    assert_eq!(denial.reason, Reason::DeviceNotAllowed);

    let mut other_port = site;
    other_port.endpoints[0].ports = Some(vec![443]);
    assert!(!Policy::compile(&other_port).still_grants(press, &grant));
}

#[test]
fn the_hash_is_the_sites() {
    assert_eq!(**Policy::compile(&plant()).hash(), *plant().hash);
}

#[test]
fn unmet_expectations_are_reported_with_their_line() {
    let mut site = press();
    let mut line = 40;
    let mut expect = |device: &str, text: &str, port, verdict| {
        line += 1;
        let (device, name) = (device.to_owned(), text.to_owned());
        site.expectations.push(Expectation { device, name, port, verdict, line });
    };
    use ExpectedVerdict::{Allow, Deny};
    expect("press-3", IOT, 8883, Allow); // 41
    expect("press-3", CREDENTIALS, 443, Deny);
    expect("press-3", CREDENTIALS, 443, Allow); // 43, not met
    expect("press-3", "not a name", 443, Deny);
    expect("press-3", "10.0.0.1", 443, Allow); // 45, not met
    expect("10.10.9.9", CREDENTIALS, 443, Allow);
    expect("10.10.9.9", CREDENTIALS, 443, Deny); // 47, not met
    expect("10.10.3.7", IOT, 443, Deny); // an address alone is not the bound device
    expect("nobody", IOT, 443, Deny); // 49, not met
    expect("press-3", &IOT.to_uppercase(), 443, Allow);

    let failed = Policy::compile(&site).check_expectations(&site);
    let lines: Vec<usize> = failed.iter().map(|failure| failure.line).collect();
    assert_eq!(lines, [43, 45, 47, 49]);
    let got: Vec<&Got> = failed.iter().map(|failure| &failure.got).collect();
    assert_eq!(*got[0], Got::Denied(Reason::DeviceNotAllowed, "device press-3".into()));
    assert_eq!(*got[1], Got::Denied(Reason::NameIsAddress, "hello".into()));
    assert_eq!(*got[2], Got::Allowed("policy.default".into()));
    assert_eq!(*got[3], Got::NoSuchDevice);
    assert!(failed[0].sentence.contains("device_not_allowed"), "{}", failed[0].sentence);
    assert_eq!((failed[2].expected, failed[2].port), (Deny, 443));
}

fn steps(site: &Site, address: &str, mac: &str, text: &str, port: u16) -> Vec<Step> {
    Policy::compile(site).trace(asking(address, mac), text, port)
}

fn oks(steps: &[Step]) -> Vec<(&'static str, Option<bool>)> {
    steps.iter().map(|step| (step.step, step.ok)).collect()
}

#[test]
fn an_allowed_flow_is_explained_from_device_to_grant() {
    let steps = steps(&press(), "10.10.3.7", MAC_A, IOT, 8883);
    let (yes, none) = (Some(true), None);
    let expected = [
        ("device", yes),
        ("rule", yes),
        ("name", yes),
        ("catalogue", none),
        ("tls", none),
        ("port", yes),
        ("grant", yes),
    ];
    assert_eq!(oks(&steps), expected);
    for (step, words) in steps.iter().zip([
        "device \"press-3\", recognised by mac",
        "\"device press-3\" allows iot-data.",
        "[endpoint.iot-data]",
        "com.amazonaws.eu-central-1.iot.data",
        "AWS IoT data accepts TLS 1.2 and TLS 1.3 only.",
        "443, 8443 and 8883; asked for is 8883",
        "must lie in 10.20.0.0/16",
    ]) {
        assert!(step.fact.contains(words), "{}: {}", step.step, step.fact);
    }
}

#[test]
fn a_refused_flow_is_explained_to_the_end() {
    let site = press();
    let (yes, no, none) = (Some(true), Some(false), None);
    let public =
        steps(&site, "10.10.9.9", "", "greengrass-ats.iot.eu-central-1.amazonaws.com", 8443);
    assert_eq!(
        oks(&public),
        [
            ("device", none),
            ("rule", yes),
            ("name", no),
            ("catalogue", none),
            ("tls", none),
            ("port", none),
            ("grant", no)
        ]
    );
    assert!(public[6].fact.starts_with("name_public_only: "), "{}", public[6].fact);
    assert!(!public[6].fact.contains("iotdata"), "what to do is no fact");

    let spoofed = steps(&site, "10.10.3.7", MAC_B, IOT, 1);
    assert_eq!(
        oks(&spoofed),
        [
            ("device", no),
            ("rule", no),
            ("name", yes),
            ("catalogue", none),
            ("tls", none),
            ("port", no),
            ("grant", no)
        ]
    );
    assert!(spoofed[0].fact.contains("bound to MAC 00:1b:1b:00:00:0a at 10.10.3.7"));
    let malformed = steps(&site, "10.10.9.9", "", "a..b", 443);
    assert_eq!(oks(&malformed), [("device", none), ("rule", yes), ("name", no)]);
    assert!(malformed[2].fact.contains("empty label"), "{}", malformed[2].fact);
}
