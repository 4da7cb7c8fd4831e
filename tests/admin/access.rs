//! Who may look: from loopback, the management network and the plant.

use std::process::Command;

use sluicegate::lab::device::tcp_connect;
use sluicegate::lab::inside;
use sluicegate::lab::party::Party;

use crate::gate::*;
use crate::support::*;

const PATHS: [&str; 6] = ["/", "/metrics", "/status.json", "/events", "/livez", "/readyz"];

fn url(path: &str) -> String {
    format!("https://{BOX}:9443{path}")
}

/// Asks with the gate's own certificate as the only one to trust.
fn ask(office: &Party, authority: &str, more: &[&str], path: &str) -> Reply {
    let url = url(path);
    curl(office, &[&["--cacert", authority], more, &[url.as_str()]].concat())
}

#[test]
fn from_the_management_network_nothing_is_told_without_the_token() {
    inside::test("access::from_the_management_network_nothing_is_told_without_the_token", || {
        let lab = lab();
        let office = office(&lab);
        let daemon = start_with(&lab, &office_config(&lab));
        let authority = own_certificate(&lab);
        for path in PATHS.into_iter().chain(["/nothing"]) {
            for wrong in [
                &[][..],
                &["-H", "Authorization: Bearer wrong"],
                &["-H", "Authorization: Bearer"],
                &["-u", "admin:wrong"],
                &["-u", &format!("{TOKEN}:")],
                &["-I"],
                &["-X", "POST"],
            ] {
                let reply = ask(&office, &authority, wrong, path);
                assert_eq!(reply.status, 401, "{path} {wrong:?}: {reply:?}");
                let challenge = r#"Basic realm="sluicegate", charset="UTF-8""#;
                assert_eq!(reply.header("www-authenticate"), Some(challenge));
                assert_eq!(reply.header("connection"), Some("close"));
                assert!(!reply.body.contains("augsburg"), "{path}: {reply:?}");
            }
        }
        let bearer = format!("Authorization: Bearer {TOKEN}");
        for path in PATHS.iter().filter(|path| **path != "/events") {
            for right in [&["-H", bearer.as_str()][..], &["-u", &format!("me:{TOKEN}")]] {
                let reply = ask(&office, &authority, right, path);
                assert_eq!(reply.status, 200, "{path} {right:?}: {reply:?}");
            }
        }
        // Who speaks no TLS is told nothing at all.
        let plain = curl(&office, &[&format!("http://{BOX}:9443/livez")]);
        assert_eq!(plain.status, 0, "{plain:?}");
        let other = curl(
            &office,
            &["--cacert", lab.pki().authority_file.to_str().unwrap(), &url("/livez")],
        );
        assert_eq!((other.status, other.exit), (0, 60), "not our certificate: {other:?}");
        // It is told where whoever compares it can see it.
        let shown = Command::new("openssl")
            .args(["x509", "-noout", "-fingerprint", "-sha256", "-in", &authority])
            .output()
            .unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        let fingerprint = shown.trim().split_once('=').unwrap().1;
        assert!(daemon.stderr_text().contains(fingerprint), "{}", daemon.stderr_text());
        let status = daemon.status_json().unwrap();
        assert_eq!(status["admin"]["fingerprint"], fingerprint);
        assert_eq!(status["admin"]["url"], format!("https://{BOX}:9443/"));
    });
}

#[test]
fn a_client_certificate_opens_as_well_as_the_token() {
    inside::test("access::a_client_certificate_opens_as_well_as_the_token", || {
        let lab = lab();
        let office = office(&lab);
        let pki = lab.pki();
        let [clients, certificate, key] =
            [&pki.authority_file, &pki.device.certificate_file, &pki.device.key_file]
                .map(|f| text(f));
        let only = config(&lab, &format!("listen = \"{BOX}:9443\"\nclients = \"{clients}\"\n"));
        let daemon = start_with(&lab, &only);
        let shown = ["--cert", certificate.as_str(), "--key", key.as_str()];
        let authority = own_certificate(&lab);
        assert_eq!(ask(&office, &authority, &shown, "/livez").status, 200);
        let nothing = ask(&office, &authority, &[], "/livez");
        assert_eq!(nothing.status, 0, "no handshake without a certificate: {nothing:?}");
        // With a token, either is enough, from the next connection on.
        let token = secret(&lab, "token", TOKEN);
        let token_file = format!("token-file = \"{}\"\n", token.display());
        let both = only.replace("clients =", &format!("{token_file}clients ="));
        daemon.reload(&both).unwrap();
        let bearer = format!("Authorization: Bearer {TOKEN}");
        until("the token opens", || {
            (ask(&office, &authority, &["-H", &bearer], "/livez").status == 200).then_some(())
        });
        assert_eq!(ask(&office, &authority, &shown, "/livez").status, 200);
        assert_eq!(ask(&office, &authority, &[], "/livez").status, 401);
    });
}

