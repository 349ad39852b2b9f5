//! The inbox: what external tools post is verified, stored, and only then answered with 200; then it is processed, in
//! order within a subject, each event exactly once in effect.
//!
//! Accepting: `routes` verifies by the scheme of the source ([`crate::sources`]); [`accepting`] stores the keys, raw events and pending
//! marks of the requests that arrive together in one statement, and answers. A repeat finds its key and changes nothing.
//! Processing: [`processing`] claims lanes (a subject is always in the same one) under a lease with a fence, runs the services'
//! handlers in a transaction of the sources' tenant, and removes the pending marks in the same transaction. What a handler
//! wants done elsewhere, it enqueues as a job.
//! [`upkeep`]: partitions are made ahead and dropped, old keys trimmed, depth and age measured.

mod accepting;
mod chatwoot;
mod errors;
mod model;
mod processing;
mod routes;
mod store;
mod upkeep;

pub use accepting::Intake;
pub use processing::{Lanes, Processor};
pub use routes::router;
pub use upkeep::Upkeep;
