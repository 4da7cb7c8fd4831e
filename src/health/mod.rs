//! What stands behind the addresses: each network interface of each endpoint, asked as a device
//! would ask it.
//!
//! [`watch`] asks in turn, through the tunnel that new flows take; [`Health`] keeps what came of it,
//! for `status` and for flows, which try an interface that is down last. It refuses nothing: whether
//! a flow may go somewhere is decided by the policy and the address guard alone.

mod ailment;
mod ledger;
mod standing;
mod tls;
mod watch;
mod words;

pub use ailment::{Ailment, Weight};
pub use ledger::{Health, InterfaceStatus};
pub use standing::{Condition, Failure, Seen, Stage};
pub(crate) use tls::read_roots;
pub use tls::{Call, Certificate, Examiner, Fault, Offer, RootsError, Shown, Trouble, Until};
pub use watch::{Scene, Target, watch};
pub use words::{Subject, Words, place};
