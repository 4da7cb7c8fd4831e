//! What people ask the running gate: the control socket, the status report, explanations.

mod canary;
mod control;
mod explain;
mod headroom;
mod report;
mod subject;

pub use canary::CanaryStatus;
pub use control::{AskError, Control, Question, Tidings, ask};
pub use explain::{AskedFlow, Destination, Explainer, Explanation, explain_offline};
pub use headroom::Headroom;
pub use report::{Problem, Report, Reporter, Sources, ThreadsStatus};
