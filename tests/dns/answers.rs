//! What is answered, and with what.

use std::net::{IpAddr, SocketAddr};

use sluicegate::lab::device::{tcp_connect, udp_exchange};
use sluicegate::lab::inside;
use sluicegate::lab::services::{BUCKET, FOREIGN, IOT_DATA, REGISTRY, REGISTRY_API};
use sluicegate::lab::topology::{RESOLVER_OCTET, public};

use crate::ask::{BOX, assert_addresses, capture, captured, config, dig, enis, start};
use crate::gate::{IOT, S3, SOON, get, lab, packets, run, start_with, until, write_config};

const ECR: u8 = 14;

#[test]
fn allowed_names_have_the_addresses_of_their_endpoints() {
    inside::test("answers::allowed_names_have_the_addresses_of_their_endpoints", || {
        let lab = lab();
        let _daemon = start(&lab, "");
        for transport in ["+notcp", "+tcp"] {
            let said = dig(&lab, 0, BOX, &[transport, IOT_DATA]);
            assert_eq!(said.status(), Some("NOERROR"), "{}", said.text);
            assert_eq!(said.server(), Some(BOX));
            assert_eq!(said.flags(), "qr rd ra", "{}", said.text);
            assert_addresses(&said, IOT);
            for (name, octet) in [(BUCKET, S3), (REGISTRY, ECR), (REGISTRY_API, ECR)] {
                assert_addresses(&dig(&lab, 1, BOX, &[transport, name]), octet);
            }
            // The press may not use the bucket, and nobody a name that is not listed.
            for name in [BUCKET, FOREIGN, "_bad_.example", "8.3.10.10.in-addr.arpa", "."] {
                let said = dig(&lab, 0, BOX, &[transport, name]);
                assert_eq!(said.status(), Some("REFUSED"), "{name}: {}", said.text);
                assert_eq!(said.addresses(), []);
            }
        }
        // The order turns, so that devices that take the first address use both zones.
        let first = |_| dig(&lab, 0, BOX, &[IOT_DATA]).addresses()[0].0;
        let mut seen: Vec<_> = (0..4).map(first).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen, enis(IOT));
    });
}

#[test]
fn what_is_not_an_ipv4_address_is_not_there() {
    inside::test("answers::what_is_not_an_ipv4_address_is_not_there", || {
        let lab = lab();
        let _daemon = start(&lab, "");
        for kind in ["AAAA", "HTTPS", "SVCB", "CNAME", "TXT", "MX", "NS", "SOA", "TYPE999"] {
            let said = dig(&lab, 0, BOX, &["-t", kind, IOT_DATA]);
            assert_eq!(said.status(), Some("NOERROR"), "{kind}: {}", said.text);
            assert_eq!(said.addresses(), [], "{kind}");
            assert!(said.text.contains("ANSWER: 0, AUTHORITY: 1"), "{kind}: {}", said.text);
            assert!(said.text.contains("invalid. invalid. 1 "), "{kind}: {}", said.text);
        }
        assert_addresses(&dig(&lab, 0, BOX, &["-t", "ANY", "+notcp", IOT_DATA]), IOT);
        for words in [["-t", "AXFR"], ["-c", "CH"]] {
            let said = dig(&lab, 0, BOX, &[&words[..], &["+notcp", IOT_DATA]].concat());
            assert_ne!(said.status(), Some("NOERROR"), "{words:?}: {}", said.text);
            assert_eq!(said.addresses(), [], "{words:?}");
        }
        // Of the name itself: the tunnels' probes have questions of their own.
        let asked = lab.zone().questions();
        let mut asked = asked.iter().filter(|asked| asked.name == IOT_DATA);
        assert!(asked.all(|asked| asked.kind == "A"));
    });
}

#[test]
fn other_names_do_not_exist_where_the_site_says_so() {
    inside::test("answers::other_names_do_not_exist_where_the_site_says_so", || {
        let lab = lab();
        let daemon = start(&lab, "other-names = \"nxdomain\"");
        assert_eq!(dig(&lab, 0, BOX, &[FOREIGN]).status(), Some("NXDOMAIN"));
        assert_eq!(dig(&lab, 0, BOX, &[BUCKET]).status(), Some("NXDOMAIN"));
        daemon.reload(&config(&lab, "other-names = \"refuse\"")).unwrap();
        until("the new rules", || {
            (dig(&lab, 0, BOX, &[FOREIGN]).status() == Some("REFUSED")).then_some(())
        });
    });
}

