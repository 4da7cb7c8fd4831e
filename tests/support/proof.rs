//! The proof that a log is whole, as the security team has it.

use std::path::Path;

use sluicegate::audit::pinned_key;
use sluicegate::audit::verify::{Anchors, Report, Verdict, verify};

/// Nothing of the log is changed or missing, and nothing of it is torn.
pub(crate) fn assert_intact(directory: &Path) -> Report {
    let key = pinned_key(directory).expect("the log has a first key");
    let report = verify(directory, &key, &Anchors::default());
    assert_eq!((report.result, report.torn_bytes), (Verdict::Intact, 0), "{report:#?}");
    report
}

/// Nothing of the log is changed, and what is missing is what the box itself removed for want of room.
#[allow(dead_code, reason = "each test program uses its own part")]
pub(crate) fn assert_overwritten(directory: &Path) {
    let key = pinned_key(directory).expect("the log has a first key");
    let report = verify(directory, &key, &Anchors::default());
    assert_eq!(report.result, Verdict::Incomplete, "{report:#?}");
}
