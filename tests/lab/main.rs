//! The lab itself: what it builds answers, what it breaks is broken, and it leaves nothing behind.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod remains;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use sluicegate::lab::device::{self, Call, Failure, HelloShape, Sni, tls_connect};
use sluicegate::lab::services::{self, Blob, Handshake, MQTT_ALPN, SERVICES, SPARE_OCTET};
use sluicegate::lab::topology::{
    DEVICES, Offload, TUNNEL_SOURCE, Wiring, ZONES, public, public4, public6,
};
use sluicegate::lab::{Lab, LabError, dns, inside};

/// For what must come back.
const SOON: Duration = Duration::from_secs(10);
/// For what must not come back: long enough for a round trip on a busy machine.
const SILENCE: Duration = Duration::from_secs(1);

fn lab() -> Lab {
    Lab::up().unwrap_or_else(|error| panic!("{error}"))
}

fn private(zone: usize, octet: u8, port: u16) -> SocketAddr {
    (ZONES[zone].address(octet), port).into()
}

#[test]
fn a_leak_succeeds_and_is_counted_until_forgotten() {
    inside::test("a_leak_succeeds_and_is_counted_until_forgotten", || {
        let lab = lab();
        assert_eq!(lab.leaked_packets().unwrap(), 0, "{:?}", lab.leaks());
        for (device, address) in DEVICES.iter().zip([public(11), public(13), public(18)]) {
            for to in address {
                let before = lab.leaked_packets().unwrap();
                let pki = lab.pki();
                let call = Call::new((to, 443), services::IOT_DATA);
                let number = DEVICES.iter().position(|d| d.name == device.name).unwrap();
                let reply = lab
                    .device(number)
                    .run(async move || tls_connect(&pki, &call).await?.get("/").await)
                    .unwrap();
                assert_eq!(reply.endpoint, Some(to.to_string()));
                assert!(lab.leaked_packets().unwrap() > before + 5);
                let from: IpAddr = match to {
                    IpAddr::V4(_) => device.address.into(),
                    IpAddr::V6(_) => device.address6.into(),
                };
                let leaks = lab.leaks().unwrap();
                let seen = |leak: &&sluicegate::lab::Leak| {
                    (leak.from, leak.to, leak.protocol.as_str()) == (from, to, "tcp")
                };
                assert!(leaks.iter().any(|leak| seen(&leak)), "{leaks:?}");
            }
        }
        assert_eq!(lab.public_seen().len(), 6);
        let seen = &lab.public_seen()[0];
        assert_eq!(seen.name.as_deref(), Some(services::IOT_DATA));
        assert_eq!(seen.peer.ip(), IpAddr::from(DEVICES[0].address));
        lab.forget_leaks().unwrap();
        assert_eq!(lab.leaked_packets().unwrap(), 0);
        assert_eq!((lab.leaks().unwrap(), lab.public_seen()), (vec![], vec![]));
    });
}

#[test]
fn other_packets_leak_as_well() {
    inside::test("other_packets_leak_as_well", || {
        let lab = lab();
        let mut count = 0;
        let mut leaked = |what: &str| {
            let now = lab.leaked_packets().unwrap();
            assert!(now > count, "{what} was not counted");
            count = now;
        };
        let device = lab.device(2);
        for ip in public(11) {
            let echoed = device
                .run(async move || device::udp_exchange((ip, 443).into(), b"quic?", SOON).await);
            assert_eq!(echoed.unwrap(), b"quic?");
            leaked("UDP");
            assert_eq!(device.run(async move || device::echo(ip, SOON).await), Ok(()));
            leaked("ICMP");
            let page = device.run(async move || {
                let request = b"GET / HTTP/1.1\r\nhost: www.example.com\r\n\r\n";
                device::exchange((ip, 80).into(), request, SOON).await
            });
            assert!(page.unwrap().starts_with(b"HTTP/1.1 200 "));
            leaked("plain HTTP");
        }
        assert_eq!(lab.public_ledger().datagrams().len(), 2);
        let [spare, _] = public(SPARE_OCTET);
        let refused =
            device.run(async move || device::tcp_connect((spare, 443).into(), SOON).await.err());
        assert_eq!(refused, Some(Failure::Refused));
    });
}

