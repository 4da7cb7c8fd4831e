//! Learn mode: what it lets through, until when, and that it never leads out of the VPC.

use proptest::prelude::*;
use proptest::sample::select;
use time::{Duration, OffsetDateTime};

use super::model::{PORTS, site as some_site, some_asking, some_name};
use super::support::*;
use crate::config::{PolicyMode, Site};
use crate::policy::{Asking, Policy};
use crate::reason::Reason;

fn end() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_896_112_800).expect("a moment")
}

fn before() -> OffsetDateTime {
    end() - Duration::NANOSECOND
}

fn learning(mut site: Site) -> Site {
    site.policy.mode = PolicyMode::Learn { until: end() };
    site
}

fn press() -> Site {
    let mut site = plant();
    site.endpoints[0].networks = vec![net4("10.20.7.0/24")];
    site.policy.default.clear();
    site.device_entries = vec![
        device("press-3", MAC_A, "10.10.3.7", &["iot-data"]),
        device("mill", "", "10.10.3.8", &["iot-data"]),
    ];
    site
}

const MILL: &str = "10.10.3.8";
const STRANGER: &str = "10.10.9.9";

#[test]
fn what_the_rules_would_refuse_is_granted_for_the_vpc_until_the_end() {
    let policy = Policy::compile(&learning(press()));
    for (from, text, port, reason) in [
        (MILL, "www.example.com", 443, Reason::NameNotAllowed),
        (MILL, "logs.eu-central-1.amazonaws.com", 443, Reason::NameNotAllowed),
        (MILL, "logs.us-east-1.amazonaws.com", 443, Reason::NameWrongRegion),
        (MILL, CREDENTIALS, 443, Reason::DeviceNotAllowed),
        (MILL, CREDENTIALS, 8443, Reason::PortNotAllowed),
        (MILL, "greengrass-ats.iot.eu-central-1.amazonaws.com", 443, Reason::NamePublicOnly),
        (STRANGER, IOT, 8883, Reason::DeviceUnknown),
    ] {
        let judge = |now| policy.judge_at(asking(from, ""), &name(text), port, now).outcome;
        let grant = judge(before()).expect(text);
        assert_eq!(grant.would_refuse(), Some(reason), "{text}");
        assert_eq!((&**grant.rule(), grant.port()), ("learn", port));
        assert_eq!(*grant.endpoint().networks, [net4("10.20.0.0/16")]);
        assert_eq!(judge(end()).expect_err("the end has come").reason, reason, "{text}");
        let enforced = policy.judge(asking(from, ""), &name(text), port).outcome;
        assert_eq!(enforced.expect_err("learn mode plays no part").reason, reason);
    }
}

#[test]
fn what_is_allowed_is_granted_as_ever() {
    let policy = Policy::compile(&learning(press()));
    for now in [before(), end()] {
        let grant = policy.judge_at(asking(MILL, ""), &name(IOT), 8883, now).outcome.expect("its");
        assert_eq!((grant.would_refuse(), &**grant.rule()), (None, "device mill"));
        assert_eq!(*grant.endpoint().networks, [net4("10.20.7.0/24")]);
    }
}

#[test]
fn a_stolen_address_and_a_foreign_network_learn_nothing() {
    let policy = Policy::compile(&learning(press()));
    for (address, mac, reason) in [
        ("10.10.3.7", MAC_B, Reason::DeviceNotAllowed),
        ("10.10.3.7", "", Reason::DeviceNotAllowed),
        ("10.10.3.9", MAC_A, Reason::DeviceNotAllowed),
        ("192.0.2.1", "", Reason::DeviceUnknown),
    ] {
        for text in [IOT, "www.example.com"] {
            let verdict = policy.judge_at(asking(address, mac), &name(text), 443, before());
            assert_eq!(verdict.outcome.expect_err("spoofed").reason, reason, "{address} {mac}");
        }
    }
}

#[test]
fn enforcing_sites_learn_nothing() {
    let policy = Policy::compile(&press());
    let long_ago = OffsetDateTime::UNIX_EPOCH;
    let verdict = policy.judge_at(asking(MILL, ""), &name(CREDENTIALS), 443, long_ago);
    assert_eq!(verdict.outcome.expect_err("enforced").reason, Reason::DeviceNotAllowed);
}

#[test]
fn a_reload_withdraws_what_was_only_learnt() {
    let site = learning(press());
    let mill = asking(MILL, "");
    let judged = Policy::compile(&site).judge_at(mill, &name(CREDENTIALS), 443, before());
    let grant = judged.outcome.expect("learnt");
    let still = |site: &Site, now| Policy::compile(site).still_grants_at(mill, &grant, now);
    assert!(still(&site, before()), "another reload in learn mode");
    assert!(!still(&site, end()), "the end has come");
    assert!(!still(&press(), before()), "learn mode is off");
    let mut allowed = press();
    allowed.device_entries[1].allow.push("iot-credentials".into());
    assert!(still(&allowed, before()), "the permission was made a rule");
}

#[test]
fn the_endpoint_of_a_name_is_found_or_explained() {
    let policy = Policy::compile(&press());
    assert_eq!(&*policy.endpoint_of(&name(IOT)).expect("listed").id, "iot-data");
    let denial = policy.endpoint_of(&name("logs.eu-central-1.amazonaws.com")).expect_err("none");
    assert!(denial.remedy().expect("a remedy").contains("[endpoint.logs]"));
}

fn inside(inner: &ipnet::Ipv4Net, site: &Site) -> bool {
    site.vpc.networks.iter().any(|net| net.contains(inner))
}

fn is_device(site: &Site, asking: Asking) -> bool {
    site.devices.networks.iter().any(|net| net.contains(&asking.address))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1024) })]

    #[test]
    fn learning_never_leads_out_of_the_vpc_and_changes_no_permission(
        site in some_site(),
        vpc in prop::collection::vec(select(vec!["10.20.0.0/16", "10.21.0.0/16", "10.0.0.0/8"]), 1..3),
        asking in some_asking(),
        text in some_name(),
        port in select(PORTS),
        later in any::<bool>(),
    ) {
        let Ok(name) = text.parse() else { return Ok(()) };
        let mut site = learning(site);
        site.vpc.networks = vpc.into_iter().map(net4).collect();
        for table in &mut site.endpoints {
            table.networks.clone_from(&site.vpc.networks);
        }
        let policy = Policy::compile(&site);
        let now = if later { end() } else { before() };
        let enforced = policy.judge(asking, &name, port).outcome;
        let learnt = policy.judge_at(asking, &name, port, now).outcome;
        match (enforced, learnt) {
            (Ok(enforced), Ok(grant)) => {
                prop_assert_eq!(grant.would_refuse(), None);
                prop_assert_eq!(grant.rule(), enforced.rule());
                prop_assert!(grant.endpoint().networks.iter().all(|net| inside(net, &site)));
            }
            (Err(denial), Ok(grant)) => {
                prop_assert!(!later);
                prop_assert!(is_device(&site, asking));
                prop_assert_eq!(grant.would_refuse(), Some(denial.reason));
                prop_assert!(grant.endpoint().networks.iter().all(|net| inside(net, &site)));
                prop_assert!(!grant.endpoint().networks.is_empty());
            }
            (Err(denial), Err(still)) => prop_assert_eq!(format!("{denial:?}"), format!("{still:?}")),
            (Ok(_), Err(denial)) => prop_assert!(false, "learning refused: {denial:?}"),
        }
    }
}
