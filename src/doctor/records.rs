//! The disk of the audit log.

use std::path::Path;

use super::Chart;
use crate::config::{OnFull, Site};

pub(super) fn check(site: &Site, chart: &mut Chart<'_>) {
    let directory = &site.audit.directory;
    let place = directory.display();
    let (check, quota) = ("audit", site.audit.retention.quota);
    let Some(existing) = directory.ancestors().find(|path| path.exists()) else { return };
    let space = match rustix::fs::statvfs(existing) {
        Ok(space) => space,
        Err(error) => {
            let sentence = format!("The audit log's disk cannot be looked at: {error}.");
            chart.failed(check, place, sentence, "Mount the disk, or correct audit.directory.");
            return;
        }
    };
    if space.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        let sentence = "The audit log's disk is mounted read-only: every flow is refused.";
        let remedy = "Mount it writable; look at `dmesg` for errors of the disk.";
        chart.failed(check, place, sentence, remedy);
        return;
    }
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let left = quota.saturating_sub(used(directory));
    let (free_mib, left_mib) = (free >> 20, left >> 20);
    if free < RESERVE {
        let happens = match site.audit.retention.on_full {
            OnFull::Refuse => "flows are refused when it is full",
            OnFull::Overwrite => "the oldest records are deleted when it is full",
        };
        let sentence = format!("The audit log's disk has {free_mib} MiB left; {happens}.");
        chart.failed(check, place, sentence, "Make room on the disk, or lower audit.quota.");
    } else if free < left {
        let sentence = format!(
            "The audit log may grow by {left_mib} MiB more, and the disk has {free_mib} MiB left."
        );
        chart.warning(check, place, sentence, "Lower audit.quota, or give it a larger disk.");
    } else {
        let sentence = format!("The disk has {free_mib} MiB left, and the quota {left_mib} MiB.");
        chart.ok(check, place, sentence);
    }
}

/// Bytes of the log's files.
fn used(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|of| of.len()).sum()
}

/// Below it the daemon takes the disk for full.
const RESERVE: u64 = 64 << 20;
