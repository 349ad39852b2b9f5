//! The inbox: what external tools post is verified, stored, and only then answered with 200; then it is processed, in
//! order within a subject, each event exactly once in effect.
//!
//! Accepting: `routes` verifies by the scheme of the source ([`crate::sources`]); [`accepting`] stores the keys, raw events and pending
//! marks of the requests that arrive together in one statement, and answers. A repeat finds its key and changes nothing.
//! Processing: [`processing`] claims lanes (a subject is always in the same one) under a lease with a fence, runs the services'
//! handlers in a transaction of the sources' tenant, and removes the pending marks in the same transaction. What a handler
//! wants done elsewhere, it enqueues as a job.
//! [`seeing`] shows what was received to those with the right, and [`mending`] lets them replay and discard it.
//! [`reconciling`] asks Chatwoot for what no webhook has told.
//! [`upkeep`]: partitions are made ahead and dropped, old keys trimmed, depth and age measured.

mod accepting;
mod chatwoot;
mod errors;
mod mending;
mod model;
mod processing;
mod reconciling;
mod routes;
mod seeing;
mod store;
mod upkeep;

use utoipa_axum::router::OpenApiRouter;

use crate::app::AppState;

pub use accepting::Intake;
pub use mending::{
    Discarded, InboxError, MAX_REASON, MOST_REPLAYED, ReplayAll, Replayed, discard, problem, replay,
    replay_all, wake,
};
pub use processing::{Lanes, Processor};
pub use reconciling::Reconciling;
pub use routes::{RECEIVING, described, receiving};
pub use seeing::{
    Attempt, EventFilter, EventState, Header, InboxEvent, InboxEventDetail, ShownRequest, SourceActivity,
    Told, activity, dead_count, detail, died_between, died_since, find, page, tenant_of,
};
pub use upkeep::Upkeep;

/// The inbox's operations, but for [`receiving`].
pub fn router() -> OpenApiRouter<AppState> {
    routes::router().merge(seeing::router()).merge(mending::router())
}
