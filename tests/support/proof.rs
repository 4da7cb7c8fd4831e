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
