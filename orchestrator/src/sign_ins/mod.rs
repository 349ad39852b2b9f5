//! The sign-ins of a tenant's members, for its owners: that there are some, since when, when they were last used, and ending
//! them. From where and with which browser is for nobody but the person: they may be in other tenants, too.
//!
//! A sign-in is in the storage of sessions, of which the database knows nothing. Ending one has its entry first, in the trail of
//! the tenant and in the person's own: an end that fails is in the trail and is tried again, rather than one that nobody
//! knows of.

mod model;
mod routes;
mod service;
mod store;

pub use model::SignIn;
pub use routes::{problem, router};
pub use service::{SignInError, Which, end, page};
