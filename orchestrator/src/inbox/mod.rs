//! The inbox: what external tools post is verified, stored, and only then answered with 200; then it is processed, in
//! order within a subject, each event exactly once in effect.
//!
//! Accepting: `routes` verifies by the source's scheme; `store::accept` writes the key, the raw event and the pending mark
//! in one statement. A repeat finds its key and changes nothing.
//! Processing: `processor` claims the first pending event of each subject under a lease with a fence, runs the service's
//! handler in a transaction of the source's tenant, and removes the pending mark in the same transaction. What a handler
//! wants done elsewhere, it enqueues as a job.

mod chatwoot;
mod model;
mod processor;
mod routes;
mod sources;
mod store;

pub use model::{Source, SourceSecrets};
pub use processor::Processor;
pub use routes::router;
pub use sources::{SourceCache, SourceError, register_source};
