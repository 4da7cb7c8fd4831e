//! The plant's own zones.

use std::net::IpAddr;

use sluicegate::lab::inside;
use sluicegate::lab::services::IOT_DATA;
use sluicegate::lab::topology::DEVICES;

use crate::ask::{BOX, assert_addresses, capture, captured, dig, start};
use crate::gate::{IOT, lab, until, write_config};
use crate::records::recorded;

#[test]
fn questions_for_a_zone_of_the_plant_stay_in_the_plant() {
    inside::test("forward::questions_for_a_zone_of_the_plant_stay_in_the_plant", || {
        let lab = lab();
        let server = DEVICES[2].address;
        let many = (1..=60)
            .map(|last| format!(" local-data: \"many.plant.example. 300 A 10.10.9.{last}\"\n"));
        let config = format!("{UNBOUND} interface: {server}\n{}", many.collect::<String>());
        let config = write_config(&lab, "unbound.conf", &config);
        let unbound = lab.start_process(lab.device(2), "unbound", &["-d", "-c", &config]).unwrap();
        let absent = DEVICES[1].address;
        let daemon = start(
            &lab,
            &format!(
                "[[dns.forward]]\nzone = \"plant.example\"\nservers = [\"{absent}\", \"{server}\"]"
            ),
        );
        let capture = capture(&lab, &["lan0", "vpn1", "vpn2", "wan0"]);
        let said = until("the plant's server", || {
            let said = dig(&lab, 0, BOX, &["scada.plant.example"]);
            (said.status() == Some("NOERROR")).then_some(said)
        });
        assert_eq!(said.addresses()[0].0.octets(), [10, 10, 0, 99]);
        assert_eq!(
            dig(&lab, 0, BOX, &["+tcp", "scada.plant.example"]).addresses(),
            said.addresses()
        );
        let text = dig(&lab, 0, BOX, &["-t", "TXT", "_note.plant.example"]);
        assert!(text.text.contains("hello"), "{}", text.text);
        // An answer that is too large for a datagram comes by TCP, to the box and to the device.
        let many = dig(&lab, 0, BOX, &["many.plant.example"]);
        assert_eq!(many.addresses().len(), 60, "{}", many.text);
        assert_eq!(dig(&lab, 0, BOX, &["nobody.plant.example"]).status(), Some("NXDOMAIN"));
        assert_eq!(dig(&lab, 0, BOX, &["otherplant.example"]).status(), Some("REFUSED"));
        assert_addresses(&dig(&lab, 0, BOX, &[IOT_DATA]), IOT);
        let said = captured(&lab, &capture);
        assert!(said.lines().any(|line| line.starts_with("lan0") && line.contains("scada")));
        let away = said.lines().filter(|line| !line.starts_with("lan0"));
        assert_eq!(away.filter(|line| line.contains("scada")).count(), 0, "{said}");
        unbound.kill_hard();
        let failed = dig(&lab, 0, BOX, &["scada.plant.example"]);
        assert_eq!(failed.status(), Some("SERVFAIL"), "{}", failed.text);
        let records = recorded(&lab, &daemon);
        let forwarded = records.iter().find(|record| {
            record["query"]["hostname"] == "scada.plant.example" && record["rcode_id"] == 0
        });
        let to = &forwarded.unwrap()["unmapped"]["egress"]["forwarded_to"];
        assert_eq!(to, &format!("{}:53", IpAddr::V4(server)));
    });
}

const UNBOUND: &str = r#"server:
 username: ""
 chroot: ""
 directory: "/"
 pidfile: ""
 use-syslog: no
 do-daemonize: no
 access-control: 10.10.0.0/16 allow
 local-zone: "plant.example." static
 local-data: "scada.plant.example. 300 A 10.10.0.99"
 local-data: '_note.plant.example. 300 TXT "hello"'
"#;
