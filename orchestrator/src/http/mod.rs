//! HTTP: every mount point, what all handlers share, and the one shape of an error.

pub mod etag;
pub mod extract;
mod handover;
pub mod idempotency;
pub mod middleware;
pub mod openapi;
pub mod page;
pub mod problem;
pub mod router;
pub mod server;
mod stalled;

pub use handover::Lasting;
pub use problem::{Problem, ProblemResult};
