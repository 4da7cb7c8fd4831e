//! A reader that is slower than its sender.

use sluicegate::lab::inside;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::raw::{Pair, check, read_all, soon, words};
use crate::stand::PRESS;

/// How far the endpoint has come.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    sent: u64,
    /// Its kernel's buffer is full.
    blocked: bool,
}

#[test]
fn what_a_slow_device_does_not_take_waits_with_the_sender() {
    inside::test("slow::what_a_slow_device_does_not_take_waits_with_the_sender", || {
        let Pair { stand, device, endpoint, hello } = Pair::open();
        let party = stand.lab.device(PRESS);
        let (progress, mut seen) = watch::channel(Progress::default());
        let sending = stand.lab.vpc().spawn(async move || send(endpoint, progress).await);

        let before = stand.gate_memory();
        let (mut device, mut read, mut most) = (device, 0, before);
        // A trickle: the next bite only once the sender is stopped again.
        for _ in 0..BITES {
            let stopped;
            (device, seen, stopped) = party.run(async move || {
                bite(&mut device, read, BITE).await;
                let stopped = *soon(seen.wait_for(|now| now.blocked)).await.unwrap();
                (device, seen, stopped)
            });
            read += BITE;
            most = most.max(stand.gate_memory());
            assert!(stopped.sent < SIZE, "nobody holds the sender back: {stopped:?} of {read}");
        }
        // Then as fast as it can.
        while read < SIZE {
            let size = (4 << 20).min(SIZE - read);
            device = party.run(async move || {
                bite(&mut device, read, size).await;
                device
            });
            read += size;
            most = most.max(stand.gate_memory());
        }
        let end = party.run(async move || read_all(&mut device).await);
        assert_eq!((end, sending.join()), ((0, Ok(())), SIZE));
        assert!(most - before <= GROWTH, "the gate grew from {before} KiB to {most} KiB");

        let flows = stand.finish();
        assert_eq!((flows.len(), flows[0].ended()), (1, "closed_by_endpoint"));
        assert_eq!((flows[0].up(), flows[0].down()), (hello, SIZE));
    });
}

/// Sends everything, says how far it is, and waits for the other side's end.
async fn send(mut endpoint: TcpStream, progress: watch::Sender<Progress>) -> u64 {
    let mut sent = 0;
    while sent < SIZE {
        let mut rest = &words(sent, (64 << 10).min(SIZE - sent))[..];
        while !rest.is_empty() {
            match endpoint.try_write(rest) {
                Ok(size) => {
                    rest = &rest[size..];
                    sent += size as u64;
                    progress.send_replace(Progress { sent, blocked: false });
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    progress.send_replace(Progress { sent, blocked: true });
                    soon(endpoint.writable()).await.unwrap();
                }
                Err(error) => panic!("after {sent} bytes: {error}"),
            }
        }
        tokio::task::yield_now().await;
    }
    soon(endpoint.shutdown()).await.unwrap();
    assert_eq!(read_all(&mut endpoint).await, (0, Ok(())));
    sent
}

async fn bite(device: &mut TcpStream, from: u64, size: u64) {
    let mut buffer = vec![0; usize::try_from(size).unwrap()];
    soon(device.read_exact(&mut buffer)).await.unwrap();
    check(from, &buffer);
}

const SIZE: u64 = 64 << 20;
const BITE: u64 = 4 << 10;
const BITES: u32 = 256;
/// In KiB.
const GROWTH: u64 = 8 << 10;
