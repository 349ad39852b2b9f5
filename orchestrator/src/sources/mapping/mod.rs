//! Whose a suite's source speaks for: each inbox of its account for a tenant, or the account as a whole for one.
//!
//! What comes from an inbox without a mapping is parked among the suite's webhooks, with that as its reason, and never guessed; once
//! there is a mapping, a replay hands it on.

mod model;
mod routes;
mod service;
mod store;

pub(super) use model::Mapped;
pub use model::Mapping;
pub use service::{map, mapped, mappings, tenant_paths, unmap};
pub(super) use store::of_source;

pub(super) use routes::router;
