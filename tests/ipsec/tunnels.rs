//! What goes by the tunnels, and what is seen of it outside.

use std::time::Instant;

use sluicegate::lab::device::{Call, tls_connect};
use sluicegate::lab::services::{BUCKET, IOT_DATA};
use sluicegate::lab::topology::{DEVICES, Tunnels, Wiring};
use sluicegate::lab::{Lab, inside};

use super::gate::*;
use super::support::*;

pub(crate) fn ipsec_lab() -> Lab {
    let wiring = Wiring { tunnels: Tunnels::Ipsec, ..Wiring::default() };
    Lab::up_with(wiring).unwrap_or_else(|error| panic!("{error}"))
}

/// Gets an object of this size through the gate.
fn download(lab: &Lab, bytes: u64) {
    let pki = lab.pki();
    let reply = lab.device(1).run(async move || {
        let session = tls_connect(&pki, &Call::new(dialled(S3, 443), BUCKET)).await?;
        session.get(&format!("/blob?size={bytes}")).await
    });
    assert_eq!(reply.unwrap().bytes, bytes);
}

#[test]
fn flows_go_by_esp_and_nothing_else_is_seen_outside() {
    inside::test("tunnels::flows_go_by_esp_and_nothing_else_is_seen_outside", || {
        let lab = ipsec_lab();
        let daemon = start(&lab);
        for interface in ["vpn1", "vpn2"] {
            until_answers(&daemon, interface);
        }
        assert_eq!(way_of_new_flow(&lab), "vpn1");
        download(&lab, 4 << 20);
        let (ike, esp) = lab.ipsec_packets().unwrap();
        assert!(ike > 0 && esp > 100, "{ike} of IKE, {esp} of ESP");
        assert_nothing_left(&lab, "with both tunnels");

        // The first far end falls silent: no link goes down.
        let idle = idle_session(&lab, 2);
        lab.peer_down(1).unwrap();
        let began = Instant::now();
        until_state(&daemon, "vpn1", "dead");
        println!("dead after {:?}", began.elapsed());
        assert_eq!(way_of_new_flow(&lab), "vpn2");
        let lost = until_record(&lab, "the end", |r| r["status_code"] == "tunnel_lost");
        assert_eq!(interface(&lost), "vpn1");
        idle.join();
        // And the second one.
        lab.peer_down(2).unwrap();
        until_state(&daemon, "vpn2", "dead");
        let skip = records(&lab).len();
        get(&lab, 0, dialled(IOT, 443), IOT_DATA).expect_err("refused");
        let record = until_end_behind(&lab, skip, DEVICES[0].address.into());
        assert_eq!(record["status_code"], "tunnel_down");
        assert_nothing_left(&lab, "without tunnels");
        lab.peer_up(2).unwrap();
        until_state(&daemon, "vpn2", "up");
        assert_eq!(way_of_new_flow(&lab), "vpn2");

        // The IKE daemon dies, and its interface with it.
        lab.kill_ike(2);
        until_state(&daemon, "vpn2", "down");
        get(&lab, 0, dialled(IOT, 443), IOT_DATA).expect_err("refused");
        assert_nothing_left(&lab, "without the IKE daemon");
        until_status(&daemon, "every end", |status| status["flows"]["live"] == 0);
        assert_log(&lab);
    });
}

#[test]
fn a_narrow_path_that_says_nothing_holds_up_no_download() {
    inside::test("tunnels::a_narrow_path_that_says_nothing_holds_up_no_download", || {
        let lab = ipsec_lab();
        let config = lab.daemon_config().replace("[tunnel]\n", "[tunnel]\nmtu = 1300\n");
        let daemon = start_with(&lab, &config);
        until_state(&daemon, "vpn1", "up");
        for tunnel in [1, 2] {
            lab.peer_narrow(tunnel).unwrap();
        }
        download(&lab, 4 << 20);
        let pki = lab.pki();
        let put = lab.device(1).run(async move || {
            let session = tls_connect(&pki, &Call::new(dialled(S3, 443), BUCKET)).await?;
            session.put_blob("/report", 4 << 20).await
        });
        assert_eq!(put.unwrap().status, 200);
        assert_nothing_left(&lab, "a narrow path");
    });
}
