//! What the records say of handshakes between OpenSSL's client and server: what was agreed, and who
//! gave up with which alert.

use serde_json::{Value, json};
use sluicegate::lab::services::IOT_DATA;
use sluicegate::lab::{Lab, Process, inside};

use crate::SOON;
use crate::program::{Output, Program, run};
use crate::records::Flow;
use crate::stand::{ENI, PRESS, Stand, serve};

/// Servers of three tempers, all of which send lines back reversed.
const ANY: u16 = 8883;
const ONLY_TLS13: u16 = 8443;
const TRUSTS_NO_DEVICE: u16 = 443;

fn servers(lab: &Lab) -> Vec<Process> {
    let server = &lab.pki().server;
    let certificate = server.certificate_file.display().to_string();
    let key = server.key_file.display().to_string();
    let start = |port: u16, more: &[&str]| {
        let at = format!("{ENI}:{port}");
        let args = ["s_server", "-rev", "-accept", &at, "-cert", &certificate, "-key", &key];
        serve(lab, &[port], "openssl", &[&args[..], more].concat())
    };
    vec![
        start(ANY, &[]),
        start(ONLY_TLS13, &["-tls1_3"]),
        start(TRUSTS_NO_DEVICE, &["-Verify", "1", "-verify_return_error"]),
    ]
}

/// What a flow's end says: version, where that is from, cipher and alert.
fn said(flow: &Flow) -> [Value; 4] {
    let (tls, egress) = (&flow.end["tls"], &flow.end["unmapped"]["egress"]);
    let alert = egress.get("tls_alert").map(|alert| {
        let [from, level, name] = ["from", "level", "name"].map(|key| alert[key].as_str().unwrap());
        json!(format!("{from} {level} {name} {}", tls["alert"]))
    });
    let alert = alert.unwrap_or_default();
    [tls["version"].clone(), egress["tls_version_from"].clone(), tls["cipher"].clone(), alert]
}

#[test]
fn records_say_what_was_agreed_and_who_gave_up() {
    inside::test("handshake::records_say_what_was_agreed_and_who_gave_up", || {
        let (stand, _servers) = Stand::up(IOT_DATA, 11, servers);
        let (lab, pki) = (&stand.lab, stand.lab.pki());
        let authority = pki.authority_file.display().to_string();
        let device = pki.device.certificate_file.display().to_string();
        let key = pki.device.key_file.display().to_string();
        let call = |port: u16, trusted: &str, more: &str| -> Vec<String> {
            let to = format!("{}:{port}", stand.dialled);
            let words = ["openssl", "s_client", "-connect", &to, "-servername", IOT_DATA];
            let trust = ["-CAfile", trusted, "-verify_return_error"];
            words.into_iter().chain(trust).chain(more.split(' ')).map(str::to_owned).collect()
        };
        let works = |words: Vec<String>| {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let mut client = Program::start(lab, PRESS, &words, Output::Kept);
            client.write("weir\n");
            client.wait_for("riew\n", SOON);
            client.close_input();
            assert_eq!(client.end(SOON).code, Some(0));
        };
        let fails = |words: Vec<String>| {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let ended = run(lab, PRESS, &words, SOON);
            assert_ne!(ended.code, Some(0), "{}", ended.said);
        };
        works(call(ANY, &authority, "-tls1_3 -ciphersuites TLS_CHACHA20_POLY1305_SHA256"));
        let suite = if ecdsa(pki.server.certificate_file.as_path()) { "ECDSA" } else { "RSA" };
        works(call(ANY, &authority, &format!("-tls1_2 -cipher ECDHE-{suite}-AES128-GCM-SHA256")));
        fails(call(ONLY_TLS13, &authority, "-tls1_2"));
        fails(call(ANY, &device, "-tls1_2"));
        fails(call(TRUSTS_NO_DEVICE, &authority, &format!("-tls1_2 -cert {device} -key {key}")));
        fails(call(ONLY_TLS13, &authority, "-tls1_1 -cipher ALL:@SECLEVEL=0"));

        let flows = stand.finish();
        let agreed = format!("TLS_ECDHE_{suite}_WITH_AES_128_GCM_SHA256");
        let chosen = ["1.2", "server_hello"];
        let offered = |version: &'static str| [version, "client_hello_offer"];
        let expected = [
            (["1.3", "server_hello"], json!("TLS_CHACHA20_POLY1305_SHA256"), json!(null)),
            (chosen, json!(agreed), json!(null)),
            (offered("1.2"), json!(null), json!("endpoint fatal protocol_version 70")),
            (chosen, json!("any"), json!("device fatal unknown_ca 48")),
            (chosen, json!("any"), json!("endpoint fatal unknown_ca 48")),
            (offered("1.1"), json!(null), json!("endpoint fatal protocol_version 70")),
        ];
        assert_eq!(flows.len(), expected.len());
        for (flow, ([version, from], cipher, alert)) in flows.iter().zip(expected) {
            let [was_version, was_from, was_cipher, was_alert] = said(flow);
            assert_eq!((was_version, was_from), (json!(version), json!(from)), "{:#}", flow.end);
            if cipher == "any" {
                assert!(was_cipher.as_str().unwrap().starts_with("TLS_ECDHE_"), "{:#}", flow.end);
            } else {
                assert_eq!(was_cipher, cipher, "{:#}", flow.end);
            }
            assert_eq!(was_alert, alert, "{:#}", flow.end);
        }
        // Nothing was known against the others before.
        for (flow, is_old) in flows.iter().zip([false, false, false, false, false, true]) {
            let outlook = &flow.open["unmapped"]["egress"]["outlook"];
            let code = outlook[0]["code"].as_str();
            assert_eq!(code, is_old.then_some("tls_version_not_accepted"), "{outlook}");
            assert_eq!(outlook, &flow.end["unmapped"]["egress"]["outlook"]);
        }
    });
}

/// Whether the key of a certificate is one for ECDSA.
fn ecdsa(certificate: &std::path::Path) -> bool {
    let path = certificate.display().to_string();
    let args = ["x509", "-noout", "-text", "-in", &path];
    let output = std::process::Command::new("openssl").args(args).output().unwrap();
    String::from_utf8_lossy(&output.stdout).contains("id-ecPublicKey")
}
