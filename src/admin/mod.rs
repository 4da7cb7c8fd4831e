//! What people ask the running gate: the control socket, the status report, explanations, metrics and
//! the status page.

mod canary;
mod control;
mod explain;
mod headroom;
mod http;
mod lately;
mod metrics;
mod packets;
mod report;
mod subject;

pub use canary::CanaryStatus;
pub use control::{AskError, Control, Question, Tidings, ask};
pub use explain::{AskedFlow, Destination, Explainer, Explanation, explain_offline};
pub use headroom::Headroom;
pub(crate) use http::MOST_CONNECTIONS;
pub use http::{AdminError, AdminHttp, DoorsError, ListenerStatus, Renewal};
pub use lately::{BusyStatus, Lately, PlaceStatus, RefusalStatus};
pub use report::{Problem, Report, Reporter, Sources, ThreadsStatus};
