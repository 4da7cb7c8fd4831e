//! The box itself: rights, rules, routing, and what the kernel is set to.

use std::fs;
use std::path::Path;

use super::Chart;
use crate::config::Site;
use crate::intercept::nft::{self, Verified};
use crate::intercept::{self, Plan};
use crate::policy::Policy;

pub(super) async fn check(site: &Site, policy: &Policy, chart: &mut Chart<'_>) {
    rights(chart);
    rules(site, policy, chart).await;
    descriptors(chart);
    settings(site, chart);
}

fn rights(chart: &mut Chart<'_>) {
    let effective = fs::read_to_string("/proc/self/status").ok().and_then(|status| {
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(line.trim(), 16).ok()
    });
    if effective.is_some_and(|set| set & (1 << CAP_NET_ADMIN) != 0) {
        chart.ok("rights", "doctor", "It may look at rules and leave by the tunnels.");
    } else {
        let sentence = "It lacks CAP_NET_ADMIN: what follows may fail for that alone.";
        chart.failed("rights", "doctor", sentence, "Run `sudo sluicegate doctor`.");
    }
}

async fn rules(site: &Site, policy: &Policy, chart: &mut Chart<'_>) {
    let plan = Plan::new(site, policy.ports());
    let (check, table) = ("rules", "inet sluicegate");
    match intercept::blocking(move || nft::verify(&plan)).await {
        Ok(Verified::Same) => chart.ok(check, table, "The kernel has the gate's rules."),
        Ok(Verified::Absent) => chart.failed(
            check,
            table,
            "The kernel has none of the gate's rules: devices are not intercepted.",
            "Start the gate: `systemctl start sluicegate`.",
        ),
        Ok(Verified::Different(lines)) => {
            let first = lines.first().map(String::as_str).unwrap_or_default();
            let count = lines.len();
            let sentence = format!(
                "The kernel's rules are not those of this file: {count} lines differ, the first is `{first}`."
            );
            let remedy = "Reload the gate (`systemctl reload sluicegate`), or see \
                          `sluicegate nft verify`.";
            chart.failed(check, table, sentence, remedy);
        }
        Err(error) => {
            let remedy = "Install nftables, and run as root.";
            chart.failed(check, table, format!("The rules cannot be read: {error}."), remedy);
        }
    }
}

fn descriptors(chart: &mut Chart<'_>) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    match limit {
        Some(limit) if limit < FEW_DESCRIPTORS => chart.warning(
            "descriptors",
            "RLIMIT_NOFILE",
            format!("{limit} files may be open, enough for {} flows.", limit / 2),
            "Raise LimitNOFILE of the service.",
        ),
        Some(limit) => {
            chart.ok("descriptors", "RLIMIT_NOFILE", format!("{limit} files may be open."));
        }
        None => chart.ok("descriptors", "RLIMIT_NOFILE", "Any number of files may be open."),
    }
}

/// Settings that break flows, or the box under load.
pub(super) fn settings(site: &Site, chart: &mut Chart<'_>) {
    settings_under(Path::new("/proc/sys"), site, chart);
}

fn settings_under(root: &Path, site: &Site, chart: &mut Chart<'_>) {
    let read = |path: &str| fs::read_to_string(root.join(path)).ok();
    let mut wrong = 0;
    for name in site.devices.interfaces.iter().chain(&site.tunnel.interfaces) {
        // The larger of the two counts (ip-sysctl.rst, rp_filter).
        let of = |name: &str| {
            read(&format!("net/ipv4/conf/{name}/rp_filter"))
                .and_then(|text| text.trim().parse::<u8>().ok())
        };
        if of("all").max(of(name.as_str())) == Some(1) {
            wrong += 1;
            chart.warning(
                "settings",
                name,
                format!("net.ipv4.conf.{name}.rp_filter is strict: answers that come in by the other tunnel are dropped."),
                format!("Set net.ipv4.conf.{name}.rp_filter and net.ipv4.conf.all.rp_filter to 2."),
            );
        }
    }
    for (setting, least, why) in LEAST {
        let place = setting.replace('.', "/");
        let value = read(&place).and_then(|text| text.trim().parse::<u64>().ok());
        if let Some(value) = value.filter(|value| value < least) {
            wrong += 1;
            chart.warning(
                "settings",
                setting,
                format!("{setting} is {value}: {why}."),
                "Install the profile 60-sluicegate.conf in /etc/sysctl.d, and run `sysctl --system`.",
            );
        }
    }
    if wrong == 0 {
        chart.ok("settings", "sysctl", "The kernel's settings fit.");
    }
}

/// capability.h.
const CAP_NET_ADMIN: u32 = 21;
/// Two a flow.
const FEW_DESCRIPTORS: u64 = 4_096;
/// Setting, least value, what happens below it.
const LEAST: &[(&str, u64, &str)] = &[
    ("net.core.somaxconn", 4_096, "connections are dropped when all devices return at once"),
    (
        "net.ipv4.neigh.default.gc_thresh3",
        1_024,
        "the kernel forgets devices when there are more of them",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Finding, State};

    fn examined(files: &[(&str, &str)]) -> Vec<Finding> {
        let root = tempfile::tempdir().expect("a directory");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("it has one")).expect("a directory");
            fs::write(path, text).expect("a file");
        }
        let site = crate::config::parse(SITE, "site.toml").expect("a site").site;
        let mut chart = Chart { findings: Vec::new(), tell: &mut |_| {} };
        settings_under(root.path(), &site, &mut chart);
        chart.findings
    }

    #[test]
    fn settings_that_fit_are_one_line() {
        let found = examined(&[
            ("net/ipv4/conf/all/rp_filter", "2\n"),
            ("net/ipv4/conf/xfrm101/rp_filter", "1\n"),
            ("net/core/somaxconn", "65535\n"),
        ]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found.iter().all(|finding| finding.state == State::Ok));
    }

    #[test]
    fn each_setting_that_does_not_is_named() {
        let found = examined(&[
            ("net/ipv4/conf/all/rp_filter", "0\n"),
            ("net/ipv4/conf/xfrm101/rp_filter", "1\n"),
            ("net/ipv4/conf/lan0/rp_filter", "0\n"),
            ("net/core/somaxconn", "128\n"),
        ]);
        let subjects: Vec<_> = found.iter().map(|finding| finding.subject.as_str()).collect();
        assert_eq!(subjects, ["xfrm101", "net.core.somaxconn"]);
        assert!(found.iter().all(|finding| finding.state == State::Warning));
    }

    const SITE: &str = r#"
[site]
name = "augsburg-2"
region = "eu-central-1"
[devices]
interfaces = ["lan0"]
networks = ["10.10.0.0/16"]
[tunnel]
interfaces = ["xfrm101"]
[resolver]
inbound = ["10.20.0.53"]
[vpc]
networks = ["10.20.0.0/16"]
[endpoint.kms]
"#;
}
