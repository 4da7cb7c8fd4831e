//! Thousands of random flows through one thread's relays: every byte up to the reset, the right end,
//! and nothing left behind. Alone in its binary, because it counts the process's descriptors.

#[cfg(test)]
mod stress {
    use std::io;
    use std::net::TcpListener;
    use std::pin::pin;
    use std::rc::Rc;
    use std::time::Duration;

    use sluicegate::relay::{DirectionBytes, Engine, FlowBytes, RelayEnd, RelayPool, relay};
    use socket2::SockRef;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::task::{LocalSet, yield_now};

    const FLOWS: u64 = 2_400;
    const AT_ONCE: u64 = 60;

    #[test]
    fn random_flows_arrive_and_leave_nothing_behind() {
        // The runtime's signal driver leaves one pair of descriptors to the process.
        drop(tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());
        let before = descriptors();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let pools: Rc<[_]> = [Engine::Adaptive, Engine::Copy, Engine::Splice]
            .into_iter()
            .map(|engine| RelayPool::new(engine, 24))
            .collect();
        for batch in 0..FLOWS / AT_ONCE {
            let local = LocalSet::new();
            let flows: Vec<_> = (0..AT_ONCE)
                .map(|flow| local.spawn_local(one_flow(batch * AT_ONCE + flow, Rc::clone(&pools))))
                .collect();
            runtime.block_on(local.run_until(async {
                for (flow, task) in flows.into_iter().enumerate() {
                    let limited = tokio::time::timeout(Duration::from_secs(60), task);
                    limited.await.unwrap_or_else(|_| panic!("{batch}/{flow} hangs")).unwrap();
                }
            }));
        }
        for pool in pools.iter() {
            assert_eq!(pool.counters().pipes_in_use, 0, "{:?}", pool.counters());
        }
        let spliced = pools.iter().map(|pool| pool.counters().spliced).max();
        assert!(spliced > Some(1 << 20));
        drop(pools);
        drop(runtime);
        assert_eq!(descriptors(), before);
    }

    async fn one_flow(seed: u64, pools: Rc<[Rc<RelayPool>]>) {
        let mut dice = Dice(seed);
        let pool = Rc::clone(&pools[dice.below(3)]);
        let (mut near, mut far) = (Plan::random(&mut dice), Plan::random(&mut dice));
        match dice.below(8) {
            0 => near.end = End::Reset(dice.below(near.size + 1)),
            1 => far.end = End::Reset(dice.below(far.size + 1)),
            2 => near.end = End::FinAfterPeer,
            3 => far.end = End::FinAfterPeer,
            _ => {}
        }
        let dropped_after = (dice.below(20) == 0).then(|| dice.below(200));
        let (device, gate_device) = pair();
        let (endpoint, gate_endpoint) = pair();
        let bytes = FlowBytes::default();
        let gate = async {
            let (device, endpoint) = (gate_device, gate_endpoint);
            let end = {
                let mut flow = pin!(relay(&device, &endpoint, &pool, &bytes));
                let cut = async {
                    let Some(turns) = dropped_after else { return std::future::pending().await };
                    turn(turns).await;
                };
                tokio::select! { end = &mut flow => Some(end), () = cut => None }
            };
            if end.is_none() {
                for socket in [&device, &endpoint] {
                    SockRef::from(socket).set_linger(Some(Duration::ZERO)).unwrap();
                }
            }
            end
        };
        let (end, at_device, at_endpoint) = tokio::join!(
            gate,
            near.act(device, seed * 2, Dice(dice.next())),
            far.act(endpoint, seed * 2 + 1, Dice(dice.next())),
        );
        let story = format!("flow {seed}: {near:?} {far:?} -> {end:?}");
        check(&at_device, &far, seed * 2 + 1, &bytes.down, end, &story);
        check(&at_endpoint, &near, seed * 2, &bytes.up, end, &story);
        let expected: &[_] = match (end, near.end, far.end) {
            (None, ..) => return,
            (_, End::Reset(_), _) => &[RelayEnd::ResetByDevice],
            (_, _, End::Reset(_)) => &[RelayEnd::ResetByEndpoint],
            (_, End::FinAfterPeer, _) => &[RelayEnd::ClosedByEndpoint],
            (_, _, End::FinAfterPeer) => &[RelayEnd::ClosedByDevice],
            _ => &[RelayEnd::ClosedByDevice, RelayEnd::ClosedByEndpoint],
        };
        assert!(end.is_some_and(|end| expected.contains(&end)), "{story}");
    }

    /// What a side received, held against what its peer sent.
    fn check(
        seen: &Seen,
        sender: &Plan,
        seed: u64,
        bytes: &DirectionBytes,
        end: Option<RelayEnd>,
        story: &str,
    ) {
        let sent = pattern(sender.size, seed);
        assert!(sent.starts_with(&seen.got), "{story}: wrong bytes");
        if seen.resigned || end.is_none() {
            return;
        }
        // Whatever the relay counts as delivered did arrive, also when a reset followed.
        let moved = bytes.copied.get() + bytes.spliced.get();
        assert_eq!(seen.got.len() as u64, moved, "{story}: lost after delivery");
        let reset = matches!(sender.end, End::Reset(_));
        assert_eq!(seen.reset, reset, "{story}: wrong end");
        assert!(reset || seen.got.len() == sender.size, "{story}: {} bytes", seen.got.len());
    }

