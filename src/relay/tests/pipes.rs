//! Pipes are few, shared, and never the reason for a wrong byte.

use super::*;

#[test]
fn without_pipes_everything_is_copied() {
    for engine in [Engine::Adaptive, Engine::Splice] {
        run(async {
            let pool = RelayPool::new(engine, 0);
            let bytes = transfer(&pool, 1 << 20).await;
            assert_eq!((bytes.up.copied.get(), bytes.up.spliced.get()), (1 << 20, 0));
            let counters = pool.counters();
            assert_eq!((counters.pipes_created, counters.pipes_in_use), (0, 0));
            assert!(counters.pipe_fallbacks > 0);
        });
    }
}

#[test]
fn a_pipe_that_the_kernel_keeps_small_is_not_used() {
    // As an unprivileged user past `pipe-user-pages-soft` gets it: too small, and not to be grown.
    run(async {
        let pool = Rc::new(RelayPool::with_pipe_bytes(Engine::Splice, 8, 8192));
        let bytes = transfer(&pool, 1 << 20).await;
        assert_eq!((bytes.up.copied.get(), bytes.up.spliced.get()), (1 << 20, 0));
        assert!(pool.counters().pipe_fallbacks > 0);
        assert_eq!(pool.counters().pipes_in_use, 0);
    });
}

#[test]
fn a_pipe_that_cannot_be_grown_is_used_as_it_is() {
    // Growing beyond `pipe-max-size` fails for an unprivileged user, and beyond 2 GiB for all.
    run(async {
        let pool = Rc::new(RelayPool::with_pipe_bytes(Engine::Splice, 8, 1 << 31));
        let bytes = transfer(&pool, 1 << 20).await;
        assert_eq!((bytes.up.copied.get(), bytes.up.spliced.get()), (0, 1 << 20));
    });
}

#[test]
fn a_flow_that_waits_holds_no_pipe() {
    run(async {
        let pool = RelayPool::new(Engine::Splice, 8);
        let (gate, mut peers) = rig(&pool);
        let ((end, _), ()) = tokio::join!(gate.run(), async {
            for _ in 0..10 {
                peers.device.write_all(b"ping").await.unwrap();
                let mut word = [0; 4];
                peers.endpoint.read_exact(&mut word).await.unwrap();
                settle(|| pool.counters().spliced).await;
                assert_eq!(pool.counters().pipes_in_use, 0);
            }
            peers.device.shutdown().await.unwrap();
            peers.endpoint.shutdown().await.unwrap();
        });
        assert_eq!(end, RelayEnd::ClosedByDevice);
        assert_eq!(pool.counters().pipes_created, 1);
    });
}

#[test]
fn stalled_flows_exhaust_the_pool_and_others_go_on() {
    run(async {
        let pool = RelayPool::new(Engine::Splice, 2);
        let stalled: Vec<_> = (0..4).map(|_| rig(&pool)).collect();
        let mut held = Vec::new();
        let local = tokio::task::LocalSet::new();
        let running: Vec<_> = stalled
            .into_iter()
            .map(|(gate, peers)| {
                let sender = peers.device.into_std().unwrap();
                held.push(peers.endpoint);
                let sender = TcpStream::from_std(sender).unwrap();
                let task = local.spawn_local(gate.run());
                local.spawn_local(async move {
                    let mut sender = sender;
                    let _ = sender.write_all(&pattern(32 << 20, 13)).await;
                });
                task
            })
            .collect();
        local
            .run_until(async {
                let pool_moves = || pool.counters().spliced + pool.counters().copied;
                settle(pool_moves).await;
                assert_eq!(pool.counters().pipes_in_use, 2);
                let bytes = transfer(&pool, 1 << 20).await;
                assert_eq!((bytes.up.copied.get(), bytes.up.spliced.get()), (1 << 20, 0));
                // Aborted with bytes in them: those pipes must not serve anybody else.
                for task in running {
                    task.abort();
                    assert!(task.await.unwrap_err().is_cancelled());
                }
                assert_eq!(pool.counters().pipes_in_use, 0);
                let bytes = transfer(&pool, 1 << 20).await;
                assert_eq!(bytes.up.spliced.get(), 1 << 20);
                assert_eq!(pool.counters().pipes_created, 3);
            })
            .await;
    });
}

#[test]
fn a_socket_that_cannot_be_spliced_is_copied_to_its_end() {
    let errors = [Errno::INVAL, Errno::NOBUFS, Errno::NOMEM];
    for (fault, error) in
        errors.iter().flat_map(|e| [(Fault::SpliceIn, *e), (Fault::SpliceOut, *e)])
    {
        run(async {
            let pool = RelayPool::new(Engine::Splice, 8);
            pool.fault.set(Some((fault, error)));
            let bytes = transfer(&pool, 1 << 20).await;
            assert_eq!((bytes.up.copied.get(), bytes.up.spliced.get()), (1 << 20, 0));
            // Once per direction that had bytes or an end to read.
            assert!((1..=2).contains(&pool.counters().refused), "{:?}", pool.counters());
            assert_eq!(pool.counters().pipes_in_use, 0);
        });
    }
}

