//! Names for devices that send none: an address that stands for each.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use sluicegate::lab::device::{Call, Failure, HttpReply, tls_connect};
use sluicegate::lab::services::{BUCKET, IOT_DATA, REGISTRY};
use sluicegate::lab::topology::{DEVICES, public};
use sluicegate::lab::{Lab, inside};

use crate::ask::{BOX, assert_addresses, config, dig};
use crate::gate::{
    IOT, S3, assert_log, lab, records, sluicegate, start_with, stdout, until, until_end_behind,
};

/// Gets `/` without a server name in the hello.
fn get_without(lab: &Lab, number: usize, to: SocketAddr, name: &str) -> Result<HttpReply, Failure> {
    let (pki, call) = (lab.pki(), Call::new(to, name).without_sni());
    lab.device(number).run(async move || tls_connect(&pki, &call).await?.get("/").await)
}

/// Where the gate connected the last flow of a device to, or why not.
fn last(lab: &Lab, number: usize, skip: usize) -> serde_json::Value {
    until_end_behind(lab, skip, DEVICES[number].address.into())
}

fn stand_in(lab: &Lab, number: usize, name: &str) -> Ipv4Addr {
    let said = dig(lab, number, BOX, &[name]);
    let [(address, _)] = said.addresses()[..] else { panic!("{}", said.text) };
    assert_eq!(address.octets()[..2], [198, 18], "{}", said.text);
    address
}

#[test]
fn the_dialled_address_is_the_name_of_a_device_without_sni() {
    inside::test("synthetic::the_dialled_address_is_the_name_of_a_device_without_sni", || {
        let lab = lab();
        let config = config(&lab, "synthetic = \"198.18.0.0/16\"")
            .replace("name    = \"gateway-1\"", "name    = \"gateway-1\"\nwithout-sni = true");
        let daemon = start_with(&lab, &config);
        lab.forget_leaks().unwrap();
        let (bucket, registry) = (stand_in(&lab, 1, BUCKET), stand_in(&lab, 1, REGISTRY));
        assert_ne!(bucket, registry);
        assert_addresses(&dig(&lab, 0, BOX, &[IOT_DATA]), IOT);

        let reply = get_without(&lab, 1, (bucket, 443).into(), BUCKET);
        assert!(reply.is_ok(), "{reply:?}");
        let end = last(&lab, 1, 0);
        assert_eq!(end["dst_endpoint"]["hostname"], BUCKET);
        assert_eq!(end["unmapped"]["egress"]["name_from"], "address");
        assert!(end["tls"].get("sni").is_none(), "{end}");
        let eni: IpAddr =
            end["dst_endpoint"]["proxy_endpoint"]["ip"].as_str().unwrap().parse().unwrap();
        assert!(crate::ask::enis(S3).into_iter().any(|known| eni == known), "{end}");

        // With a server name, that decides as always.
        let skip = records(&lab).len();
        let reply = crate::gate::get(&lab, 1, (bucket, 443).into(), REGISTRY);
        assert!(reply.is_ok(), "{reply:?}");
        let end = last(&lab, 1, skip);
        assert_eq!(
            (&end["dst_endpoint"]["hostname"], &end["tls"]["sni"]),
            (&REGISTRY.into(), &REGISTRY.into())
        );
        assert!(end["unmapped"]["egress"].get("name_from").is_none());

        // Any other address has no name, and neither has another device's flow.
        for (number, to) in [
            (1, Ipv4Addr::new(198, 18, 255, 254).into()),
            (1, public(S3)[0]),
            (1, IpAddr::V4(crate::ask::enis(S3)[0])),
            (0, bucket.into()),
        ] {
            let skip = records(&lab).len();
            assert!(get_without(&lab, number, (to, 443).into(), BUCKET).is_err());
            assert_eq!(last(&lab, number, skip)["status_code"], "name_missing", "{number} {to}");
        }
        // AWS IoT needs the name itself, and the refusal says so.
        let iot = stand_in(&lab, 1, IOT_DATA);
        let skip = records(&lab).len();
        assert!(get_without(&lab, 1, (iot, 8443).into(), IOT_DATA).is_err());
        let refused = last(&lab, 1, skip);
        assert_eq!(refused["status_code"], "name_missing");
        let detail = refused["unmapped"]["egress"]["detail"].as_str().unwrap();
        assert!(detail.contains(IOT_DATA) && detail.contains("requires a server name"), "{detail}");
        let file = daemon.config_file().to_str().unwrap();
        for (name, expected) in [(IOT_DATA, "AWS IoT requires"), (BUCKET, "send no server name")] {
            let words = ["explain", "--config", file, "--device", "gateway-1", "--name", name];
            let said = stdout(&sluicegate(&lab, &words));
            assert!(said.contains(expected), "{said}");
        }

        // A reload leaves every address as it was.
        daemon
            .reload(&config.replace("[endpoint.kms]\n", "[endpoint.kms]\nports = [8443]\n"))
            .unwrap();
        until("the reload", || {
            let status = daemon.status_json().unwrap();
            (status["policy"]["refused_reload"].is_null()
                && daemon.stderr_text().contains("the new configuration is in force"))
            .then_some(())
        });
        assert_eq!(stand_in(&lab, 1, BUCKET), bucket);
        assert_eq!(lab.leaked_packets().unwrap(), 0, "{:?}", lab.leaks());
        assert_eq!(lab.bypassed_packets().unwrap(), 0);
        assert_log(&lab);
    });
}
