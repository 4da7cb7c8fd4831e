//! The rules in a real kernel: applied, read back, compared, removed, and as text.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, a panic is the report"
)]

#[path = "ruleset/command.rs"]
mod command;
#[path = "ruleset/damage.rs"]
mod damage;
#[path = "support/gate.rs"]
mod gate;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use sluicegate::config::{self, ForeignDns, InterfaceName};
use sluicegate::intercept::nft::{self, Verified};
use sluicegate::intercept::{self, Passage, Plan, render};
use sluicegate::lab::inside;
use sluicegate::policy::Policy;

/// A plan as of a site whose devices use both families.
pub(crate) fn plan() -> Plan {
    Plan {
        device_interfaces: interfaces(&["lan0", "lan1.20"]),
        device_networks: networks(&[
            "10.10.0.0/16",
            "10.10.3.0/24",
            "10.11.0.7/32",
            "fd00:10::/64",
        ]),
        tunnel_interfaces: interfaces(&["xfrm101", "xfrm102"]),
        vpc_networks: networks(&["10.20.0.0/16", "10.21.0.0/24"]),
        ports: vec![443, 8443, 8883],
        listen_port: 15_443,
        dns: Some(ForeignDns::Redirect),
        passage: Passage::Open,
    }
}

fn interfaces(names: &[&str]) -> Vec<InterfaceName> {
    names.iter().map(|name| InterfaceName::parse(name).expect("a name")).collect()
}

fn networks(texts: &[&str]) -> Vec<ipnet::IpNet> {
    texts.iter().map(|text| text.parse().expect("a network")).collect()
}

/// Plans of every shape: both families, IPv4 only, IPv6 only, one of everything.
fn plans() -> Vec<Plan> {
    let v4 = Plan { device_networks: networks(&["10.10.0.0/16"]), ..plan() };
    let v6 = Plan {
        device_networks: networks(&["fd00:10::/64", "fd00:11::7/128"]),
        dns: Some(ForeignDns::Refuse),
        ..plan()
    };
    let least = Plan {
        device_interfaces: interfaces(&["lan0"]),
        tunnel_interfaces: interfaces(&["wg0"]),
        vpc_networks: networks(&["10.20.0.0/16"]),
        ports: vec![443],
        dns: None,
        ..v4.clone()
    };
    let closed = Plan { passage: Passage::Closed, ..plan() };
    vec![plan(), v4, v6, least, closed]
}

/// Gives a script to `nft -f -`, in this process's own network namespace.
pub(crate) fn feed(script: &str) {
    let mut child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "nft refused:\n{script}");
}

/// What a program prints, which must succeed.
pub(crate) fn said(program: &str, words: &str) -> String {
    let output = Command::new(program).args(words.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "{program} {words}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_is_applied_is_what_is_verified() {
    inside::test("what_is_applied_is_what_is_verified", || {
        for plan in plans() {
            assert_eq!(nft::verify(&plan).unwrap(), Verified::Absent);
            nft::apply(&plan).unwrap();
            assert_eq!(nft::verify(&plan).unwrap(), Verified::Same, "{plan:?}");
            nft::apply(&plan).unwrap();
            assert_eq!(nft::verify(&plan).unwrap(), Verified::Same, "twice: {plan:?}");
            nft::clear().unwrap();
            feed(&render::text(&plan));
            assert_eq!(nft::verify(&plan).unwrap(), Verified::Same, "as text: {plan:?}");
            feed(&render::text(&plan));
            assert_eq!(nft::verify(&plan).unwrap(), Verified::Same, "as text twice: {plan:?}");
            nft::clear().unwrap();
        }
    });
}

#[test]
fn a_plan_replaces_whatever_table_is_there() {
    inside::test("a_plan_replaces_whatever_table_is_there", || {
        let boot = concat!(env!("CARGO_MANIFEST_DIR"), "/nft/boot.nft");
        let stale = "table inet sluicegate {
            map elsewhere { type ipv4_addr : verdict; elements = { 192.0.2.1 : drop }; }
            set ports { type ipv4_addr; flags interval; elements = { 192.0.2.0/24 }; }
            counter udp_blocked { packets 7 bytes 7; }
            chain forward { type filter hook input priority 5; policy drop; }
            chain from_device { ip saddr vmap @elsewhere; }
            chain output { type route hook output priority 0; jump from_device; }
        }\n";
        for script in [std::fs::read_to_string(boot).unwrap(), stale.to_owned()] {
            for plan in plans() {
                nft::clear().unwrap();
                feed(&script);
                assert!(matches!(nft::verify(&plan).unwrap(), Verified::Different(_)));
                nft::apply(&plan).unwrap();
                assert_eq!(nft::verify(&plan).unwrap(), Verified::Same);
                nft::clear().unwrap();
                feed(&script);
                feed(&render::text(&plan));
                assert_eq!(nft::verify(&plan).unwrap(), Verified::Same);
            }
        }
    });
}

#[test]
fn clearing_takes_the_gates_own_and_nothing_else() {
    inside::test("clearing_takes_the_gates_own_and_nothing_else", || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        feed(
            "table inet other {\n set s { type mark; elements = { 7 }; }\n chain sluicegate { }\n}\n",
        );
        said("ip", "rule add fwmark 7 lookup 5100 priority 90");
        said("ip", "route add local 192.0.2.0/24 dev lo table 5200");
        let state = || {
            let routes = ["route show table all", "-6 route show table all", "rule", "-6 rule"];
            routes.map(|words| said("ip", words)).join("\n") + &said("nft", "list ruleset")
        };
        let before = state();
        for plan in plans() {
            runtime.block_on(async {
                // Twice, as after a crash.
                intercept::set_up(&plan).await.unwrap();
                intercept::set_up(&plan).await.unwrap();
            });
            let rules = ["rule", "-6 rule"].map(|words| said("ip", words));
            assert_eq!(rules.each_ref().map(|rules| count_own(rules)), [1, 1]);
            let dead_ends = rules.map(|rules| rules.matches("lookup 5101").count());
            assert_eq!(dead_ends, [plan.device_interfaces.len(); 2]);
            assert!(said("ip", "route show table 5101").contains("prohibit default"));
            assert!(said("ip", "route show table 5100").contains("local default dev lo"));
            runtime.block_on(intercept::clear()).unwrap();
            assert_eq!(state(), before);
            assert_eq!(nft::present().unwrap(), nft::Presence::Absent);
        }
        runtime.block_on(intercept::clear()).unwrap();
        assert_eq!(state(), before, "where there is nothing to clear");
    });
}

fn count_own(rules: &str) -> usize {
    rules.lines().filter(|line| line.contains("fwmark 0x51c00001 lookup 5100")).count()
}

#[test]
fn the_reference_ruleset_is_that_of_the_example() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let loaded = config::load(&root.join("appliance/sluicegate.toml.example"));
    let site = loaded.unwrap_or_else(|p| panic!("{}", p.render(config::Style::Plain))).site;
    let text = render::text(&Plan::new(&site, Policy::compile(&site).ports()));
    let golden = root.join("nft/sluicegate.nft");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &text).unwrap();
    }
    let stored = std::fs::read_to_string(&golden).unwrap();
    assert_eq!(stored, text, "render it anew: UPDATE_GOLDEN=1 cargo test --test ruleset");
}
