//! What stands behind the addresses: each network interface of each endpoint, asked as a device
//! would ask it.

mod tls;

pub(crate) use tls::read_roots;
pub use tls::{Call, Certificate, Examiner, Fault, Offer, RootsError, Shown, Trouble, Until};