    #[derive(Clone, Copy, Debug)]
    enum End {
        Fin,
        /// FIN only after the other side's.
        FinAfterPeer,
        /// RST after so many bytes.
        Reset(usize),
    }

    /// What one side will do.
    #[derive(Debug)]
    struct Plan {
        size: usize,
        segment: usize,
        pause: usize,
        piece: usize,
        end: End,
    }

    /// What one side saw.
    struct Seen {
        got: Vec<u8>,
        reset: bool,
        /// It reset the flow itself.
        resigned: bool,
    }

    impl Plan {
        fn random(dice: &mut Dice) -> Self {
            let most = [1, 300, 20_000, 200_000, 1 << 20][dice.below(5)];
            let segment = 1 + [99, 1400, 20_000, 300_000][dice.below(4)];
            // Not a million writes of a few bytes.
            let size = dice.below(most).min(segment * 400);
            let piece = 1 + [500, 5_000, 100_000][dice.below(3)];
            Self { size, segment, pause: dice.below(4), piece, end: End::Fin }
        }

        async fn act(&self, mut socket: TcpStream, seed: u64, dice: Dice) -> Seen {
            let mut got = Vec::new();
            let (wrote, read) = {
                let (mut input, mut output) = socket.split();
                let (ended, peer_ended) = tokio::sync::oneshot::channel();
                let mut writer = pin!(self.write(&mut output, seed, dice, peer_ended));
                let mut reader = pin!(self.read(&mut input, &mut got, dice, ended));
                tokio::select! {
                    biased;
                    wrote = &mut writer => match wrote {
                        Wrote::Reset => (Wrote::Reset, Ok(())),
                        wrote => (wrote, reader.await),
                    },
                    read = &mut reader => (writer.await, read),
                }
            };
            let resigned = matches!(wrote, Wrote::Reset);
            if resigned {
                SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
            }
            // A failed write takes the socket's error away, and reading then looks like an end.
            Seen { got, reset: read.is_err() || matches!(wrote, Wrote::Failed), resigned }
        }

        async fn write(
            &self,
            output: &mut (impl AsyncWriteExt + Unpin),
            seed: u64,
            mut dice: Dice,
            peer_ended: tokio::sync::oneshot::Receiver<()>,
        ) -> Wrote {
            let bytes = pattern(self.size, seed);
            let size = match self.end {
                End::Reset(size) => size,
                End::Fin | End::FinAfterPeer => self.size,
            };
            for segment in bytes[..size].chunks(self.segment) {
                turn(dice.below(self.pause + 1)).await;
                if output.write_all(segment).await.is_err() {
                    return Wrote::Failed;
                }
            }
            match self.end {
                End::Reset(_) => {
                    turn(dice.below(50)).await;
                    return Wrote::Reset;
                }
                End::FinAfterPeer => {
                    let _ = peer_ended.await;
                }
                End::Fin => {}
            }
            output.shutdown().await.map_or(Wrote::Failed, |()| Wrote::All)
        }

        async fn read(
            &self,
            input: &mut (impl AsyncReadExt + Unpin),
            got: &mut Vec<u8>,
            mut dice: Dice,
            ended: tokio::sync::oneshot::Sender<()>,
        ) -> io::Result<()> {
            let mut piece = vec![0; self.piece];
            loop {
                turn(dice.below(self.pause + 1)).await;
                let size = input.read(&mut piece).await?;
                if size == 0 {
                    let _ = ended.send(());
                    return Ok(());
                }
                got.extend_from_slice(&piece[..size]);
            }
        }
    }

    enum Wrote {
        All,
        Failed,
        Reset,
    }

    /// SplitMix64.
    #[derive(Clone, Copy)]
    struct Dice(u64);

    impl Dice {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        }

        fn below(&mut self, bound: usize) -> usize {
            usize::try_from(self.next() % (bound as u64)).unwrap()
        }
    }

    async fn turn(times: usize) {
        for _ in 0..times {
            yield_now().await;
        }
    }

    fn pattern(size: usize, seed: u64) -> Vec<u8> {
        let mut dice = Dice(seed);
        (0..size / 8 + 1).flat_map(|_| dice.next().to_le_bytes()).take(size).collect()
    }

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        #[expect(clippy::disallowed_methods, reason = "loopback only")]
        let here = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (there, _) = listener.accept().unwrap();
        let ready = |socket: std::net::TcpStream| {
            socket.set_nonblocking(true).unwrap();
            socket.set_nodelay(true).unwrap();
            TcpStream::from_std(socket).unwrap()
        };
        (ready(here), ready(there))
    }

    fn descriptors() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }
}
