//! FIN, RST and silence arrive as what they were, after the bytes that came before.

use std::cell::Cell;

use super::*;

#[test]
fn a_reset_arrives_after_the_bytes_before_it() {
    for engine in ENGINES {
        for from in [RelayEnd::ResetByDevice, RelayEnd::ResetByEndpoint] {
            for size in [0, 1, 70_000, 700_000] {
                run(async {
                    let (gate, peers) = rig(&RelayPool::new(engine, 8));
                    let (mut sender, mut receiver) = match from {
                        RelayEnd::ResetByDevice => (peers.device, peers.endpoint),
                        _ => (peers.endpoint, peers.device),
                    };
                    let sent = pattern(size, 10);
                    let (gate, received) = (gate.run(), Cell::new(0));
                    let ((end, _), (), (got, over)) = tokio::join!(
                        gate,
                        async {
                            sender.write_all(&sent).await.unwrap();
                            // All of it must have left this socket: closing would drop the rest.
                            settle(|| received.get()).await;
                            reset(sender);
                        },
                        async {
                            let mut got = Vec::new();
                            let over = loop {
                                match receiver.read_buf(&mut got).await {
                                    Ok(0) => break Ok(()),
                                    Ok(_) => received.set(got.len() as u64),
                                    Err(error) => break Err(error),
                                }
                            };
                            (got, over)
                        },
                    );
                    assert!(got == sent, "{engine:?} {from:?}: {} of {size}", got.len());
                    assert!(was_reset(&over), "{engine:?} {from:?} {size}: {over:?}");
                    assert_eq!(end, from);
                });
            }
        }
    }
}

#[test]
fn a_reset_waits_for_a_reader_that_is_slow() {
    // What the dead device sent is in the relay and in its send buffer when the reset arrives, and the
    // endpoint starts to read only then.
    for engine in ENGINES {
        run(async {
            let (gate, mut peers) = rig(&RelayPool::new(engine, 8));
            let accepted = fill(&gate, &mut peers.device).await;
            let pool = Rc::clone(&gate.pool);
            let ((end, bytes), (got, over)) = tokio::join!(gate.run(), async {
                let moved = || pool.counters().copied + pool.counters().spliced;
                settle(moved).await;
                reset(peers.device);
                settle(moved).await;
                read_all(&mut peers.endpoint).await
            });
            assert!(accepted.starts_with(&got) && was_reset(&over), "{engine:?}: {over:?}");
            // Closing dropped what had not left the device. What the relay took must arrive, although
            // most of it lay in the endpoint's send buffer when the relay learned of the reset.
            let delivered = bytes.up.copied.get() + bytes.up.spliced.get();
            assert_eq!(got.len() as u64, delivered, "{engine:?}");
            assert!(delivered > 100_000, "{engine:?}: {delivered}");
            assert_eq!(end, RelayEnd::ResetByDevice);
        });
    }
}

#[test]
fn a_reset_behind_a_fin_waits_for_a_reader_that_is_slow() {
    // The whole stream and its FIN are in the relay's send buffer when the reset arrives.
    for engine in ENGINES {
        run(async {
            let (gate, mut peers) = rig(&RelayPool::new(engine, 8));
            SockRef::from(&peers.endpoint).set_recv_buffer_size(4096).unwrap();
            let sent = pattern(150_000, 16);
            let pool = Rc::clone(&gate.pool);
            let ((end, _), ()) = tokio::join!(gate.run(), async {
                let moved = || pool.counters().copied + pool.counters().spliced;
                write_and_finish(&mut peers.device, &sent).await;
                settle(moved).await;
                assert_eq!(moved(), 150_000);
                reset(peers.device);
                settle(moved).await;
                let mut got = vec![0; sent.len()];
                peers.endpoint.read_exact(&mut got).await.unwrap();
                assert!(got == sent, "{engine:?}");
            });
            assert_eq!(end, RelayEnd::ResetByDevice);
        });
    }
}

#[test]
fn a_reset_is_noticed_while_both_directions_are_blocked() {
    for engine in ENGINES {
        run(async {
            let (gate, mut peers) = rig(&RelayPool::new(engine, 8));
            fill(&gate, &mut peers.device).await;
            fill(&gate, &mut peers.endpoint).await;
            let pool = Rc::clone(&gate.pool);
            let ((end, _), ()) = tokio::join!(gate.run(), async {
                settle(|| pool.counters().copied + pool.counters().spliced).await;
                reset(peers.endpoint);
                let (_, over) = read_all(&mut peers.device).await;
                assert!(was_reset(&over), "{engine:?}: {over:?}");
            });
            assert_eq!(end, RelayEnd::ResetByEndpoint);
        });
    }
}

#[test]
fn a_reset_is_noticed_while_nobody_reads_from_its_side() {
    // Only device to endpoint is busy, and blocked: the device is neither read from nor written to.
    // The endpoint then reads nothing either, so the relay must see the reset by itself and, once
    // nothing moves for the half-open time, say whose it was.
    for engine in ENGINES {
        runtime().block_on(async {
            let (gate, mut peers) = rig(&RelayPool::new(engine, 8));
            fill(&gate, &mut peers.device).await;
            let pool = Rc::clone(&gate.pool);
            // Time is paused in the end, so that this is no matter of the machine's speed.
            let limited = tokio::time::timeout(HALF_OPEN * 1000, gate.run());
            let (end, ()) = tokio::join!(limited, async {
                settle(|| pool.counters().copied + pool.counters().spliced).await;
                reset(peers.device);
                settle(|| pool.counters().copied + pool.counters().spliced).await;
                tokio::time::pause();
            });
            assert_eq!(end.expect("the reset is noticed").0, RelayEnd::ResetByDevice);
            drop(peers.endpoint);
        });
    }
}