#[test]
fn icmp_errors_come_back_as_they_were() {
    inside::test("icmp_errors_come_back_as_they_were", || {
        let lab = lab();
        let rules = "table inet deny { chain forward { type filter hook forward priority 0
            meta nfproto ipv4 reject with icmp admin-prohibited
            meta nfproto ipv6 reject with icmpv6 admin-prohibited
        }\n}";
        let file = lab.directory().join("deny.nft");
        std::fs::write(&file, rules).unwrap();
        let output = lab.edge().command("nft", &["-f", file.to_str().unwrap()]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        for ip in public(11) {
            let outcomes = lab.device(0).run(async move || {
                [
                    device::tcp_connect((ip, 443).into(), SOON).await.err(),
                    device::udp_exchange((ip, 443).into(), b"x", SOON).await.err(),
                    device::echo(ip, SOON).await.err(),
                ]
            });
            for outcome in outcomes {
                let failure = outcome.expect("everything is refused");
                assert!(failure.is_prohibited(), "{failure:?}");
            }
        }
        assert_eq!(lab.leaked_packets().unwrap(), 0, "{:?}", lab.leaks());
    });
}

#[test]
fn every_service_answers_the_box_in_both_zones() {
    inside::test("every_service_answers_the_box_in_both_zones", || {
        let lab = lab();
        for service in &SERVICES {
            for (zone, port) in [(0, 443), (1, service.ports[0])] {
                if !service.ports.contains(&port) || port == 8883 {
                    continue;
                }
                let to = private(zone, service.octet, port);
                let (pki, call) = (lab.pki(), Call::new(to, service.names[0]));
                let reply = lab
                    .edge()
                    .run(async move || tls_connect(&pki, &call).await?.get("/").await)
                    .unwrap_or_else(|failure| panic!("{} at {to}: {failure}", service.id));
                assert_eq!(reply.endpoint, Some(to.ip().to_string()), "{}", service.id);
                let seen = lab.vpc_ledger().seen().pop().unwrap();
                assert_eq!(seen.peer.ip(), IpAddr::from(TUNNEL_SOURCE));
                assert_eq!(seen.name.as_deref(), Some(service.names[0]));
            }
        }
        assert_eq!((lab.leaked_packets().unwrap(), lab.bypassed_packets().unwrap()), (0, 0));
    });
}

#[test]
fn devices_publish_fetch_credentials_and_move_objects() {
    inside::test("devices_publish_fetch_credentials_and_move_objects", || {
        let lab = lab();
        let device = lab.device(1);
        for (port, alpn) in [(8883, None), (443, Some(MQTT_ALPN)), (8443, Some(MQTT_ALPN))] {
            let mut call = Call::new(private(0, 11, port), services::IOT_DATA).with_certificate();
            call.alpn.extend(alpn.map(str::to_owned));
            let pki = lab.pki();
            let published = device.run(async move || {
                let mut session = tls_connect(&pki, &call).await?;
                session.mqtt_publish("press/3", &[b'x'; 300]).await?;
                session.mqtt_ping().await?;
                session.close().await
            });
            assert_eq!(published, Ok(()), "port {port}");
            assert_eq!(lab.vpc_ledger().seen().pop().unwrap().handshake, Handshake::Certificate);
        }
        assert!(lab.bypassed_packets().unwrap() > 0, "these went past the gate");

        let pki = lab.pki();
        let (with, without) = device.run(async move || {
            let call = Call::new(private(1, 12, 443), services::IOT_CREDENTIALS);
            let path = "/role-aliases/plant/credentials";
            let without = tls_connect(&pki, &call).await.unwrap().get(path).await.unwrap();
            let call = call.with_certificate();
            (tls_connect(&pki, &call).await.unwrap().get(path).await.unwrap(), without)
        });
        assert_eq!((with.status, without.status), (200, 403));
        let credentials: serde_json::Value = serde_json::from_slice(&with.body).unwrap();
        assert_eq!(credentials["credentials"]["accessKeyId"], "ASIAIOSFODNN7EXAMPLE");

        let size = 3_000_001;
        let pki = lab.pki();
        let (put, get) = device.run(async move || {
            let call = Call::new(private(0, 13, 443), services::BUCKET);
            let put = tls_connect(&pki, &call).await.unwrap().put_blob("/a/b", size).await;
            let path = format!("/blob?size={size}");
            (put, tls_connect(&pki, &call).await.unwrap().get(&path).await)
        });
        assert_eq!(put.unwrap().status, 200);
        let get = get.unwrap();
        assert_eq!((get.bytes, get.sha256), (size, Blob::sha256(size)));
        let stored = &lab.vpc_ledger().objects()[&format!("{}/a/b", services::BUCKET)];
        assert_eq!((stored.bytes, stored.sha256.clone()), (size, Blob::sha256(size)));
    });
}