#[test]
fn a_token_or_certificate_that_cannot_be_used_is_refused_at_start_and_reload() {
    inside::test(
        "access::a_token_or_certificate_that_cannot_be_used_is_refused_at_start_and_reload",
        || {
            use std::os::unix::fs::PermissionsExt as _;
            let lab = lab();
            let office = office(&lab);
            let good = office_config(&lab);
            let daemon = start_with(&lab, &good);
            let token = lab.directory().join("token");
            std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
            daemon.reload(&good).unwrap();
            let refused = until_status(&daemon, "the refused reload", |status| {
                !status["policy"]["refused_reload"].is_null()
            });
            let why = refused["policy"]["refused_reload"].as_str().unwrap();
            assert!(why.contains("token-file") && why.contains("chmod 0640"), "{why}");
            let bearer = format!("Authorization: Bearer {TOKEN}");
            let authority = own_certificate(&lab);
            let reply = ask(&office, &authority, &["-H", &bearer], "/livez");
            assert_eq!(reply.status, 200, "the old token still opens");
            drop(daemon);
            let path = write_config(&lab, "refused.toml", &good);
            let output = sluicegate(&lab, &["run", "--config", &path]);
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            assert!(stderr(&output).contains("chmod 0640"), "{output:?}");
        },
    );
}

#[test]
fn devices_reach_the_listener_by_no_address() {
    inside::test("access::devices_reach_the_listener_by_no_address", || {
        let lab = lab();
        let _office = office(&lab);
        let token = secret(&lab, "token", TOKEN);
        // The worst that can be configured.
        let everywhere =
            format!("listen = \"0.0.0.0:9443\"\ntoken-file = \"{}\"\n", token.display());
        let daemon = start_with(&lab, &config(&lab, &everywhere));
        let authority = own_certificate(&lab);
        let reply = curl(
            lab.edge(),
            &[
                "--cacert",
                &authority,
                "-k",
                "-u",
                &format!("x:{TOKEN}"),
                "https://127.0.0.1:9443/livez",
            ],
        );
        assert_eq!(reply.status, 200, "it listens: {reply:?}");
        let reach = |address: &str| {
            let to = format!("{address}:9443").parse().unwrap();
            lab.device(0).run(async move || tcp_connect(to, SOON).await.map(drop))
        };
        for address in ["10.10.0.1", BOX, "203.0.113.7", "10.99.0.7", "169.254.10.2"] {
            assert!(reach(address).is_err(), "{address} answers a device");
        }
        // Nor would they where the rules let them in: who comes from a device's network is not heard.
        let device = ["-k", "-u", &format!("x:{TOKEN}"), "--interface", "10.10.0.1"];
        let reply = curl(lab.edge(), &[&device[..], &["https://10.10.0.1:9443/livez"]].concat());
        assert_eq!(reply.status, 0, "{reply:?}");
        let counted = curl(
            lab.edge(),
            &["-k", "-u", &format!("x:{TOKEN}"), "https://127.0.0.1:9443/metrics"],
        );
        let line = "sluicegate_admin_refused_total{why=\"from_devices\"} 1\n";
        assert!(counted.body.contains(line), "{}", counted.body);
        drop(daemon);
    });
}

#[test]
fn on_loopback_only_the_box_s_own_names_and_reading_are_answered() {
    inside::test("access::on_loopback_only_the_box_s_own_names_and_reading_are_answered", || {
        let lab = lab();
        let _daemon = start(&lab);
        let url = "http://127.0.0.1:9443/status.json";
        let of = |args: &[&str]| curl(lab.edge(), &[args, &[url]].concat()).status;
        assert_eq!(of(&[]), 200);
        assert_eq!(of(&["-H", "Host: localhost:9443"]), 200);
        // A page of somebody else's, whose name leads here for a moment.
        assert_eq!(of(&["-H", "Host: rebound.example.com"]), 421);
        assert_eq!(of(&["-H", "Host:"]), 421);
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "NONE"] {
            assert_eq!(of(&["-X", method]), 405, "{method}");
        }
        assert_eq!(of(&["-X", "POST", "-d", "x=1"]), 400);
        assert_eq!(of(&["-I"]), 200);
        assert_eq!(local(&lab, "/../etc/passwd").status, 404);
        for path in ["/", "/metrics", "/status.json", "/livez", "/nothing"] {
            let reply = local(&lab, path);
            for (name, value) in [
                ("x-content-type-options", "nosniff"),
                ("x-frame-options", "DENY"),
                ("referrer-policy", "no-referrer"),
                ("cache-control", "no-store"),
                ("cross-origin-resource-policy", "same-origin"),
            ] {
                assert_eq!(reply.header(name), Some(value), "{path}");
            }
            let policy = reply.header("content-security-policy").unwrap();
            assert!(policy.starts_with("default-src 'none'"), "{path}: {policy}");
            assert!(!policy.contains("unsafe"), "{path}: {policy}");
            assert_eq!(reply.header("server"), None, "{path}");
            assert_eq!(reply.header("access-control-allow-origin"), None, "{path}");
        }
    });
}