#[test]
fn a_reset_after_the_fin_is_noticed_at_once() {
    for engine in ENGINES {
        run(async {
            let (gate, mut peers) = rig(&RelayPool::new(engine, 8));
            let ((end, _), ()) = tokio::join!(gate.run(), async {
                write_and_finish(&mut peers.device, b"last words").await;
                let (got, _) = read_all(&mut peers.endpoint).await;
                assert_eq!(got, b"last words");
                reset(peers.device);
                // Nothing is read or written on the device's side any more: only an error shows it.
                let error = loop {
                    match peers.endpoint.ready(tokio::io::Interest::ERROR).await {
                        Ok(ready) if ready.is_error() => break peers.endpoint.take_error(),
                        _ => {}
                    }
                };
                assert!(error.unwrap().is_some());
            });
            assert_eq!(end, RelayEnd::ResetByDevice);
        });
    }
}

#[test]
fn what_a_dead_endpoint_sent_before_still_reaches_the_device() {
    // The endpoint answers and resets; the relay finds out by writing to it, with the answer unread.
    for engine in ENGINES {
        run(async {
            let (gate, mut peers) = rig(&RelayPool::new(engine, 8));
            let answer = pattern(60_000, 11);
            peers.endpoint.write_all(&answer).await.unwrap();
            reset(peers.endpoint);
            peers.device.write_all(b"question").await.unwrap();
            // Consumes the socket's error, as a failed write does: reading then looks like an end.
            gate.endpoint.take_error().unwrap();
            let ((end, _), (got, over)) = tokio::join!(gate.run(), read_all(&mut peers.device));
            assert!(got == answer, "{engine:?}: {} bytes", got.len());
            assert!(was_reset(&over), "{engine:?}: {over:?}");
            assert_eq!(end, RelayEnd::ResetByEndpoint);
        });
    }
}

#[test]
fn a_half_open_flow_that_stands_still_is_reset() {
    for engine in ENGINES {
        runtime().block_on(async {
            let (gate, mut peers) = rig(&RelayPool::new(engine, 8));
            let ((end, _), ()) = tokio::join!(gate.run(), async {
                write_and_finish(&mut peers.device, b"hello").await;
                let (got, _) = read_all(&mut peers.endpoint).await;
                assert_eq!(got, b"hello");
                // With nothing else to do, paused time jumps to the next timer.
                tokio::time::pause();
                let start = tokio::time::Instant::now();
                tokio::time::sleep(HALF_OPEN - Duration::from_secs(1)).await;
                let mut word = [0; 10];
                busily(async {
                    peers.endpoint.write_all(b"still here").await.unwrap();
                    peers.device.read_exact(&mut word).await.unwrap();
                })
                .await;
                let (_, over) = read_all(&mut peers.device).await;
                assert!(was_reset(&over), "{over:?}");
                let waited = start.elapsed();
                assert!(waited >= HALF_OPEN * 2 - Duration::from_secs(2), "{waited:?}");
            });
            assert_eq!(end, RelayEnd::Idle);
            // Its stream has ended already, so that reading does not show the reset.
            assert!(peers.endpoint.take_error().unwrap().is_some());
        });
    }
}

#[test]
fn an_open_flow_may_rest_for_ever() {
    runtime().block_on(async {
        let (gate, mut peers) = rig(&RelayPool::new(Engine::Adaptive, 8));
        tokio::time::pause();
        let ((end, _), ()) = tokio::join!(gate.run(), async {
            tokio::time::sleep(HALF_OPEN * 1000).await;
            busily(async {
                peers.endpoint.shutdown().await.unwrap();
                assert!(read_all(&mut peers.device).await.0.is_empty());
                peers.device.shutdown().await.unwrap();
                assert!(read_all(&mut peers.endpoint).await.0.is_empty());
            })
            .await;
        });
        assert_eq!(end, RelayEnd::ClosedByEndpoint);
    });
}

/// Waits without ever being idle, or paused time would jump while bytes are under way.
async fn busily<T>(job: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        done = job => done,
        () = async { loop { tokio::task::yield_now().await } } => unreachable!("an endless loop"),
    }
}

/// Writes to a peer's socket until nothing more fits between it and the relay; nothing is relayed
/// meanwhile. Buffers are made small, so that relaying does not empty them for good.
async fn fill(gate: &Gate, peer: &mut TcpStream) -> Vec<u8> {
    for socket in [&gate.device, &gate.endpoint, &*peer] {
        SockRef::from(socket).set_send_buffer_size(64 * 1024).unwrap();
        SockRef::from(socket).set_recv_buffer_size(128 * 1024).unwrap();
    }
    let bytes = pattern(64 << 20, 12);
    let mut start = 0;
    let mut refusals = 0;
    while refusals < 300 {
        tokio::task::yield_now().await;
        match peer.try_write(&bytes[start..]) {
            Ok(size) => (start, refusals) = (start + size, 0),
            Err(_) => refusals += 1,
        }
    }
    bytes[..start].to_vec()
}
