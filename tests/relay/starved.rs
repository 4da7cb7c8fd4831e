//! A kernel that gives no pipes: flows are copied, that is counted, and splicing comes back with the
//! pipes.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sluicegate::lab::inside;
use sluicegate::relay::{Engine, FlowBytes, RelayEnd, RelayPool};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::plan::stock;
use crate::ride::{Ride, relay};
use crate::sockets::{Pairs, Shape, descriptors, register, runtime};

#[test]
fn a_user_who_has_too_many_pipe_pages_gets_copies() {
    // A thread of its own, for it becomes another user's: with root's privileges there is no limit,
    // and whatever else this user runs now must not run out of pages.
    let starving = std::thread::spawn(|| {
        let somebody = rustix::process::Uid::from_raw(64_321);
        // Refused to who is not root, and then this thread is unprivileged already.
        let _ = rustix::thread::set_thread_res_uid(somebody, somebody, somebody);
        starve_and_recover(hoard_pipe_pages);
    });
    starving.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

#[test]
fn without_descriptors_for_pipes_everything_is_copied() {
    // A process of its own, for the limit is the process's.
    inside::test("starved::without_descriptors_for_pipes_everything_is_copied", || {
        starve_and_recover(hoard_descriptors);
    });
}

/// Relays while the kernel refuses pipes, and again when `hoard` is dropped.
fn starve_and_recover<T>(hoard: impl Fn() -> T) {
    runtime().block_on(async {
        let mut pairs = Pairs::new();
        let sent = stock(5);
        let sent = &sent[..SIZE];
        for engine in [Engine::Adaptive, Engine::Splice] {
            let pool = RelayPool::new(engine, 8);
            let before = descriptors().unwrap();
            let flow = Flow::connect(&mut pairs, &pool);
            let hoarded = hoard();
            let (copied, spliced) = flow.carry(sent).await;
            drop(hoarded);
            assert_eq!((copied, spliced), (SIZE as u64, 0), "{engine:?}");
            let starved = pool.counters();
            assert_eq!((starved.pipes_created, starved.pipes_in_use), (0, 0), "{engine:?}");
            assert!(starved.pipe_fallbacks > 0, "{engine:?}");
            // What the flow had is closed, and nothing else was opened.
            assert_eq!(descriptors().unwrap(), before, "{engine:?}");
            // The kernel is not asked for each read, but it is asked again.
            for _ in 0..100 {
                let (_, spliced) = Flow::connect(&mut pairs, &pool).carry(sent).await;
                if spliced > 0 {
                    break;
                }
            }
            assert!(pool.counters().spliced > 0, "{engine:?}: {:?}", pool.counters());
        }
    });
}

/// A flow that is connected already, so that it needs no descriptor any more but for pipes.
struct Flow {
    device: tokio::net::TcpStream,
    relaying: Ride,
    bytes: Rc<FlowBytes>,
    endpoint: tokio::net::TcpStream,
}

impl Flow {
    fn connect(pairs: &mut Pairs, pool: &Rc<RelayPool>) -> Self {
        let (device, gate_device) = pairs.pair(Shape::default());
        let (endpoint, gate_endpoint) = pairs.pair(Shape::default());
        let [device, endpoint] = [device, endpoint].map(register);
        let bytes = Rc::default();
        let relaying = relay(&gate_device, &gate_endpoint, pool, &bytes);
        Self { device, relaying, bytes, endpoint }
    }

    /// Sends bytes from device to endpoint; returns how many were copied and spliced.
    async fn carry(mut self, sent: &[u8]) -> (u64, u64) {
        let mut got = Vec::new();
        let (end, ()) = tokio::join!(self.relaying, async {
            let (reader, writer) = (&mut self.endpoint, &mut self.device);
            let (_, read) = tokio::join!(
                async {
                    writer.write_all(sent).await.unwrap();
                    writer.shutdown().await.unwrap();
                },
                reader.read_to_end(&mut got),
            );
            read.unwrap();
            self.endpoint.shutdown().await.unwrap();
        });
        assert_eq!(end, RelayEnd::ClosedByDevice);
        assert!(got == sent, "wrong bytes");
        (self.bytes.up.copied.get(), self.bytes.up.spliced.get())
    }
}

/// Pipes until the kernel gives only such of two pages, and lets none grow (pipe(7)).
fn hoard_pipe_pages() -> Vec<(OwnedFd, OwnedFd)> {
    let mut hoard = Vec::new();
    for _ in 0..4_000 {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let grown = fcntl_setpipe_size(&writer, 1 << 20);
        let size = fcntl_getpipe_size(&writer).unwrap();
        hoard.push((reader, writer));
        if size <= 8192 {
            assert_eq!(grown, Err(Errno::PERM));
            return hoard;
        }
    }
    panic!("no end of pipe pages; is fs.pipe-user-pages-soft 0, or this user privileged?");
}

/// Descriptors until there are no more.
fn hoard_descriptors() -> Hoard {
    let before = getrlimit(Resource::Nofile);
    let open = u64::try_from(descriptors().unwrap()).unwrap();
    setrlimit(Resource::Nofile, Rlimit { current: Some(open + 8), ..before }).unwrap();
    let mut files = Vec::new();
    let full = loop {
        match File::open("/dev/null") {
            Ok(file) => files.push(file),
            Err(error) => break error,
        }
    };
    assert_eq!(full.raw_os_error(), Some(Errno::MFILE.raw_os_error()));
    Hoard { before, files }
}

struct Hoard {
    before: Rlimit,
    files: Vec<File>,
}

impl Drop for Hoard {
    fn drop(&mut self) {
        self.files.clear();
        setrlimit(Resource::Nofile, self.before).unwrap();
    }
}

const SIZE: usize = 3 << 20;
