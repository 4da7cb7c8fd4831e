//! Private resolution: a granted name to the addresses of its endpoint.
//!
//! Asks only the site's Route 53 Resolver inbound endpoints, through a tunnel; the system resolver
//! is never used. Only this module can make an [`Endpoint`], and only from a `Grant`, after checking
//! that every address lies in that endpoint's networks. The address that the device dialled plays no
//! part.

mod book;
mod guard;
mod runtime;
mod synthetic;
mod upstream;

pub use book::{Book, BookOptions, Explained, LastAnswer, NameStatus};
pub use guard::{Endpoint, Endpoints, Refused, check, zone_of};
pub use synthetic::Synthetic;
pub use upstream::{ResolverStatus, Upstream, UpstreamError};
