//! What every Chancery connector shares.
//!
//! A connector is a crate for one tool. It knows the tool's API and nothing of Chancery; what it has in common
//! with its siblings is here:
//!
//! - [`HttpClient`]: one way to call a server, with deadlines, no redirects, a cap on the answer and no secrets in errors;
//! - [`ConnectorError`]: errors that say what the caller can do about them;
//! - [`Clock`] and [`IdGenerator`]: time, ids and randomness come in from outside, so that tests are exact;
//! - [`TraceContext`]: the trace that a call belongs to;
//! - `egress` (feature `egress`): calls to addresses that somebody else chose;
//! - `fake` (feature `fake`): what the doubles of the tools share.

mod clock;
mod error;
mod http;
mod ids;
pub mod trace;

#[cfg(feature = "egress")]
pub mod egress;
#[cfg(feature = "fake")]
pub mod fake;

pub use clock::{Clock, MockClock, SharedClock, SystemClock};
pub use error::{ConnectorError, ErrorKind};
pub use http::{HttpClient, HttpClientBuilder};
pub use ids::{IdGenerator, RandomIds, SharedIds};
pub use trace::TraceContext;
