//! mosquitto and its clients.

use sluicegate::lab::services::{IOT_DATA, MQTT_ALPN};
use sluicegate::lab::{Lab, Process, inside};

use crate::SOON;
use crate::program::{Ended, Output, Program, run};
use crate::stand::{ENI, GATEWAY, PRESS, Stand, eventually, file, serve};

/// A broker that serves nobody without a certificate, as AWS IoT Core.
fn broker(lab: &Lab) -> Process {
    let pki = lab.pki();
    let mut text = String::from("user root\nallow_anonymous true\nlog_dest stderr\nlog_type all\n");
    for port in [8883, 443] {
        text += &format!(
            "listener {port} {ENI}\ncafile {}\ncertfile {}\nkeyfile {}\n\
             require_certificate true\nuse_identity_as_username true\n",
            pki.authority_file.display(),
            pki.server.certificate_file.display(),
            pki.server.key_file.display()
        );
    }
    let config = file(lab, "mosquitto.conf", &text);
    serve(lab, &[8883, 443], "mosquitto", &["-c", config.to_str().unwrap()])
}

/// What a device shows of itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Certificate {
    Shown,
    Withheld,
}

/// A client's command line up to the topic; on 443 the protocol is asked for by ALPN.
fn client(lab: &Lab, program: &str, port: u16, certificate: Certificate) -> Vec<String> {
    let (pki, port) = (lab.pki(), port.to_string());
    let mut words = vec![program, "-h", IOT_DATA, "-p", &port, "-q", "1", "-t", TOPIC];
    let path = |path: &std::path::Path| path.display().to_string();
    let (ca, certificate_file) = (path(&pki.authority_file), path(&pki.device.certificate_file));
    let key = path(&pki.device.key_file);
    words.extend(["--cafile", &ca]);
    if certificate == Certificate::Shown {
        words.extend(["--cert", &certificate_file, "--key", &key]);
    }
    if port == "443" {
        words.extend(["--tls-alpn", MQTT_ALPN]);
    }
    words.into_iter().map(str::to_owned).collect()
}

fn start(lab: &Lab, device: usize, words: &[String], more: &[&str]) -> Program {
    let words: Vec<&str> = words.iter().map(String::as_str).chain(more.iter().copied()).collect();
    Program::start(lab, device, &words, Output::Kept)
}

fn publish(lab: &Lab, port: u16, certificate: Certificate, more: &[&str]) -> Ended {
    let words = client(lab, "mosquitto_pub", port, certificate);
    let words: Vec<&str> = words.iter().map(String::as_str).chain(more.iter().copied()).collect();
    run(lab, GATEWAY, &words, SOON)
}

const TOPIC: &str = "plant/press-3/state";

#[test]
fn messages_arrive_on_8883_and_443_and_only_with_a_certificate() {
    inside::test("mqtt::messages_arrive_on_8883_and_443_and_only_with_a_certificate", || {
        let (stand, broker) = Stand::up(IOT_DATA, 11, broker);
        let lab = &stand.lab;
        for port in [8883, 443] {
            let retained = format!("retained {port}");
            let done = publish(lab, port, Certificate::Shown, &["-r", "-m", &retained]);
            assert_eq!(done.code, Some(0), "{done:?}");

            let words = client(lab, "mosquitto_sub", port, Certificate::Shown);
            let mut subscriber = start(lab, PRESS, &words, &["-C", "2", "-F", "%r %q %t %p"]);
            subscriber.wait_for(&format!("1 1 {TOPIC} {retained}\n"), SOON);
            let live = format!("live {port}");
            let done = publish(lab, port, Certificate::Shown, &["-m", &live]);
            assert_eq!(done.code, Some(0), "{done:?}");
            let ended = subscriber.end(SOON);
            let expected = format!("1 1 {TOPIC} {retained}\n0 1 {TOPIC} {live}\n");
            assert_eq!((ended.code, ended.said), (Some(0), expected));
        }
        // The certificate's own name: the broker has seen it, so nobody in between ended TLS.
        assert_eq!(broker.said().matches("u'Lab device'").count(), 6, "{}", broker.said());

        let refused = publish(lab, 8883, Certificate::Withheld, &["-m", "no"]);
        assert_ne!(refused.code, Some(0), "{refused:?}");
        eventually("the broker's own refusal", SOON, || {
            broker.said().contains("peer did not return a certificate").then_some(())
        });

        let flows = stand.finish();
        assert_eq!(flows.len(), 7, "three on each port and the refused one: {flows:#?}");
        let offered = |flow: usize| &flows[flow].open["tls"]["tls_extension_list"][0]["data"];
        assert!(offered(0).is_null());
        assert_eq!(*offered(3), serde_json::json!([MQTT_ALPN]));
    });
}
