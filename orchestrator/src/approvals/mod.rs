//! Approvals: somebody asks, somebody else decides, once.
//!
//! States: `pending` → `approved` | `rejected` (by an approver, never by who requested it) | `cancelled` (by who requested
//! it) | `expired` (by a job, on time). All but `pending` are final.
//!
//! Invariants, each held by the database too: one decision (the row's lock and its version), never one's own, one pending
//! approval of a conversation at a time; every change has its audit entry and its event in the same transaction.
//!
//! Surface: [`request`] for other slices, [`decide`] and [`cancel`]; `routes` (JSON), `jobs` (what follows from a change).

mod jobs;
mod model;
mod routes;
mod service;
mod step_up;
mod store;
#[cfg(test)]
mod tests;

pub use jobs::{handlers, in_words, unneeded_jobs};
pub use model::{
    Approval, ApprovalFilter, ApprovalStatus, MAX_COMMENT, MAX_DESCRIPTION, MAX_TITLE, NewApproval, Outcome,
    PendingCounts, Priority, Source, Verdict,
};
pub use routes::{problem, router};
pub use service::{
    ApprovalError, cancel, decide, find, has_another_decider, history_of_conversation, page, page_with_names,
    pending_of_conversation, request,
};
pub use store::{decided_lately, pending_among, pending_counts, titles, waiting_for};
