//! FIN, half-close and RST arrive as what they were, behind everything that came before them.

use std::io::ErrorKind;

use sluicegate::lab::inside;
use tokio::io::AsyncWriteExt;

use crate::SOON;
use crate::raw::{Namespace, PORT, Pair, acknowledged, read_all, reset, send_all, soon, words};
use crate::stand::{ENI, PRESS, eventually};

#[test]
fn a_device_that_has_ended_still_gets_the_whole_reply() {
    inside::test("ends::a_device_that_has_ended_still_gets_the_whole_reply", || {
        let Pair { stand, mut device, mut endpoint, hello } = Pair::open();
        let reply = stand.lab.vpc().spawn(async move || {
            // Not a byte of the reply before the device's FIN is here.
            let request = read_all(&mut endpoint).await;
            send_all(&mut endpoint, LONG).await;
            (request, endpoint)
        });
        let got = stand.lab.device(PRESS).run(async move || {
            send_all(&mut device, SHORT).await;
            read_all(&mut device).await
        });
        assert_eq!(reply.join().0, (SHORT, Ok(())));
        assert_eq!(got, (LONG, Ok(())));
        let flows = stand.finish();
        assert_eq!((flows.len(), flows[0].ended()), (1, "closed_by_device"));
        assert_eq!((flows[0].up(), flows[0].down()), (hello + SHORT, LONG));
    });
}

#[test]
fn an_endpoint_that_has_ended_still_gets_the_devices_rest() {
    inside::test("ends::an_endpoint_that_has_ended_still_gets_the_devices_rest", || {
        let Pair { stand, mut device, mut endpoint, hello } = Pair::open();
        let rest = stand.lab.vpc().spawn(async move || {
            send_all(&mut endpoint, SHORT).await;
            read_all(&mut endpoint).await
        });
        let got = stand.lab.device(PRESS).run(async move || {
            let got = read_all(&mut device).await;
            send_all(&mut device, LONG).await;
            (got, device)
        });
        assert_eq!(got.0, (SHORT, Ok(())));
        assert_eq!(rest.join(), (LONG, Ok(())));
        let flows = stand.finish();
        assert_eq!((flows.len(), flows[0].ended()), (1, "closed_by_endpoint"));
        assert_eq!((flows[0].up(), flows[0].down()), (hello + LONG, SHORT));
    });
}

#[test]
fn a_reset_by_the_device_comes_behind_what_it_sent() {
    inside::test("ends::a_reset_by_the_device_comes_behind_what_it_sent", || {
        let Pair { stand, mut device, mut endpoint, hello } = Pair::open();
        let lab = &stand.lab;
        let device = lab.device(PRESS).run(async move || {
            soon(device.write_all(&words(0, QUEUED))).await.unwrap();
            device
        });
        // A reset takes back what its own kernel still holds, so that must have gone before.
        let to = format!("{}:{PORT}", stand.dialled);
        let arrived = || acknowledged(lab, Namespace::Device, ["dst", &to]).then_some(());
        eventually("the gate's kernel has what the device sent", SOON, arrived);
        lab.device(PRESS).run(async move || reset(device));
        let got = lab.vpc().run(async move || read_all(&mut endpoint).await);
        assert_eq!(got, (QUEUED, Err(ErrorKind::ConnectionReset)));
        let flows = stand.finish();
        assert_eq!((flows.len(), flows[0].ended()), (1, "reset_by_device"));
        assert_eq!((flows[0].up(), flows[0].down()), (hello + QUEUED, 0));
    });
}

#[test]
fn a_reset_by_the_endpoint_comes_behind_what_it_sent() {
    inside::test("ends::a_reset_by_the_endpoint_comes_behind_what_it_sent", || {
        let Pair { stand, mut device, mut endpoint, hello } = Pair::open();
        let lab = &stand.lab;
        let endpoint = lab.vpc().run(async move || {
            soon(endpoint.write_all(&words(0, QUEUED))).await.unwrap();
            endpoint
        });
        let from = format!("{ENI}:{PORT}");
        let arrived = || acknowledged(lab, Namespace::Vpc, ["src", &from]).then_some(());
        eventually("the gate's kernel has what the endpoint sent", SOON, arrived);
        lab.vpc().run(async move || reset(endpoint));
        let got = lab.device(PRESS).run(async move || read_all(&mut device).await);
        assert_eq!(got, (QUEUED, Err(ErrorKind::ConnectionReset)));
        let flows = stand.finish();
        assert_eq!((flows.len(), flows[0].ended()), (1, "reset_by_endpoint"));
        assert_eq!((flows[0].up(), flows[0].down()), (hello, QUEUED));
    });
}

/// No multiple of anything that a buffer may be.
const SHORT: u64 = (1 << 20) + 13;
const LONG: u64 = (4 << 20) + 5;
/// More than a receiver that does not read and the gate's socket towards it take, so that the gate
/// still has some to read or to write when the reset comes; less than all buffers on the way.
const QUEUED: u64 = (128 << 10) + 3;