#[test]
fn odd_hellos_are_what_they_say() {
    inside::test("odd_hellos_are_what_they_say", || {
        let lab = lab();
        let to = private(0, 13, 443);
        for shape in
            [HelloShape::OneByteSegments(100), HelloShape::Records(1), HelloShape::Records(200)]
        {
            let (pki, call) = (lab.pki(), Call::new(to, services::BUCKET).shaped(shape));
            let done = lab.device(0).run(async move || tls_connect(&pki, &call).await.map(drop));
            assert_eq!(done, Ok(()), "{shape:?}");
        }
        let (pki, call) = (lab.pki(), Call::new(to, services::BUCKET).without_sni());
        assert_eq!(call.sni, Sni::Omitted);
        let done = lab.device(0).run(async move || tls_connect(&pki, &call).await.map(drop));
        assert_eq!(done, Ok(()));
        assert_eq!(lab.vpc_ledger().seen().pop().unwrap().name, None);

        let (pki, call) = (lab.pki(), Call::new(to, "not-in-the-certificate.example"));
        let untrusted = lab.device(0).run(async move || tls_connect(&pki, &call).await.err());
        assert!(matches!(untrusted, Some(Failure::Untrusted(_))), "{untrusted:?}");

        let old = device::tls10_hello(services::BUCKET);
        let answer = lab.device(0).run(async move || device::exchange(to, &old, SOON).await);
        // handshake_failure: the hello is well-formed (else 50), and has nothing the server takes.
        assert_eq!(answer, Err(Failure::TlsAlert(40)));
    });
}

fn ask(lab: &Lab, resolver: IpAddr, name: &str, kind: &str) -> (u16, Vec<String>) {
    let (name, kind) = (name.to_owned(), kind.to_owned());
    lab.edge().run(async move || {
        use hickory_proto::op::{Message, Query};
        use hickory_proto::rr::Name;
        let mut query = Message::query();
        query.metadata.id = 7;
        let name = Name::from_ascii(format!("{name}.")).unwrap();
        query.add_query(Query::query(name, kind.parse().unwrap()));
        let bytes = query.to_vec().unwrap();
        let answer = device::udp_exchange((resolver, 53).into(), &bytes, SOON).await.unwrap();
        let framed = [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], &bytes].concat();
        let by_tcp = device::exchange((resolver, 53).into(), &framed, SOON).await.unwrap();
        assert_eq!(by_tcp[2..], answer, "UDP and TCP differ");
        let message = Message::from_vec(&answer).unwrap();
        let data = message.answers.iter().map(|record| record.data.to_string()).collect();
        (message.metadata.response_code.into(), data)
    })
}

