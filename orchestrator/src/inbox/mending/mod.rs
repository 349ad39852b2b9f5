//! What people do about what was received: have it processed again ([`replay`], [`replay_all`]), or give it up with a reason
//! ([`discard`]). The caller commits, and then calls [`wake`].

mod routes;
mod service;
mod store;

pub use routes::problem;
pub use service::{
    Discarded, InboxError, MAX_REASON, MOST_REPLAYED, ReplayAll, Replayed, discard, replay, replay_all, wake,
};

pub(super) use routes::router;
