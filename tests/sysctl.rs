//! The sysctl profile of the appliance: every key is one of the kernel's, with a value and a reason.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test, a panic is the report"
)]

use std::path::Path;

/// A line of the profile: whether it may be absent, its key, its values.
struct Setting {
    optional: bool,
    key: String,
    values: Vec<u64>,
}

fn profile() -> (Vec<Setting>, String) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/appliance/sysctl/60-sluicegate.conf");
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let settings = lines.map(|line| {
        let (key, values) = line.split_once(" = ").unwrap_or_else(|| panic!("{line}"));
        let values = values.split(' ').map(|value| value.parse().unwrap()).collect();
        let optional = key.starts_with('-');
        Setting { optional, key: key.trim_start_matches('-').to_owned(), values }
    });
    (settings.collect(), text.clone())
}

fn values(setting: &Setting) -> Option<Vec<u64>> {
    let path = Path::new("/proc/sys").join(setting.key.replace('.', "/"));
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.split_ascii_whitespace().map(|value| value.parse().unwrap_or(0)).collect())
}

#[test]
fn every_key_is_the_kernels_and_has_as_many_values() {
    let (settings, _) = profile();
    assert!(settings.len() > 15);
    for setting in &settings {
        match values(setting) {
            // An empty list of ports has no value yet.
            Some(kernel) if setting.key.ends_with("reserved_ports") => assert!(kernel.len() <= 2),
            Some(kernel) => assert_eq!(kernel.len(), setting.values.len(), "{}", setting.key),
            None => assert!(setting.optional, "{} is not a key of this kernel", setting.key),
        }
    }
}

#[test]
fn every_value_has_its_reason_and_none_is_set_twice() {
    let (settings, text) = profile();
    let mut keys: Vec<_> = settings.iter().map(|setting| &setting.key).collect();
    keys.sort();
    assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "{keys:?}");
    // Settings that stand together share the reason above the first of them.
    for block in text.split("\n\n") {
        let first = block.lines().find(|line| !line.starts_with("# ---"));
        assert!(first.is_none_or(|line| line.starts_with('#')), "no reason for {first:?}");
    }
}

#[test]
fn values_fit_each_other() {
    let (settings, _) = profile();
    let of = |key: &str| {
        let found = settings.iter().find(|setting| setting.key == key);
        found.unwrap_or_else(|| panic!("{key} is missing")).values.clone()
    };
    for rising in ["net.ipv4.tcp_mem", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"] {
        assert!(of(rising).is_sorted(), "{rising}");
    }
    for family in ["ipv4", "ipv6"] {
        let thresholds = [1, 2, 3].map(|n| of(&format!("net.{family}.neigh.default.gc_thresh{n}")));
        assert!(thresholds.is_sorted(), "{thresholds:?}");
    }
    let ports = of("net.ipv4.ip_local_port_range");
    assert!(ports[1] - ports[0] + 1 > 50_000, "{ports:?}");
    let listener = of("net.ipv4.ip_local_reserved_ports");
    assert!((ports[0]..=ports[1]).contains(&listener[0]), "it need not be reserved");
    // The program asks for this backlog, and the kernel clamps it.
    assert_eq!(of("net.core.somaxconn"), [65_535]);
    // In pages: no more than a quarter of 2 GiB.
    assert!(of("net.ipv4.tcp_mem")[2] * 4_096 <= 512 << 20);
}
