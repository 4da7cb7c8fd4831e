//! Bytes arrive unchanged, complete and without being hoarded on the way.

use std::pin::Pin;

use super::*;
use crate::relay::pipe::Pipe;

#[test]
fn bytes_arrive_as_they_were_sent() {
    for engine in ENGINES {
        run(async {
            let pool = RelayPool::new(engine, 8);
            for size in [0, 1, 100, 4095, 65_535, 65_536, 65_537, 300_000, 1 << 22] {
                let (gate, mut peers) = rig(&pool);
                let (up, down) = (pattern(size, 1), pattern(size, 2));
                let (mut near_in, mut near_out) = peers.device.split();
                let (mut far_in, mut far_out) = peers.endpoint.split();
                let (mut got_up, mut got_down) = (Vec::new(), Vec::new());
                let ((end, bytes), ..) = tokio::join!(
                    gate.run(),
                    async {
                        near_out.write_all(&up).await.unwrap();
                        near_out.shutdown().await.unwrap();
                    },
                    async {
                        far_out.write_all(&down).await.unwrap();
                        far_out.shutdown().await.unwrap();
                    },
                    async { far_in.read_to_end(&mut got_up).await.unwrap() },
                    async { near_in.read_to_end(&mut got_down).await.unwrap() },
                );
                assert!(got_up == up && got_down == down, "{engine:?} {size}");
                assert!(matches!(end, RelayEnd::ClosedByDevice | RelayEnd::ClosedByEndpoint));
                for direction in [&bytes.up, &bytes.down] {
                    let (copied, spliced) = (direction.copied.get(), direction.spliced.get());
                    assert_eq!(copied + spliced, u64::try_from(size).unwrap());
                    match engine {
                        Engine::Copy => assert_eq!(spliced, 0),
                        Engine::Splice => assert_eq!(copied, 0),
                        Engine::Adaptive => {}
                    }
                }
            }
            let counters = pool.counters();
            assert_eq!(counters.pipes_in_use, 0);
            assert_eq!(counters.promotions > 0, engine == Engine::Adaptive, "{counters:?}");
        });
    }
}

#[test]
fn a_late_reply_arrives_after_the_devices_fin() {
    for engine in ENGINES {
        run(async {
            let (gate, mut peers) = rig(&RelayPool::new(engine, 8));
            let (request, reply) = (pattern(200_000, 3), pattern(300_000, 4));
            let ((end, _), ()) = tokio::join!(gate.run(), async {
                write_and_finish(&mut peers.device, &request).await;
                let (got, _) = read_all(&mut peers.endpoint).await;
                assert!(got == request);
                write_and_finish(&mut peers.endpoint, &reply).await;
                let (got, end) = read_all(&mut peers.device).await;
                assert!(got == reply && end.is_ok());
            });
            assert_eq!(end, RelayEnd::ClosedByDevice);
        });
    }
}

#[test]
fn a_device_may_speak_after_the_endpoints_fin() {
    for engine in ENGINES {
        run(async {
            let (gate, mut peers) = rig(&RelayPool::new(engine, 8));
            let (greeting, answer) = (pattern(70_000, 5), pattern(300_000, 6));
            let ((end, _), ()) = tokio::join!(gate.run(), async {
                write_and_finish(&mut peers.endpoint, &greeting).await;
                let (got, _) = read_all(&mut peers.device).await;
                assert!(got == greeting);
                write_and_finish(&mut peers.device, &answer).await;
                let (got, end) = read_all(&mut peers.endpoint).await;
                assert!(got == answer && end.is_ok());
            });
            assert_eq!(end, RelayEnd::ClosedByEndpoint);
        });
    }
}

#[test]
fn many_small_segments_fill_a_pipes_slots_without_a_hang() {
    // A pipe of 16 slots is full long before its 64 KiB, while all that will ever come has arrived
    // already: no further event announces the rest.
    let size = 40_000;
    run(async {
        let (gate, mut peers) = rig(&RelayPool::new(Engine::Splice, 8));
        trickle(&mut peers.device, &gate.device, size).await;
        let held = Pipe::open(64 * 1024).unwrap().fill(&gate.device).unwrap();
        assert!(held < size, "the slots are not what fills the pipe: {held}");
    });
    run(async {
        let pool = Rc::new(RelayPool::with_pipe_bytes(Engine::Splice, 8, 64 * 1024));
        let (gate, mut peers) = rig(&pool);
        let sent = trickle(&mut peers.device, &gate.device, size).await;
        let ((end, _), ()) = tokio::join!(gate.run(), async {
            let mut got = vec![0; size];
            peers.endpoint.read_exact(&mut got).await.unwrap();
            assert!(got == sent);
            peers.device.shutdown().await.unwrap();
            peers.endpoint.shutdown().await.unwrap();
        });
        assert!(matches!(end, RelayEnd::ClosedByDevice | RelayEnd::ClosedByEndpoint));
    });
}

