//! The two clocks of records: wall time for people, monotonic time for order and durations.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Milliseconds since 1970, UTC.
pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A time in ms since 1970 as RFC 3339, UTC.
pub(super) fn rfc3339(ms: u64) -> Option<String> {
    let at = UNIX_EPOCH.checked_add(Duration::from_millis(ms))?;
    OffsetDateTime::from(at).format(&Rfc3339).ok()
}

/// Whether the system says that the wall clock follows a time server: systemd-timesyncd(8) keeps a file
/// once it does.
pub(super) fn is_synchronised() -> bool {
    Path::new(TIMESYNC).exists()
}

/// Nanoseconds of `CLOCK_MONOTONIC` (clock_gettime(2)): steps of the wall clock do not move it.
pub(super) fn mono_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(now.tv_nsec).unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

const TIMESYNC: &str = "/run/systemd/timesync/synchronized";
