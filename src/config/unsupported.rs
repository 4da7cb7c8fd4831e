//! What the file format has and this version does not do.
//!
//! A setting that is accepted and ignored would be a hole that nobody sees, so it is refused. When
//! one of them is built, its lines here go away.

use super::diagnostics::{Problem, Report, Span};
use super::sections::{Draft, ListenWord};

/// Reports every setting that would be ignored.
pub(super) fn check(draft: &Draft, report: &Report) {
    if let Some(listen) = &draft.service.listen
        && listen.value == ListenWord::Lan
    {
        refuse(&listen.span, "listen = \"lan\"", "write listen = \"off\"", report);
    }
}

fn refuse(span: &Span, setting: &str, instead: &str, report: &Report) {
    let what = format!("{setting} is not supported by this version");
    report.error(Problem::at(span.clone(), what).help(instead));
}
