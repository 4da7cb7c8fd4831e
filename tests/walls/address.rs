//! The address guard: what resolvers say is not believed.

use std::net::Ipv4Addr;

use sluicegate::lab::device::Failure;
use sluicegate::lab::services::{IOT_CREDENTIALS, IOT_DATA};
use sluicegate::lab::topology::{DEVICES, public4};
use sluicegate::lab::{Daemon, Lab, inside};

use super::gate::*;

/// An answer that no endpoint of the site can have, and what it is refused with.
struct Wrong {
    addresses: &'static [Ipv4Addr],
    reason: &'static str,
}

const GOOD: Ipv4Addr = Ipv4Addr::new(10, 20, 0, IOT);
/// In the VPC, and with a server that would answer, but of another endpoint.
const NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(10, 20, 1, S3);
const PUBLIC: Ipv4Addr = public4(IOT);

const WRONG: [Wrong; 6] = [
    Wrong { addresses: &[PUBLIC], reason: "address_public" },
    Wrong { addresses: &[NEIGHBOUR], reason: "address_outside_endpoint" },
    Wrong { addresses: &[GOOD, PUBLIC], reason: "address_public" },
    Wrong { addresses: &[PUBLIC, GOOD], reason: "address_public" },
    Wrong { addresses: &[GOOD, NEIGHBOUR], reason: "address_outside_endpoint" },
    Wrong {
        addresses: &[Ipv4Addr::new(192, 168, 0, 11), Ipv4Addr::new(127, 0, 0, 1)],
        reason: "address_outside_endpoint",
    },
];

#[test]
fn a_wrong_answer_is_refused_and_never_dialled() {
    inside::test("address::a_wrong_answer_is_refused_and_never_dialled", || {
        let lab = lab();
        let narrow =
            format!("host = \"{IOT_DATA}\"\nnetworks = [\"10.20.0.11/32\", \"10.20.1.11/32\"]");
        let config = lab.daemon_config().replace(&format!("host = \"{IOT_DATA}\""), &narrow);
        let daemon = start_with(&lab, &config);
        // Counts every attempt of the box itself, before the output wall sees it.
        nft(
            &lab,
            "table inet probe {
             counter attempts { }
             chain leave { type filter hook output priority -300;
             meta l4proto tcp ip daddr { 198.51.100.0/24, 10.20.1.13, 192.168.0.11 } \
             counter name attempts
             meta l4proto tcp oifname lo ip daddr 127.0.0.1 tcp dport 443 counter name attempts
             }
             }",
        );
        for wrong in &WRONG {
            lab.zone().set_private(IOT_DATA, wrong.addresses);
            refused(&lab, &daemon, wrong);
        }
        assert_eq!(packets(&lab, "probe", "attempts"), 0, "a wrong address was dialled");
        assert_eq!(packets(&lab, "sluicegate", "egress_stopped"), 0);
        assert_nothing_left(&lab, "wrong answers");
        let strangers = lab.vpc_ledger().seen();
        assert!(strangers.iter().all(|seen| seen.endpoint.ip() != NEIGHBOUR), "{strangers:?}");

        // The other endpoint never suffered, and this one is back with its answer.
        assert!(get(&lab, 0, dialled(IOT, 443), IOT_CREDENTIALS).is_ok());
        lab.zone().set_private(IOT_DATA, &[GOOD]);
        until_status(&daemon, "the right answer", |s| endpoint(s, IOT_DATA)["reason"].is_null());
        assert!(get(&lab, 0, dialled(IOT, 443), IOT_DATA).is_ok());
        assert_eq!(packets(&lab, "probe", "attempts"), 0);
    });
}

fn refused(lab: &Lab, daemon: &Daemon, wrong: &Wrong) {
    let expected: Vec<String> = wrong.addresses.iter().map(ToString::to_string).collect();
    until_status(daemon, "the wrong answer", |status| {
        let known = list(&endpoint(status, IOT_DATA)["addresses"]);
        known.iter().map(|address| address.as_str().unwrap()).eq(expected.iter())
    });
    let skip = records(lab).len();
    let failure = get(lab, 0, dialled(IOT, 443), IOT_DATA).expect_err("refused");
    assert!(matches!(failure, Failure::TlsAlert(_)), "{expected:?}: {failure:?}");
    let record = until_end_behind(lab, skip, DEVICES[0].address.into());
    let egress = &record["unmapped"]["egress"];
    assert_eq!(egress["reason"], wrong.reason, "{expected:?}: {record}");
    let detail = egress["detail"].as_str().unwrap_or_default();
    assert!(expected.iter().any(|address| detail.contains(address)), "{detail}");
}
