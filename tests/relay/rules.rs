//! Rules of moving bytes that show only from outside: in time, in memory, in what the kernel holds.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sluicegate::relay::{Engine, FlowBytes, RelayPool};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::yield_now;

use crate::peer::turns;
use crate::plan::stock;
use crate::ride::relay;
use crate::sockets::{Pairs, Shape, register, runtime};

const ENGINES: [Engine; 3] = [Engine::Adaptive, Engine::Copy, Engine::Splice];

/// A flow's sockets and what it is carried with.
struct Rig {
    device: TcpStream,
    gate_device: TcpStream,
    gate_endpoint: TcpStream,
    endpoint: TcpStream,
    pool: Rc<RelayPool>,
    bytes: Rc<FlowBytes>,
}

impl Rig {
    fn new(engine: Engine) -> Self {
        let mut pairs = Pairs::new();
        let (device, gate_device) = pairs.pair(Shape::default());
        let (endpoint, gate_endpoint) = pairs.pair(Shape::default());
        Self {
            device: register(device),
            gate_device: register(gate_device),
            gate_endpoint: register(gate_endpoint),
            endpoint: register(endpoint),
            pool: RelayPool::new(engine, 8),
            bytes: Rc::default(),
        }
    }
}

#[test]
fn the_last_segment_is_not_corked() {
    // With SPLICE_F_MORE (or MSG_MORE) the kernel would keep it back for 200 ms, in the hope of more.
    for engine in ENGINES {
        for size in [1, 1000, 30_000] {
            run(async {
                let mut rig = Rig::new(engine);
                rig.device.write_all(&stock(1)[..size]).await.unwrap();
                let up = &rig.bytes.up;
                let moved = || up.copied.get() + up.spliced.get();
                let mut flow =
                    pin!(relay(&rig.gate_device, &rig.gate_endpoint, &rig.pool, &rig.bytes));
                while moved() < size as u64 {
                    poll_fn(|cx| Poll::Ready(flow.as_mut().poll(cx).is_ready())).await;
                    if moved() < size as u64 {
                        yield_now().await;
                    }
                }
                // The socket now counts as writable only if it holds nothing that is unsent.
                SockRef::from(&rig.gate_endpoint).set_tcp_notsent_lowat(1).unwrap();
                let mut watched = [PollFd::new(&rig.gate_endpoint, PollFlags::OUT)];
                let none = Timespec { tv_sec: 0, tv_nsec: 0 };
                assert_eq!(poll(&mut watched, Some(&none)), Ok(1), "{engine:?} {size}: corked");
            });
        }
    }
}

#[test]
fn a_streams_tail_is_not_kept_waiting() {
    // The sender pauses after each piece and keeps its side open: no end and no further byte comes to
    // push the last ones. The best of several rounds counts, so that the machine's load does not.
    for engine in ENGINES {
        run(async {
            let rig = Rig::new(engine);
            let Rig { mut device, gate_device, gate_endpoint, mut endpoint, pool, bytes } = rig;
            let stock = stock(2);
            let mut got = vec![0; 1_000_017];
            let talk = async {
                let mut best = [(1_000_017, Duration::MAX), (300_017, Duration::MAX)];
                for _ in 0..10 {
                    for (size, best) in &mut best {
                        let began = Instant::now();
                        let (sent, got) = (&stock[..*size], &mut got[..*size]);
                        let (wrote, read) =
                            tokio::join!(device.write_all(sent), endpoint.read_exact(got));
                        wrote.unwrap();
                        read.unwrap();
                        *best = began.elapsed().min(*best);
                        assert!(got == sent);
                        turns(20).await;
                    }
                }
                best
            };
            let best = tokio::select! {
                end = relay(&gate_device, &gate_endpoint, &pool, &bytes) => panic!("{end:?}"),
                best = talk => best,
            };
            let soon = best.iter().all(|(_, best)| *best < Duration::from_millis(40));
            assert!(soon, "{engine:?}: {best:?} at best");
        });
    }
}

#[test]
fn an_end_waits_for_the_bytes_in_the_pipe() {
    run(async {
        let mut rig = Rig::new(Engine::Splice);
        SockRef::from(&rig.gate_endpoint).set_send_buffer_size(8 * 1024).unwrap();
        SockRef::from(&rig.endpoint).set_recv_buffer_size(8 * 1024).unwrap();
        let stock = stock(3);
        let sent = &stock[..200_000];
        rig.device.write_all(sent).await.unwrap();
        rig.device.shutdown().await.unwrap();
        let relaying = relay(&rig.gate_device, &rig.gate_endpoint, &rig.pool, &rig.bytes);
        let reading = async {
            let moved = || rig.bytes.up.spliced.get();
            let mut before = u64::MAX;
            while before != moved() || moved() == 0 {
                before = moved();
                turns(300).await;
            }
            assert_eq!(rig.pool.counters().pipes_in_use, 1, "the pipe has been emptied already");
            let mut got = Vec::new();
            rig.endpoint.read_to_end(&mut got).await.unwrap();
            assert!(got == sent, "{} bytes", got.len());
            rig.endpoint.shutdown().await.unwrap();
        };
        tokio::join!(relaying, reading);
    });
}

#[test]
fn small_messages_are_copied_through_one_buffer_without_an_allocation() {
    let runtime = runtime();
    let (mut rig, stock) = {
        let _entered = runtime.enter();
        (Rig::new(Engine::Adaptive), stock(4))
    };
    let relaying = {
        let _entered = runtime.enter();
        relay(&rig.gate_device, &rig.gate_endpoint, &rig.pool, &rig.bytes)
    };
    let mut flow = pin!(relaying);
    let mut got = vec![0; 16_000];
    let mut talk = |rounds: u32| {
        let talking = async {
            for _ in 0..rounds {
                for size in [1, 100, 1500, 16_000] {
                    let (sent, got) = (&stock[..size], &mut got[..size]);
                    rig.device.write_all(sent).await.unwrap();
                    rig.endpoint.read_exact(got).await.unwrap();
                    assert!(got == sent);
                    rig.endpoint.write_all(sent).await.unwrap();
                    rig.device.read_exact(got).await.unwrap();
                    assert!(got == sent);
                }
            }
        };
        let mut talking = pin!(talking);
        runtime.block_on(poll_fn(|cx| {
            assert!(flow.as_mut().poll(cx).is_pending(), "nothing has ended");
            talking.as_mut().poll(cx)
        }));
    };
    talk(3);
    let info = allocation_counter::measure(|| talk(500));
    assert_eq!((info.count_total, info.bytes_total), (0, 0), "{info:?}");
    let counters = rig.pool.counters();
    assert_eq!((counters.spliced, counters.promotions, counters.pipes_created), (0, 0, 0));
    assert_eq!(counters.copied, 503 * 2 * (1 + 100 + 1500 + 16_000));
}

/// Runs a test on its own runtime; one that hangs fails.
fn run<T>(test: impl Future<Output = T>) -> T {
    runtime().block_on(async {
        let limited = tokio::time::timeout(Duration::from_secs(60), test);
        limited.await.expect("the relay hangs")
    })
}
