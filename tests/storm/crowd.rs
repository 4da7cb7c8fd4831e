//! A crowd of devices at once, where the file recognises some device by its hardware address.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use sluicegate::lab::device::tls10_hello;
use sluicegate::lab::inside;
use sluicegate::lab::topology::DEVICES;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use super::gate::*;

/// Devices behind a device that is their router.
const CROWD: &str = "10.10.64.0/18";
const FIRST: u32 = Ipv4Addr::new(10, 10, 100, 1).to_bits();
const FLOWS: u32 = 3_000;
const ROUTER: usize = 1;

#[test]
fn every_device_of_a_crowd_is_recognised() {
    inside::test("crowd::every_device_of_a_crowd_is_recognised", || {
        let lab = lab();
        let limits = "\n[limits]\nnew-flows = 100000\nhellos = 10000\n";
        let crowd = format!(
            "\n[[device]]\nname = \"crowd\"\naddress = \"{CROWD}\"\nallow = [\"iot-data\"]\n"
        );
        let config = lab.daemon_config() + limits + &crowd;
        assert!(config.contains("mac "), "an entry by MAC makes the gate ask the kernel");
        let daemon = start_with(&lab, &config);
        let words = |text: String| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let ip = |party, text: String| {
            run(party, "ip", &words(text).iter().map(String::as_str).collect::<Vec<_>>());
        };
        ip(lab.device(ROUTER), format!("route add local {CROWD} dev lo"));
        // The router asks for the gate's hardware address in its own name: asked in a device's name,
        // the gate would learn that the device is where the router is (arp_announce, ip-sysctl).
        run(lab.device(ROUTER), "sh", &["-c", "echo 2 > /proc/sys/net/ipv4/conf/all/arp_announce"]);
        ip(lab.edge(), format!("route add {CROWD} via {}", DEVICES[ROUTER].address));
        lab.device(ROUTER).run(async || {
            let mut flows = JoinSet::new();
            for number in 0..FLOWS {
                flows.spawn_local(refused(Ipv4Addr::from_bits(FIRST + number), dialled(IOT, 443)));
            }
            flows.join_all().await
        });
        until_status(&daemon, "all ends", |status| status["flows"]["live"] == 0);
        let ended = until("every record", || {
            let records = records(&lab);
            (records.len() >= usize::try_from(FLOWS).unwrap()).then_some(records)
        });
        let by_name = ended.iter().filter(|end| end["src_endpoint"]["name"] == "crowd").count();
        let unlike = ended.iter().find(|end| end["src_endpoint"]["name"] != "crowd");
        assert_eq!(by_name, ended.len(), "{unlike:#?}");
    });
}

/// A flow to a name that nobody may use, until it is refused.
async fn refused(from: Ipv4Addr, to: SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    let connecting = tokio::time::timeout(Duration::from_secs(60), socket.connect(to));
    let mut stream = connecting.await.unwrap().unwrap();
    stream.write_all(&tls10_hello("www.example.com")).await.unwrap();
    let mut answer = Vec::new();
    // An alert, and then an end or a reset.
    let _ = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut answer)).await;
    assert_eq!(answer.first(), Some(&21), "from {from}");
}
