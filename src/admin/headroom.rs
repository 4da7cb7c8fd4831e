//! How far the box is from its limits.
//!
//! Every limit that devices can run into, with how much of it is used and the remedy before it is
//! reached: a limit that nobody knows of looks like a broken network. What a kernel does not show
//! (outside of the first network namespace, or without a module) is left out.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::report::Problem;

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Headroom {
    /// Which, for scripts.
    pub what: &'static str,
    /// How much of it is used.
    pub used: u64,
    /// The limit.
    pub most: u64,
}

/// What the data threads know of.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    /// Live flows, and how many there may be.
    pub(super) flows: (u64, u64),
    /// Connections to the address and port that has most of them.
    pub(super) busiest: u64,
    /// Pipes that flows hold, and how many there may be.
    pub(super) pipes: (u64, u64),
}

/// Everything that can be read, under the root of the file system.
pub(super) fn read(root: &Path, known: Known) -> Vec<Headroom> {
    let text = |path: &str| fs::read_to_string(root.join(path)).ok();
    let number = |path: &str, place: usize| {
        text(path)?.split_ascii_whitespace().nth(place)?.parse::<u64>().ok()
    };
    let descriptors = || {
        let used = descriptors(&root.join("proc/self/fd"))?;
        Some((used, limit(&text("proc/self/limits")?, "Max open files")?))
    };
    let ports = || {
        let range = "proc/sys/net/ipv4/ip_local_port_range";
        let ports = number(range, 1)?.checked_sub(number(range, 0)?)?.checked_add(1)?;
        Some((known.busiest, ports))
    };
    let conntrack = || {
        let used = number("proc/sys/net/netfilter/nf_conntrack_count", 0)?;
        Some((used, number("proc/sys/net/netfilter/nf_conntrack_max", 0)?))
    };
    let memory = || {
        let used = tcp_pages(&text("proc/net/sockstat")?)?;
        Some((used, number("proc/sys/net/ipv4/tcp_mem", 2)?))
    };
    let neighbours = || {
        let used = neighbours(&text("proc/net/stat/arp_cache")?)?;
        Some((used, number("proc/sys/net/ipv4/neigh/default/gc_thresh3", 0)?))
    };
    let limits = [
        ("flows", Some(known.flows)),
        ("descriptors", descriptors()),
        ("ports", ports()),
        ("conntrack", conntrack()),
        ("tcp_memory", memory()),
        ("neighbours", neighbours()),
        ("pipes", Some(known.pipes)),
    ];
    let shown = |(what, limit): (_, Option<(u64, u64)>)| {
        limit.map(|(used, most)| Headroom { what, used, most })
    };
    limits.into_iter().filter_map(shown).collect()
}

/// How many connections the kernel has dropped so far because a listener's queue was full.
pub(super) fn listen_overflows(netstat: &str) -> Option<u64> {
    let mut lines = netstat.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let place = names.split_ascii_whitespace().position(|name| name == "ListenOverflows")?;
    values.split_ascii_whitespace().nth(place)?.parse().ok()
}

impl Headroom {
    /// What is wrong, when little is left. Pipes may run out: what they would carry is copied.
    pub(super) fn problem(&self) -> Option<Problem> {
        let scarce = self.used.saturating_mul(100) > self.most.saturating_mul(SCARCE);
        if !scarce || self.what == "pipes" {
            return None;
        }
        let (of_what, remedy) = match self.what {
            "flows" => ("flows that the box may have", "Raise [limits] flows or LimitNOFILE."),
            "descriptors" => ("file descriptors", "Raise LimitNOFILE of the service."),
            "ports" => (
                "source ports to one address of an endpoint",
                "Widen net.ipv4.ip_local_port_range, or give the endpoint more subnets.",
            ),
            "conntrack" => {
                ("entries of connection tracking", "Raise net.netfilter.nf_conntrack_max.")
            }
            "tcp_memory" => ("pages of TCP memory", "Raise net.ipv4.tcp_mem, or add memory."),
            _ => ("neighbours", "Raise net.ipv4.neigh.default.gc_thresh3."),
        };
        Some(Problem {
            code: format!("headroom_{}", self.what),
            sentence: format!("{} of {} {of_what} are used.", self.used, self.most),
            remedy: remedy.to_owned(),
        })
    }
}

