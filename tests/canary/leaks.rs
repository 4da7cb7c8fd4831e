//! Each kind of leak, staged for real, is found and named.

use sluicegate::lab::dns::Mood;
use sluicegate::lab::services::HISTORIAN;

use super::*;

/// A hole in what another wire lets through, and what gets out by it.
struct Hole {
    /// What it lets through, in the words of nft.
    opened: &'static str,
    /// The ways out, and the octets of the targets that they lead to.
    leaks: &'static [(Way, &'static [u8])],
    families: &'static [usize],
}

const EITHER: &[u8] = &[PUBLIC_OCTET, RESOLVER_OCTET];
const HOST: &[u8] = &[PUBLIC_OCTET];
const RESOLVER: &[u8] = &[RESOLVER_OCTET];
const BOTH: &[usize] = &[0, 1];

/// A host without a server refuses datagrams itself, which is a leak too; a reset of its own looks
/// like the gate's.
const HOLES: [Hole; 9] = [
    Hole { opened: "tcp dport 443", leaks: &[(Way::Https, HOST)], families: BOTH },
    Hole { opened: "tcp dport 80", leaks: &[(Way::Http, HOST)], families: BOTH },
    Hole { opened: "udp dport 443", leaks: &[(Way::Quic, EITHER)], families: BOTH },
    Hole { opened: "udp dport 53", leaks: &[(Way::Dns, EITHER)], families: BOTH },
    Hole { opened: "tcp dport 53", leaks: &[(Way::DnsTcp, RESOLVER)], families: BOTH },
    Hole { opened: "tcp dport 853", leaks: &[(Way::DnsTls, RESOLVER)], families: BOTH },
    Hole { opened: "udp dport 853", leaks: &[(Way::DnsQuic, EITHER)], families: BOTH },
    Hole {
        opened: "meta l4proto { icmp, ipv6-icmp }",
        leaks: &[(Way::Echo, EITHER)],
        families: BOTH,
    },
    Hole {
        opened: "meta nfproto ipv6",
        leaks: &[
            (Way::Https, HOST),
            (Way::Http, HOST),
            (Way::Quic, EITHER),
            (Way::Dns, EITHER),
            (Way::DnsTcp, RESOLVER),
            (Way::DnsTls, RESOLVER),
            (Way::DnsQuic, EITHER),
            (Way::Echo, EITHER),
        ],
        families: &[1],
    },
];

impl Hole {
    /// What it lets out, as `way target`, sorted.
    fn expected(&self) -> Vec<String> {
        let mut expected = Vec::new();
        for (way, octets) in self.leaks {
            for octet in *octets {
                for family in self.families {
                    expected.push(format!("{} {}", way.as_str(), public(*octet)[*family]));
                }
            }
        }
        expected.sort();
        expected
    }
}

/// Somebody gives the plant another wire into the box, which the configuration knows nothing of. What
/// comes by it is forwarded.
pub(super) fn lay_another_wire(lab: &Lab) {
    ip(lab, "link add side0 type veth peer name side1 netns dev1");
    ip(lab, "addr add 10.77.0.1/24 dev side0");
    ip(lab, "addr add fd00:77::1/64 dev side0 nodad");
    ip(lab, "link set side0 up");
    for words in [
        "addr add 10.77.0.7/24 dev side1",
        "addr add fd00:77::7/64 dev side1 nodad",
        "link set side1 up",
        "route replace default via 10.77.0.1",
        "-6 route replace default via fd00:77::1",
    ] {
        run(lab.device(0), "ip", &words.split(' ').collect::<Vec<_>>());
    }
    nft(lab, "table inet side { chain out { }; }");
    nft(
        lab,
        "table inet side { \
         chain forward { type filter hook forward priority -10; iifname side0 jump out; }; \
         chain nat { type nat hook postrouting priority 100; oifname wan0 masquerade; }; }",
    );
}

/// Refuses all that comes by the other wire, but for this.
fn open(lab: &Lab, hole: &str) {
    nft(lab, "flush chain inet side out");
    if !hole.is_empty() {
        nft(lab, &format!("add rule inet side out {hole} accept"));
    }
    nft(lab, "add rule inet side out meta l4proto tcp reject with tcp reset");
    nft(lab, "add rule inet side out reject with icmpx admin-prohibited");
}

fn leaked(said: &Value) -> Vec<String> {
    let mut leaked = outcomes(said, "leaked");
    leaked.sort();
    leaked
}

/// Leaks as the gate tells them, as `way target`, sorted.
fn told(leaks: &Value) -> Vec<String> {
    let word = |leak: &Value, key: &str| leak[key].as_str().unwrap().to_owned();
    let leaks = list(leaks).iter().map(|leak| word(leak, "way") + " " + &word(leak, "target"));
    let mut leaks: Vec<_> = leaks.collect();
    leaks.sort();
    leaks
}