/// Sends 100 bytes at a time, until all of it is in the receiver's socket.
async fn trickle(sender: &mut TcpStream, receiver: &TcpStream, size: usize) -> Vec<u8> {
    let sent = pattern(size, 7);
    for segment in sent.chunks(100) {
        sender.write_all(segment).await.unwrap();
    }
    while rustix::io::ioctl_fionread(receiver).unwrap() < size as u64 {
        tokio::task::yield_now().await;
    }
    sent
}

#[test]
fn a_slow_reader_holds_its_sender_back() {
    for engine in ENGINES {
        run(async {
            let (gate, mut peers) = rig(&RelayPool::new(engine, 8));
            for socket in [&peers.device, &gate.device, &gate.endpoint, &peers.endpoint] {
                SockRef::from(socket).set_recv_buffer_size(32 * 1024).unwrap();
                SockRef::from(socket).set_send_buffer_size(32 * 1024).unwrap();
            }
            let sent = pattern(6 << 20, 8);
            let accepted = std::cell::Cell::new(0_usize);
            let (mut near_in, mut near_out) = peers.device.split();
            let _ = &mut near_in;
            let ((end, _), ..) = tokio::join!(
                gate.run(),
                async {
                    while accepted.get() < sent.len() {
                        let size = near_out.write(&sent[accepted.get()..]).await.unwrap();
                        accepted.set(accepted.get() + size);
                    }
                    near_out.shutdown().await.unwrap();
                },
                async {
                    let mut got = Vec::new();
                    let mut piece = [0; 4096];
                    loop {
                        settle(|| accepted.get() as u64).await;
                        let ahead = accepted.get() - got.len();
                        // One pipe's worth, and four socket buffers of twice what was asked.
                        assert!(ahead <= 512 * 1024, "{engine:?}: {ahead} bytes hoarded");
                        // Slowly at first, then to the end.
                        for _ in 0..if got.len() < 256 * 1024 { 8 } else { 512 } {
                            let size = peers.endpoint.read(&mut piece).await.unwrap();
                            got.extend_from_slice(&piece[..size]);
                            if size == 0 {
                                assert!(got == sent);
                                peers.endpoint.shutdown().await.unwrap();
                                return;
                            }
                        }
                    }
                },
            );
            assert_eq!(end, RelayEnd::ClosedByDevice);
        });
    }
}

#[test]
fn one_poll_does_a_bounded_share_of_work() {
    for engine in ENGINES {
        run(async {
            let (gate, peers) = rig(&RelayPool::new(engine, 8));
            let total: u64 = 64 << 20;
            let near = peers.device.into_std().unwrap();
            let far = peers.endpoint.into_std().unwrap();
            near.set_nonblocking(false).unwrap();
            far.set_nonblocking(false).unwrap();
            let writer = std::thread::spawn(move || {
                let piece = pattern(1 << 20, 9);
                for _ in 0..total >> 20 {
                    io::Write::write_all(&mut &near, &piece).unwrap();
                }
                near.shutdown(std::net::Shutdown::Write).unwrap();
                near
            });
            let reader = std::thread::spawn(move || {
                io::copy(&mut &far, &mut io::sink()).unwrap();
                drop(far);
            });
            let mut flow = relay(&gate.device, &gate.endpoint, &gate.pool, &gate.bytes);
            let moved = || gate.bytes.up.copied.get() + gate.bytes.up.spliced.get();
            let (mut last, mut most) = (0, 0);
            let end = std::future::poll_fn(|cx| {
                let end = Pin::new(&mut flow).poll(cx);
                most = most.max(moved() - last);
                last = moved();
                end
            })
            .await;
            // One share, and the read that goes beyond it.
            assert!(most <= 2 << 20, "{engine:?}: {most} bytes in one poll");
            assert_eq!((moved(), end), (total, RelayEnd::ClosedByDevice));
            drop(writer.join().unwrap());
            reader.join().unwrap();
        });
    }
}
