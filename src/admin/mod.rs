//! What people ask the running gate: the control socket and the status report.

mod control;
mod report;

pub use control::{AskError, Control, Question, ask};
pub use report::{Problem, Report, Reporter};