#[test]
fn a_device_with_another_resolver_is_answered_in_its_name() {
    inside::test("answers::a_device_with_another_resolver_is_answered_in_its_name", || {
        let lab = lab();
        let _daemon = start(&lab, "");
        let capture = capture(&lab, &["lan0", "vpn1", "vpn2", "wan0"]);
        lab.forget_leaks().unwrap();
        for resolver in public(RESOLVER_OCTET) {
            for transport in ["+notcp", "+tcp"] {
                for (name, octet) in [(IOT_DATA, IOT), (BUCKET, S3), (REGISTRY, ECR)] {
                    let said = dig(&lab, 1, resolver, &[transport, name]);
                    assert_eq!(said.server(), Some(resolver), "{}", said.text);
                    assert_addresses(&said, octet);
                }
                let said = dig(&lab, 1, resolver, &[transport, &format!("{SECRET}.example")]);
                assert_eq!(said.status(), Some("REFUSED"), "{}", said.text);
            }
        }
        // By the addresses that it was told, the device reaches what it asked for.
        for server in [BOX, public(RESOLVER_OCTET)[0]] {
            for name in [IOT_DATA, BUCKET, REGISTRY] {
                let (address, _) = dig(&lab, 1, server, &[name]).addresses()[0];
                let port = if name == IOT_DATA { 8443 } else { 443 };
                let reply = get(&lab, 1, (address, port).into(), name);
                assert!(reply.is_ok(), "{name}: {reply:?}");
            }
        }
        assert_eq!(lab.leaked_packets().unwrap(), 0, "{:?}", lab.leaks());
        let asked = lab.zone().questions();
        assert!(asked.iter().all(|asked| !asked.name.contains(SECRET)), "{asked:?}");
        let said = captured(&lab, &capture);
        let at =
            |interface: &'static str| said.lines().filter(move |line| line.starts_with(interface));
        assert!(at("lan0").any(|line| line.contains(SECRET)), "{said}");
        assert!(at("vpn1").any(|line| line.contains("a1b2c3d4e5f6g7-ats")), "the box asks: {said}");
        let away = ["vpn1", "vpn2", "wan0"].into_iter().flat_map(at);
        assert_eq!(away.filter(|line| line.contains(SECRET)).collect::<Vec<_>>(), [""; 0]);
    });
}

#[test]
fn another_resolver_is_refused_where_the_site_says_so() {
    inside::test("answers::another_resolver_is_refused_where_the_site_says_so", || {
        let lab = lab();
        let _daemon = start(&lab, "foreign = \"refuse\"");
        lab.forget_leaks().unwrap();
        assert_addresses(&dig(&lab, 0, BOX, &[IOT_DATA]), IOT);
        for resolver in public(RESOLVER_OCTET) {
            let to = SocketAddr::new(resolver, 53);
            let device = lab.device(0);
            let udp = device.run(async move || udp_exchange(to, b"anybody?", SOON).await);
            assert!(udp.unwrap_err().is_prohibited(), "{resolver}");
            let tcp = device.run(async move || tcp_connect(to, SOON).await.map(drop));
            assert!(tcp.is_err(), "{resolver}");
        }
        assert_eq!(packets(&lab, "sluicegate", "dns_foreign_resolver"), 4);
        assert_eq!(lab.leaked_packets().unwrap(), 0);
    });
}

#[test]
fn encrypted_dns_is_refused() {
    inside::test("answers::encrypted_dns_is_refused", || {
        let lab = lab();
        let _daemon = start(&lab, "");
        for ip in [public(RESOLVER_OCTET)[0], BOX] {
            let to = SocketAddr::new(ip, 853);
            let device = lab.device(0);
            assert!(device.run(async move || tcp_connect(to, SOON).await.map(drop)).is_err());
            let udp = device.run(async move || udp_exchange(to, b"anybody?", SOON).await);
            assert!(udp.unwrap_err().is_prohibited());
        }
        assert_eq!(packets(&lab, "sluicegate", "dns_foreign_resolver"), 4);
    });
}

#[test]
fn the_libraries_of_devices_resolve_and_connect() {
    inside::test("answers::the_libraries_of_devices_resolve_and_connect", || {
        let lab = lab();
        let _daemon = start(&lab, "");
        for server in [BOX, public(RESOLVER_OCTET)[0]] {
            let stub = write_config(&lab, "resolv.conf", &format!("nameserver {server}\n"));
            // The C library, with its parallel questions for A and AAAA; then one without EDNS.
            let script = format!(
                "mount --bind {stub} /etc/resolv.conf && getent ahosts {IOT_DATA} && \
                 busybox nslookup {IOT_DATA} && ! getent hosts {FOREIGN}"
            );
            let said = run(lab.device(0), "unshare", &["--mount", "sh", "-ec", &script]);
            for address in enis(IOT) {
                let times = said.matches(&IpAddr::V4(address).to_string()).count();
                assert!(times >= 2, "{address} in {said}");
            }
        }
    });
}

#[test]
fn reload_withdraws_a_name() {
    inside::test("answers::reload_withdraws_a_name", || {
        let lab = lab();
        let daemon = start_with(&lab, &config(&lab, ""));
        assert_addresses(&dig(&lab, 0, BOX, &[IOT_DATA]), IOT);
        let without = config(&lab, "").replace(
            "allow   = [\"iot-data\", \"iot-credentials\"]",
            "allow   = [\"iot-credentials\"]",
        );
        daemon.reload(&without).unwrap();
        until("the new rules", || {
            (dig(&lab, 0, BOX, &[IOT_DATA]).status() == Some("REFUSED")).then_some(())
        });
        assert_addresses(&dig(&lab, 1, BOX, &[IOT_DATA]), IOT);
    });
}

/// A label that only a device asks for.
const SECRET: &str = "what-the-press-knows";