#[test]
fn resolvers_answer_as_inbound_endpoints_do() {
    inside::test("resolvers_answer_as_inbound_endpoints_do", || {
        let lab = lab();
        let name = services::IOT_DATA;
        let strings = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect();
        let enis: Vec<String> = strings(&["10.20.0.11", "10.20.1.11"]);
        for zone in &ZONES {
            let resolver = zone.resolver().into();
            assert_eq!(ask(&lab, resolver, name, "A"), (0, enis.clone()));
            assert_eq!(ask(&lab, resolver, name, "AAAA"), (0, vec![]));
            assert_eq!(ask(&lab, resolver, "no.such.example", "A"), (3, vec![]));
            let foreign = (0, vec![public4(18).to_string()]);
            assert_eq!(ask(&lab, resolver, services::FOREIGN, "A"), foreign);
        }
        let resolver = ZONES[0].resolver().into();
        assert_eq!(lab.zone().question_count(), 16);
        assert_eq!(lab.zone().questions()[0].from, IpAddr::from(TUNNEL_SOURCE));
        lab.zone().remove_private(name);
        assert_eq!(ask(&lab, resolver, name, "A"), (0, vec![public4(11).to_string()]));
        assert_eq!(ask(&lab, resolver, name, "AAAA"), (0, vec![public6(11).to_string()]));
        lab.zone().set_private(name, &[ZONES[1].address(12)]);
        assert_eq!(ask(&lab, resolver, name, "A"), (0, strings(&["10.20.1.12"])));
        assert_eq!(lab.leaked_packets().unwrap(), 0);
        for resolver in public(53) {
            assert_eq!(ask(&lab, resolver, name, "A"), (0, vec![public4(11).to_string()]));
        }
        lab.zone().set_mood(dns::Mood::Failing);
        assert_eq!(ask(&lab, resolver, name, "A"), (2, vec![]));
    });
}

fn reach(lab: &Lab, to: SocketAddr, patience: Duration) -> Result<(), Failure> {
    lab.edge().run(async move || device::tcp_connect(to, patience).await.map(drop))
}

#[test]
fn what_is_down_is_silent_and_comes_back() {
    inside::test("what_is_down_is_silent_and_comes_back", || {
        let lab = lab();
        let (here, there) = (private(0, 11, 443), private(1, 11, 443));
        lab.zone_down("eu-central-1a").unwrap();
        assert_eq!(reach(&lab, here, SILENCE), Err(Failure::TimedOut));
        assert_eq!(reach(&lab, there, SOON), Ok(()));
        lab.zone_up("eu-central-1a").unwrap();
        assert_eq!(reach(&lab, here, SOON), Ok(()));
        assert!(matches!(lab.zone_down("eu-central-1z"), Err(LabError::Io { .. })));

        lab.resolvers_down().unwrap();
        for zone in 0..2 {
            assert_eq!(reach(&lab, private(zone, 53, 53), SILENCE), Err(Failure::TimedOut));
            assert_eq!(reach(&lab, private(zone, 11, 443), SOON), Ok(()));
        }
        lab.resolvers_up().unwrap();
        assert_eq!(reach(&lab, private(0, 53, 53), SOON), Ok(()));
    });
}

#[test]
fn tunnels_fail_one_by_one() {
    inside::test("tunnels_fail_one_by_one", || {
        let lab = lab();
        let to = private(0, 11, 443);
        // Silent, but up: the route still goes there.
        lab.tunnel_blackhole(1).unwrap();
        assert_eq!(reach(&lab, to, SILENCE), Err(Failure::TimedOut));
        // Down: the other tunnel's route takes over.
        lab.tunnel_down(1).unwrap();
        assert_eq!(reach(&lab, to, SOON), Ok(()));
        lab.tunnel_down(2).unwrap();
        let none = reach(&lab, to, SOON);
        assert!(none.is_err() && none != Err(Failure::TimedOut), "the blackhole route: {none:?}");
        lab.tunnel_heal(1).unwrap();
        lab.tunnel_up(1).unwrap();
        assert_eq!(reach(&lab, to, SOON), Ok(()));
        lab.tunnel_up(2).unwrap();
        lab.tunnel_down(1).unwrap();
        assert_eq!(reach(&lab, to, SOON), Ok(()));
        assert_eq!(lab.leaked_packets().unwrap(), 0, "{:?}", lab.leaks());
    });
}

#[test]
fn a_daemon_that_ends_early_is_told_with_its_words() {
    inside::test("a_daemon_that_ends_early_is_told_with_its_words", || {
        let lab = lab();
        let program = lab.directory().join("daemon");
        script(&program, "echo \"no such setting in $3\" >&2; exit 2");
        let ended = lab.start_daemon(&program, "text");
        let Err(LabError::DaemonEnded { status, stderr }) = ended else { panic!("{ended:?}") };
        assert!(status.contains('2') && stderr.contains("no such setting in /"), "{stderr}");
        let again = lab.start_daemon(&program, "text");
        assert!(matches!(again, Err(LabError::DaemonEnded { .. })), "{again:?}");
    });
}

