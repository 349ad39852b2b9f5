//! Processing: in order within a subject, in parallel across lanes, each event exactly once in effect.
//!
//! A worker claims lanes ([`lanes`] says which have something) under a lease with a fence, reads their next pending marks, a fair
//! share of each tenant's, works out what each event means ([`plan`]: no database), and applies a tenant's batch in one
//! transaction ([`apply`]): the lanes' fences are asserted, the marks removed and counted, effects, timeline and stream written.
//! Where a batch fails, its events are tried one by one. One that fails waits for its retry apart, with its subject's later events
//! parked behind it; what can't succeed is dead.

mod apply;
mod chatwoot;
mod failures;
mod jitsi;
mod lanes;
mod matrix;
mod plan;
mod store;
#[cfg(all(test, feature = "demo"))]
mod tests;
mod worker;

pub use lanes::Lanes;
pub use worker::Processor;
