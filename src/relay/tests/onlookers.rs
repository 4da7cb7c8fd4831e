//! An onlooker sees the stream from its first byte, changes nothing, and leaves nothing behind.

use std::cell::{Cell, RefCell};

use super::ride::Ride;
use super::*;
use crate::relay::Attention;

/// What an onlooker has seen; its other owner is the onlooker itself.
type Notes = Rc<RefCell<Vec<u8>>>;

impl Ride {
    /// Lets onlookers see the first bytes.
    fn shown_to(mut self, up: Option<Box<Onlooker>>, down: Option<Box<Onlooker>>) -> Self {
        if let Some((_, onlookers, _)) = &mut self.begins {
            *onlookers = Onlookers { up, down };
        }
        self
    }
}

/// An onlooker that goes once it has seen `enough` bytes.
fn onlooker(enough: usize) -> (Box<Onlooker>, Notes) {
    let notes = Notes::default();
    let seen = Rc::clone(&notes);
    let onlooker = Onlooker::new(move |bytes| {
        let mut seen = seen.borrow_mut();
        seen.extend_from_slice(bytes);
        if seen.len() < enough { Attention::Stays } else { Attention::Goes }
    });
    (onlooker, notes)
}

#[test]
fn it_sees_each_direction_from_its_first_byte_and_is_dropped() {
    for engine in ENGINES {
        run(async {
            let pool = RelayPool::new(engine, 8);
            let (gate, mut peers) = rig(&pool);
            let ((up, up_seen), (down, down_seen)) = (onlooker(3_000), onlooker(5));
            let (request, answer) = (pattern(40_000, 1), pattern(50_000, 2));
            let moving = async {
                let moving = relay(&gate.device, &gate.endpoint, &gate.pool, &gate.bytes);
                moving.shown_to(Some(up), Some(down)).await
            };
            let (end, ()) = tokio::join!(moving, async {
                for size in [1, 2, 37] {
                    peers.device.write_all(&request[..size]).await.unwrap();
                    let mut got = vec![0; size];
                    peers.endpoint.read_exact(&mut got).await.unwrap();
                    assert!(got == request[..size]);
                }
                assert_eq!(Rc::strong_count(&up_seen), 2, "it has not seen enough yet");
                peers.device.write_all(&request).await.unwrap();
                let mut got = vec![0; request.len()];
                peers.endpoint.read_exact(&mut got).await.unwrap();
                peers.endpoint.write_all(&answer).await.unwrap();
                let mut back = vec![0; answer.len()];
                peers.device.read_exact(&mut back).await.unwrap();
                assert!(got == request && back == answer);
                // The flow is open still, but nobody looks any more.
                assert_eq!((Rc::strong_count(&up_seen), Rc::strong_count(&down_seen)), (1, 1));
                peers.device.shutdown().await.unwrap();
                peers.endpoint.shutdown().await.unwrap();
            });
            assert_eq!(end, RelayEnd::ClosedByDevice);
            let expected = [&request[..1], &request[..2], &request[..37], &request].concat();
            assert!(up_seen.borrow().len() >= 3_000, "{engine:?}");
            assert!(expected.starts_with(&up_seen.borrow()), "{engine:?}");
            assert!(answer.starts_with(&down_seen.borrow()) && !down_seen.borrow().is_empty());
        });
    }
}

#[test]
fn a_direction_is_spliced_once_nobody_looks() {
    run(async {
        let pool = RelayPool::new(Engine::Splice, 8);
        let (gate, mut peers) = rig(&pool);
        let (up, _) = onlooker(100);
        let (greeting, sent) = (pattern(100, 3), pattern(1 << 20, 4));
        let moving = async {
            let moving = relay(&gate.device, &gate.endpoint, &gate.pool, &gate.bytes);
            moving.shown_to(Some(up), None).await
        };
        let (end, ()) = tokio::join!(moving, async {
            peers.device.write_all(&greeting).await.unwrap();
            let mut got = [0; 100];
            peers.endpoint.read_exact(&mut got).await.unwrap();
            assert!(got[..] == greeting);
            let (mut near_in, mut near_out) = peers.device.split();
            let ((), ()) = tokio::join!(
                async {
                    near_out.write_all(&sent).await.unwrap();
                    near_out.shutdown().await.unwrap();
                },
                async {
                    let (got, _) = read_all(&mut peers.endpoint).await;
                    assert!(got == sent);
                    peers.endpoint.write_all(b"thanks").await.unwrap();
                    peers.endpoint.shutdown().await.unwrap();
                },
            );
            let mut got = Vec::new();
            near_in.read_to_end(&mut got).await.unwrap();
            assert_eq!(got, b"thanks");
        });
        assert_eq!(end, RelayEnd::ClosedByDevice);
        let (up, down) = (&gate.bytes.up, &gate.bytes.down);
        assert_eq!((up.copied.get(), up.spliced.get()), (100, 1 << 20));
        assert_eq!((down.copied.get(), down.spliced.get()), (0, 6));
    });
}

#[test]
fn bytes_are_seen_also_when_they_cannot_be_delivered() {
    // The last word of a device whose endpoint is gone may be the one that explains it.
    run(async {
        let (gate, mut peers) = rig(&RelayPool::new(Engine::Adaptive, 8));
        let (up, seen) = onlooker(100);
        peers.device.write_all(b"last word").await.unwrap();
        reset(peers.endpoint);
        // Consumes the error, so that only writing finds out.
        let left = Cell::new(gate.endpoint.take_error().unwrap());
        let moving = relay(&gate.device, &gate.endpoint, &gate.pool, &gate.bytes);
        let end = moving.shown_to(Some(up), None).await;
        assert!(left.take().is_some());
        assert_eq!(end, RelayEnd::ResetByEndpoint);
        assert_eq!(*seen.borrow(), b"last word");
    });
}