#[test]
fn a_daemon_is_ready_when_it_says_so_and_ends_with_the_lab() {
    inside::test("a_daemon_is_ready_when_it_says_so_and_ends_with_the_lab", || {
        let lab = lab();
        let program = lab.directory().join("daemon");
        // curl cannot write to a datagram socket; the test's own program does it for the daemon.
        let say = format!(
            "case $1 in status) echo '{{\"healthy\": true}}'; exit 4;; esac\n\
             trap 'exit 7' TERM\n\
             {} --exact say_ready --nocapture >&2\n\
             while :; do sleep 0.05; done",
            std::env::current_exe().unwrap().display()
        );
        script(&program, &say);
        let daemon = lab.start_daemon(&program, &lab.daemon_config()).unwrap();
        assert_eq!(daemon.status_json().unwrap()["healthy"], true);
        daemon.signal(rustix::process::Signal::TERM).unwrap();
        let status = daemon.wait(SOON).unwrap().expect("it ends on SIGTERM");
        assert_eq!(status.code(), Some(7), "{}", daemon.stderr_text());
        assert!(daemon.signal(rustix::process::Signal::TERM).is_err());
        let second = lab.start_daemon(&program, "").unwrap();
        let alive = format!("/proc/{}", second.pid());
        assert!(Path::new(&alive).exists());
        drop(lab);
        assert!(!Path::new(&alive).exists(), "the daemon outlived its lab");
    });
}

/// What the script above has in place of `sd_notify`; does nothing in a run of all tests.
#[test]
fn say_ready() {
    if let Some(path) = std::env::var_os("NOTIFY_SOCKET") {
        let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
        socket.send_to(b"STATUS=up\nREADY=1\n", path).unwrap();
    }
}

fn script(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn programs_run_in_their_namespace() {
    inside::test("programs_run_in_their_namespace", || {
        let lab = lab();
        let to = format!("{}:443:{}", services::IOT_DATA, ZONES[1].address(11));
        let ca = lab.pki().authority_file.display().to_string();
        let url = format!("https://{}/topics/a", services::IOT_DATA);
        let args = ["-sS", "-D", "-", "--cacert", &ca, "--resolve", &to, &url];
        let output = lab.edge().command("curl", &args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("x-endpoint: 10.20.1.11"), "{output:?}");
    });
}

#[test]
fn tunnels_can_have_the_size_of_real_ones() {
    inside::test("tunnels_can_have_the_size_of_real_ones", || {
        let wiring = Wiring { tunnel_mtu: Some(1446), offload: Offload::Off, ..Wiring::default() };
        let lab = Lab::up_with(wiring).unwrap_or_else(|error| panic!("{error}"));
        for (party, interface) in [(lab.edge(), "vpn1"), (lab.vpc(), "tun2")] {
            let args = ["-j", "-d", "link", "show", interface];
            let output = party.command("ip", &args).output().unwrap();
            let links: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(links[0]["mtu"], 1446);
            let output = party.command("ethtool", &["-k", interface]).output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            for feature in ["tcp-segmentation", "generic-segmentation", "generic-receive"] {
                assert!(text.contains(&format!("{feature}-offload: off")), "{text}");
            }
        }
        let (pki, call) = (lab.pki(), Call::new(private(0, 13, 443), services::BUCKET));
        let get = lab.edge().run(async move || {
            tls_connect(&pki, &call).await.unwrap().get("/blob?size=1000000").await
        });
        assert_eq!(get.unwrap().sha256, Blob::sha256(1_000_000));
    });
}

#[test]
fn two_labs_in_a_row_in_one_process() {
    inside::test("two_labs_in_a_row_in_one_process", || {
        for _ in 0..2 {
            let lab = lab();
            assert_eq!(reach(&lab, private(0, 14, 443), SOON), Ok(()));
        }
    });
}
