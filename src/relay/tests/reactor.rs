//! What the flows of one reactor have to do with each other: nothing.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::AsFd;

use super::*;
use crate::relay::Attention;

/// How flows ended, by their numbers.
type Ends = Rc<RefCell<BTreeMap<u32, End>>>;

/// An owner that only notes the end.
struct Noted {
    number: u32,
    bytes: FlowBytes,
    ends: Ends,
}

impl Owner for Noted {
    fn bytes(&self) -> &FlowBytes {
        &self.bytes
    }

    fn ended(self, _legs: Legs, end: End) {
        self.ends.borrow_mut().insert(self.number, end);
        assert_ne!(self.number, CLUMSY, "an owner's fault");
    }
}

/// The number of a flow whose owner panics when it ends.
const CLUMSY: u32 = 666;

struct Rig {
    reactor: Rc<Reactor<Noted>>,
    ends: Ends,
}

impl Rig {
    fn new() -> Self {
        let reactor = Reactor::new(RelayPool::new(Engine::Adaptive, 8)).unwrap();
        Self { reactor, ends: Ends::default() }
    }

    fn carry(&self, number: u32, onlookers: Onlookers) -> (Key, Peers) {
        let (gate, peers) = rig(self.reactor.pool());
        let leg = |socket: TcpStream| socket.into_std().unwrap().into();
        let legs = Legs { device: leg(gate.device), endpoint: leg(gate.endpoint) };
        let owner = Noted { number, bytes: FlowBytes::default(), ends: Rc::clone(&self.ends) };
        let key = self.reactor.carry(legs, onlookers, owner);
        (key.unwrap_or_else(|refused| panic!("{}", refused.error)), peers)
    }

    /// Lets the flows move while `job` is done.
    async fn while_moving<T>(&self, job: impl Future<Output = T>) -> T {
        tokio::select! {
            error = self.reactor.run() => panic!("{error}"),
            done = job => done,
        }
    }

    fn end(&self, number: u32) -> Option<End> {
        self.ends.borrow().get(&number).copied()
    }

    fn numbers(&self, part: usize, parts: usize) -> Vec<u32> {
        let mut numbers = Vec::new();
        self.reactor.each(part, parts, |owner| numbers.push(owner.number));
        numbers
    }
}

async fn echo(peers: &mut Peers, word: &[u8]) {
    let mut got = vec![0; word.len()];
    peers.device.write_all(word).await.unwrap();
    peers.endpoint.read_exact(&mut got).await.unwrap();
    assert_eq!(got, word);
}

#[test]
fn a_panic_ends_its_flow_and_no_other() {
    run(async {
        let rig = Rig::new();
        let up = Onlooker::new(|_| -> Attention { panic!("a fault that a test wants") });
        let (_, mut broken) = rig.carry(1, Onlookers { up: Some(up), down: None });
        let (_, mut whole) = rig.carry(2, Onlookers::default());
        let (_, mut clumsy) = rig.carry(CLUMSY, Onlookers::default());
        rig.while_moving(async {
            broken.device.write_all(b"word").await.unwrap();
            let (_, over) = read_all(&mut broken.endpoint).await;
            assert!(was_reset(&over), "{over:?}");
            clumsy.device.shutdown().await.unwrap();
            clumsy.endpoint.shutdown().await.unwrap();
            assert_eq!(read_all(&mut clumsy.device).await.0, b"");
            echo(&mut whole, b"still here").await;
        })
        .await;
        assert_eq!((rig.end(1), rig.end(2)), (Some(End::BrokenOff), None));
        assert_eq!(rig.end(CLUMSY), Some(End::Relayed(RelayEnd::ClosedByDevice)));
        let counters = rig.reactor.pool().counters();
        assert_eq!((counters.pipes_in_use, counters.half_closed), (0, 0));
    });
}

#[test]
fn a_key_names_one_flow_and_none_that_comes_after_it() {
    run(async {
        let rig = Rig::new();
        let (first, peers) = rig.carry(1, Onlookers::default());
        let (stays, mut others) = rig.carry(2, Onlookers::default());
        let (legs, owner) = rig.reactor.part(first).expect("it lives");
        // Its events outlive it for as long as somebody else has its socket.
        let kept = legs.device.as_fd().try_clone_to_owned().unwrap();
        drop((legs, owner));
        let (second, mut after) = rig.carry(3, Onlookers::default());
        assert_ne!(first, second);
        assert!(rig.reactor.part(first).is_none());
        assert_eq!(rig.reactor.with(first, |owner, _| owner.number), None);
        assert_eq!(rig.reactor.with(second, |owner, _| owner.number), Some(3));
        drop(peers);
        rig.while_moving(async {
            echo(&mut after, b"after").await;
            echo(&mut others, b"others").await;
        })
        .await;
        drop(kept);
        assert!(rig.reactor.part(stays).is_some() && rig.reactor.part(second).is_some());
        assert!(rig.ends.borrow().is_empty(), "who takes a flow out knows its end");
    });
}

#[test]
fn a_reactor_that_goes_leaves_no_owner_behind() {
    run(async {
        let rig = Rig::new();
        let peers: Vec<_> = (0..3).map(|n| rig.carry(n, Onlookers::default()).1).collect();
        let Rig { reactor, ends } = rig;
        drop(reactor);
        assert_eq!(ends.borrow().values().copied().collect::<Vec<_>>(), [End::BrokenOff; 3]);
        for mut peer in peers {
            assert!(was_reset(&read_all(&mut peer.device).await.1));
        }
    });
}

#[test]
fn the_parts_of_a_sweep_are_all_flows_once() {
    run(async {
        let rig = Rig::new();
        let mut flows: Vec<_> = (0..20).map(|n| rig.carry(n, Onlookers::default())).collect();
        for (key, _) in flows.drain(4..9) {
            rig.reactor.part(key);
        }
        flows.push(rig.carry(30, Onlookers::default()));
        let parts: Vec<_> = (0..6).map(|part| rig.numbers(part, 6)).collect();
        assert!(parts.iter().all(|part| part.len() <= 4), "{parts:?}");
        let mut all = parts.concat();
        all.sort_unstable();
        let expected: Vec<_> = (0..4).chain(9..20).chain([30]).collect();
        assert_eq!(all, expected);
        assert_eq!(rig.numbers(0, 1).len(), expected.len());
    });
}

#[test]
fn what_is_over_is_not_waited_for() {
    run(async {
        let rig = Rig::new();
        let (_, mut half) = rig.carry(0, Onlookers::default());
        rig.while_moving(async {
            half.device.shutdown().await.unwrap();
            assert_eq!(read_all(&mut half.endpoint).await.0, b"");
            for number in 1..2_000 {
                let (_, mut peers) = rig.carry(number, Onlookers::default());
                peers.device.shutdown().await.unwrap();
                peers.endpoint.shutdown().await.unwrap();
                assert_eq!(read_all(&mut peers.device).await.0, b"");
            }
        })
        .await;
        assert_eq!((rig.ends.borrow().len(), rig.end(0)), (1_999, None));
        assert!(rig.reactor.standing() < 1_000, "{}", rig.reactor.standing());
    });
}
