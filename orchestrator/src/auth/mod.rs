//! Who is asking, and what they may do.
//!
//! - [`policy`]: roles, permissions and [`can`], the one question.
//! - [`principal`]: somebody or something that has proven who it is.
//! - [`bearer`]: access tokens on the API; [`Caller`] is the extractor.
//! - [`Refusals`]: who named a tenant of others.
//! - [`oidc`]: sign-in with Keycloak; [`session`]: what a browser has afterwards; [`Visitor`] is the extractor.

pub mod bearer;
mod caller;
pub mod keys;
pub mod late_ends;
mod login_state;
mod logout_token;
pub mod oidc;
pub mod policy;
pub mod principal;
mod refresh;
mod refusals;
pub mod routes;
pub mod session;
pub mod step_up;
mod visitor;

pub use caller::{Caller, bearer_token};
pub use policy::{Decision, Permission, Resource, Role, can};
pub use principal::{
    Grant, Principal, PrincipalError, PrincipalKind, PrincipalSource, TenantKind, TenantRef,
};
pub use refusals::Refusals;
pub use visitor::Visitor;
