//! An uplink that swallows everything while every device publishes.

use std::time::Duration;

use serde_json::Value;
use sluicegate::lab::device::{tcp_connect, tls10_hello};
use sluicegate::lab::services::{IOT_DATA, SPARE_OCTET};
use sluicegate::lab::{Daemon, Lab, inside};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::gate::*;

const FLOWS: usize = 200;
/// What each device has to say, in KiB: far more than sockets take by themselves.
const PUBLISHED: usize = 4 * 1024;
/// The largest buffer of a socket in the box, in bytes.
const MOST_BUFFERED: u64 = 256 * 1024;
/// In KiB, of the daemon: a read in progress for each flow, and the allocator's slack.
const MOST_GROWTH: u64 = 24 * 1024;

async fn serve(at: std::net::SocketAddr) {
    let listener = TcpListener::bind(at).await.unwrap();
    tokio::task::spawn_local(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::task::spawn_local(async move {
                let mut buffer = vec![0; 64 * 1024];
                let mut came = 0;
                stream.write_all(b"!").await?;
                while let size @ 1.. = stream.read(&mut buffer).await? {
                    came += size;
                }
                stream.write_all(&came.to_be_bytes()).await
            });
        }
    });
}

async fn open() -> TcpStream {
    let mut stream = tcp_connect(dialled(IOT, 443), SOON).await.unwrap();
    stream.write_all(&tls10_hello(IOT_DATA)).await.unwrap();
    stream.read_exact(&mut [0]).await.unwrap();
    stream
}

/// In KiB.
fn resident(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Bytes in the box's TCP sockets, as `ss` lists them: received, and to be sent.
fn queued(lab: &Lab) -> u64 {
    let sockets = run(lab.edge(), "ss", &["-Htn", "state", "established"]);
    let words = sockets.lines().flat_map(|line| line.split_whitespace().take(2));
    words.map(|word| word.parse::<u64>().unwrap()).sum()
}

#[test]
fn a_black_hole_holds_devices_back_and_costs_no_memory() {
    inside::test("uplink::a_black_hole_holds_devices_back_and_costs_no_memory", || {
        let lab = lab();
        // What one flow may hold is the kernel's business, and the site's: [`MOST_BUFFERED`] a leg.
        for buffer in ["tcp_rmem", "tcp_wmem"] {
            let set = format!("echo 4096 16384 {MOST_BUFFERED} > /proc/sys/net/ipv4/{buffer}");
            run(lab.edge(), "sh", &["-c", &set]);
        }
        let at = private(0, SPARE_OCTET, 443);
        lab.vpc().run(async move || serve(at).await);
        let std::net::IpAddr::V4(address) = at.ip() else { unreachable!("the VPC has IPv4 only") };
        lab.zone().set_private(IOT_DATA, &[address]);
        let limits = "\n[limits]\ndevice-new-flows = 1000\ndevice-hellos = 1000\n";
        let daemon = start_with(&lab, &(lab.daemon_config() + limits));
        let flows = lab.device(0).run(async || {
            let mut flows = Vec::new();
            for _ in 0..FLOWS {
                flows.push(open().await);
            }
            flows
        });
        let before = resident(&daemon);
        lab.tunnel_blackhole(1).unwrap();
        lab.tunnel_blackhole(2).unwrap();
        let publishing = lab.device(0).spawn(async move || {
            let mut publishing = JoinSet::new();
            for mut stream in flows {
                publishing.spawn_local(async move {
                    let piece = vec![7; 1024];
                    for _ in 0..PUBLISHED {
                        stream.write_all(&piece).await?;
                    }
                    stream.shutdown().await?;
                    let mut came = [0; 8];
                    stream.read_exact(&mut came).await?;
                    Ok::<_, std::io::Error>(u64::from_be_bytes(came))
                });
            }
            publishing.join_all().await
        });
        // It has come to a stand when nothing moves any more.
        let stalled = until("a standstill", || {
            let now = queued(&lab);
            std::thread::sleep(Duration::from_millis(500));
            (now > 0 && queued(&lab) == now).then_some(now)
        });
        let grown = resident(&daemon).saturating_sub(before);
        println!("{grown} KiB in the daemon, {stalled} bytes in the kernel");
        assert!(grown < MOST_GROWTH, "the daemon grew by {grown} KiB");
        let most = u64::try_from(FLOWS).unwrap() * 2 * MOST_BUFFERED;
        assert!(stalled <= most, "{stalled} bytes wait in the box");
        lab.tunnel_heal(1).unwrap();
        lab.tunnel_heal(2).unwrap();
        let came = publishing.join();
        let expected = u64::try_from(PUBLISHED * 1024).unwrap();
        for outcome in came {
            let bytes = outcome.expect("it goes on where it stood");
            assert!(bytes > expected, "{bytes}: everything, behind the hello");
        }
        until_status(&daemon, "every end", |status| status["flows"]["live"] == 0);
        let records = assert_log(&lab);
        let lost = |record: &Value| record["activity_id"] == 3;
        assert!(!records.iter().any(lost), "no flow was reset");
    });
}