#[test]
fn each_hole_is_found_and_named() {
    inside::test("leaks::each_hole_is_found_and_named", || {
        let lab = lab();
        serve_encrypted_dns(&lab);
        let daemon = start_with(&lab, &config(&lab, &everywhere(), ""));
        lay_another_wire(&lab);
        for hole in &HOLES {
            open(&lab, hole.opened);
            let (code, said, notes) = canary(&lab, daemon.config_file(), &["--report"]);
            assert_eq!(leaked(&said), hole.expected(), "{}: {said:#}", hole.opened);
            assert_eq!((code, &said["leaked"]), (Some(5), &json!(true)), "{notes}");
            let status = daemon.status_json().unwrap();
            assert_eq!(problem_codes(&status), ["leak"], "{}: {status}", hole.opened);
            let last = &status["canary"]["last"]["leaks"];
            assert_eq!(told(last), hole.expected(), "{}", hole.opened);
            let sentence = status["problems"][0]["sentence"].as_str().unwrap();
            let (way, octets) = hole.leaks[0];
            let first = format!("{} to {}", way.as_str(), public(octets[0])[hole.families[0]]);
            assert!(sentence.contains(&first), "{}: {sentence}", hole.opened);
        }
        open(&lab, "");
        let (code, said, notes) = canary(&lab, daemon.config_file(), &["--report"]);
        assert_eq!((code, leaked(&said)), (Some(0), Vec::new()), "{said:#} {notes}");
        until_status(&daemon, "the alarm's end", |status| status["healthy"] == true);
        let records = until_canary_records(&lab, HOLES.len() + 1);
        for (record, hole) in records.iter().zip(&HOLES) {
            assert_eq!(record["severity_id"], 5, "{record}");
            let leaks = &record["unmapped"]["system"]["leaks"];
            assert_eq!(told(leaks), hole.expected(), "{}", hole.opened);
        }
        let last = &records[HOLES.len()];
        assert_eq!(last["unmapped"]["system"]["leaks"], json!([]), "{last}");
        assert_eq!(records.len(), HOLES.len() + 1);
    });
}

#[test]
fn answers_of_anybody_elses_dns_are_leaks() {
    inside::test("leaks::answers_of_anybody_elses_dns_are_leaks", || {
        let lab = lab();
        let targets = public(RESOLVER_OCTET);
        let text = config(&lab, &targets, "").replace("listen = \"off\"", "listen = \"lan\"");
        let daemon = start_with(&lab, &text);
        lay_another_wire(&lab);
        open(&lab, "meta l4proto { tcp, udp } th dport 53");
        let unknown = text.replace(FOREIGN, "nobody.example");
        let unknown = write_config(&lab, "unknown.toml", &unknown);
        for (file, mood, says) in [
            (daemon.config_file(), Mood::Answering, "with 1 records"),
            (Path::new(&unknown), Mood::Answering, "with Non-Existent Domain"),
            (daemon.config_file(), Mood::Failing, "with Server Failure"),
        ] {
            lab.zone().set_mood(mood);
            let (code, said, notes) = canary(&lab, file, &[]);
            assert_eq!(code, Some(5), "{says}: {said:#} {notes}");
            let [four, six] = targets;
            let expected = ["tcp_53", "udp_53"]
                .map(|way| [four, six].map(|target| format!("{way} {target}")))
                .concat();
            assert_eq!(leaked(&said), expected, "{says}: {said:#}");
            let such = list(&said["attempts"]).iter().filter(|one| one["outcome"] == "leaked");
            for one in such {
                assert!(one["detail"].as_str().unwrap().ends_with(says), "{says}: {one}");
            }
        }
    });
}

#[test]
fn a_name_that_the_gate_lets_pass_is_a_leak() {
    inside::test("leaks::a_name_that_the_gate_lets_pass_is_a_leak", || {
        let lab = lab();
        let text = lab.daemon_config();
        // The gate has an endpoint that the canary's file knows nothing of.
        let own = "allow   = [\"iot-data\", \"iot-credentials\"]";
        let more = "allow   = [\"iot-data\", \"iot-credentials\", \"historian\"]";
        let open = text.replacen(own, more, 1);
        assert_ne!(open, text);
        let daemon = start_with(&lab, &open);
        let endpoint =
            "[endpoint.historian]\nhosts = [\"historian.corp.example\"]\nports = [443, 8443]\n";
        let without = text.replace(endpoint, "").replace("\"historian\", ", "");
        assert!(!without.contains("historian"), "{without}");
        let targets = public(PUBLIC_OCTET);
        let without = configured(&without, &targets, HISTORIAN, "");
        let without = write_config(&lab, "without.toml", &without);
        let (code, said, notes) = canary(&lab, Path::new(&without), &["--report"]);
        assert_eq!(code, Some(5), "{said:#} {notes}");
        assert_eq!(leaked(&said), targets.map(|target| format!("tcp_443 {target}")), "{said:#}");
        let status = daemon.status_json().unwrap();
        assert_eq!(problem_codes(&status), ["leak"], "also where the gate expects none: {status}");
        assert_nothing_left(&lab, "the name goes into the VPC");
    });
}
