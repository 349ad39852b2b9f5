//! What was received, for those with the right: lists, one event with its request, its attempts and its effects, and how
//! busy the sources are. The raw request is shown with its secrets masked ([`masking`]).

mod masking;
mod model;
mod routes;
mod service;
mod store;

pub use model::{
    Attempt, EventFilter, EventState, Header, InboxEvent, InboxEventDetail, ShownRequest, SourceActivity,
    Told,
};
pub use service::{activity, dead_count, detail, died_between, died_since, find, page, tenant_of};

pub(super) use routes::router;
pub(super) use service::{keys, require};
pub(super) use store::Key;