#[test]
fn splicing_refused_in_the_middle_loses_nothing() {
    run(async {
        let pool = RelayPool::new(Engine::Splice, 8);
        let (gate, mut peers) = rig(&pool);
        let sent = pattern(24 << 20, 14);
        let ((end, bytes), (), ()) = tokio::join!(
            gate.run(),
            async { write_and_finish(&mut peers.device, &sent).await },
            async {
                // The pipe is full and stays so; then the kernel changes its mind.
                settle(|| pool.counters().spliced).await;
                assert_eq!(pool.counters().pipes_in_use, 1);
                pool.fault.set(Some((Fault::SpliceOut, Errno::INVAL)));
                let (got, _) = read_all(&mut peers.endpoint).await;
                assert!(got == sent);
                peers.endpoint.shutdown().await.unwrap();
            },
        );
        assert_eq!(end, RelayEnd::ClosedByDevice);
        assert!(bytes.up.copied.get() > 0 && bytes.up.spliced.get() > 0);
        assert_eq!(pool.counters().refused, 1);
    });
}

#[test]
fn a_direction_is_promoted_by_large_turns_and_demoted_by_small_ones() {
    run(async {
        let pool = RelayPool::new(Engine::Adaptive, 8);
        pool.stopped_at.set(Some(0));
        let (gate, mut peers) = rig(&pool);
        let ((end, _), ()) = tokio::join!(gate.run(), async {
            for (size, promotions, demotions) in [
                (100, 0, 0),
                (20_000, 0, 0),
                (60_000, 1, 0),
                (20_000, 1, 0),
                (100, 1, 1),
                (60_000, 2, 1),
            ] {
                for _ in 0..6 {
                    pass(&mut peers, size).await;
                    peers.endpoint.write_all(&[1]).await.unwrap();
                    assert_eq!(peers.device.read_u8().await.unwrap(), 1);
                }
                let counters = pool.counters();
                assert_eq!((counters.promotions, counters.demotions), (promotions, demotions));
            }
            peers.device.shutdown().await.unwrap();
            peers.endpoint.shutdown().await.unwrap();
        });
        assert_eq!(end, RelayEnd::ClosedByDevice);
        assert!(pool.counters().spliced > 0 && pool.counters().copied > 0);
    });
}

#[test]
fn a_stream_is_one_however_small_its_reads_are_until_it_rests() {
    run(async {
        let pool = RelayPool::new(Engine::Adaptive, 8);
        let (gate, mut peers) = rig(&pool);
        let ((end, bytes), ()) = tokio::join!(gate.run(), async {
            let turns = |pool: &RelayPool| {
                let counters = pool.counters();
                (counters.promotions, counters.demotions)
            };
            // 4,000 bytes in 10 ms, unanswered, are messages; many more than that are a stream.
            for millis in 0..100 {
                pool.stopped_at.set(Some(millis * 10));
                pass(&mut peers, 4_000).await;
            }
            assert_eq!(turns(&pool), (0, 0));
            for millis in 0..100 {
                pool.stopped_at.set(Some(1_000 + millis));
                pass(&mut peers, 8_000).await;
            }
            assert_eq!(turns(&pool), (1, 0));
            for millis in 0..6 {
                pool.stopped_at.set(Some(2_000 + 100 * millis));
                pass(&mut peers, 8_000).await;
            }
            assert_eq!(turns(&pool), (1, 1));
            peers.device.shutdown().await.unwrap();
            peers.endpoint.shutdown().await.unwrap();
        });
        assert_eq!(end, RelayEnd::ClosedByDevice);
        assert!(bytes.up.spliced.get() >= 600_000, "{bytes:?}");
    });
}

/// Sends so many bytes from the device, and waits for them at the endpoint.
async fn pass(peers: &mut Peers, size: usize) {
    let message = pattern(size, 16);
    peers.device.write_all(&message).await.unwrap();
    let mut got = vec![0; size];
    peers.endpoint.read_exact(&mut got).await.unwrap();
    assert!(got == message);
}

/// Relays `size` bytes from the device to the endpoint and back-to-back ends.
async fn transfer(pool: &Rc<RelayPool>, size: usize) -> Rc<FlowBytes> {
    let (gate, mut peers) = rig(pool);
    let sent = pattern(size, 15);
    let ((end, bytes), (), ()) = tokio::join!(
        gate.run(),
        async { write_and_finish(&mut peers.device, &sent).await },
        async {
            let (got, _) = read_all(&mut peers.endpoint).await;
            assert!(got == sent);
            peers.endpoint.shutdown().await.unwrap();
        },
    );
    assert_eq!(end, RelayEnd::ClosedByDevice);
    bytes
}