/// Since Linux 6.2 the directory's size is the number of its entries.
fn descriptors(directory: &Path) -> Option<u64> {
    match fs::metadata(directory).ok()?.len() {
        0 => u64::try_from(fs::read_dir(directory).ok()?.count()).ok(),
        open => Some(open),
    }
}

/// The soft limit in `/proc/PID/limits`; `unlimited` is none.
fn limit(limits: &str, name: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// `TCP: inuse 5 orphan 0 tw 2 alloc 9 mem 3` of `/proc/net/sockstat`: the last, in pages.
fn tcp_pages(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    line.split_ascii_whitespace().skip_while(|word| *word != "mem").nth(1)?.parse().ok()
}

/// The first column of `/proc/net/stat/arp_cache`, in hex, the same for every CPU.
fn neighbours(stat: &str) -> Option<u64> {
    let first = stat.lines().nth(1)?.split_ascii_whitespace().next()?;
    u64::from_str_radix(first, 16).ok()
}

/// Per cent of a limit above which it is a problem.
const SCARCE: u64 = 80;

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a directory");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("it has one")).expect("a directory");
            fs::write(path, text).expect("a file");
        }
        root
    }

    fn item(what: &'static str, used: u64, most: u64) -> Headroom {
        Headroom { what, used, most }
    }

    #[test]
    fn every_limit_is_read_and_told_when_it_is_near() {
        let root = kernel(&[
            ("proc/self/limits", "Limit   Soft\nMax open files   10    4096   files\n"),
            ("proc/self/fd/0", ""),
            ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
            ("proc/sys/net/netfilter/nf_conntrack_count", "81\n"),
            ("proc/sys/net/netfilter/nf_conntrack_max", "100\n"),
            ("proc/net/sockstat", "sockets: used 3\nTCP: inuse 5 orphan 0 tw 2 alloc 9 mem 80\n"),
            ("proc/sys/net/ipv4/tcp_mem", "10\t50\t100\n"),
            ("proc/net/stat/arp_cache", "entries allocs\n0000000a 1\n0000000a 1\n"),
            ("proc/sys/net/ipv4/neigh/default/gc_thresh3", "1024\n"),
        ]);
        let known = Known { flows: (9, 10), busiest: 28_000, pipes: (128, 128) };
        let mut read = read(root.path(), known);
        read.retain(|item| item.what != "descriptors");
        let expected = [
            item("flows", 9, 10),
            item("ports", 28_000, 28_232),
            item("conntrack", 81, 100),
            item("tcp_memory", 80, 100),
            item("neighbours", 10, 1_024),
            item("pipes", 128, 128),
        ];
        assert_eq!(read, expected);
        let problems: Vec<_> = read.iter().filter_map(Headroom::problem).collect();
        let codes: Vec<_> = problems.iter().map(|problem| problem.code.as_str()).collect();
        assert_eq!(codes, ["headroom_flows", "headroom_ports", "headroom_conntrack"]);
        let sentence = &problems[1].sentence;
        assert_eq!(sentence, "28000 of 28232 source ports to one address of an endpoint are used.");
    }

    #[test]
    fn what_this_kernel_shows_is_understood() {
        let read = read(Path::new("/"), Known::default());
        let find = |what| read.iter().find(|item: &&Headroom| item.what == what);
        let descriptors = find("descriptors").expect("every kernel has them");
        assert!(descriptors.used > 2 && descriptors.most >= descriptors.used, "{descriptors:?}");
        assert!(find("ports").expect("and a range of ports").most > 1_000);
        let netstat = fs::read_to_string("/proc/net/netstat").expect("and statistics");
        assert!(listen_overflows(&netstat).is_some(), "{netstat}");
    }

    #[test]
    fn an_unknown_kernel_says_nothing_wrong() {
        let read = read(kernel(&[]).path(), Known::default());
        assert_eq!(read, [item("flows", 0, 0), item("pipes", 0, 0)]);
        assert!(read.iter().all(|item| item.problem().is_none()));
        assert_eq!(listen_overflows("TcpExt: A B\nTcpExt: 1 2\n"), None);
        assert_eq!(listen_overflows("TcpExt: A ListenOverflows\nTcpExt: 1 2\n"), Some(2));
    }
}
