//! Chancery's connector to Keycloak: who people are, and which groups they belong to.
//!
//! - [`KeycloakAdmin`] reads users, groups and client roles through the Admin REST API, with a service account;
//! - [`discover`] and [`jwks`] read what a relying party needs to sign people in and to check their tokens;
//! - `fake` (feature `fake`) is a double: a real HTTP server that answers as Keycloak 26.7 does.
//!
//! What to do with an answer (how long to keep a key set, which claim to believe) is the caller's business.

mod admin;
mod discovery;
mod model;

#[cfg(feature = "fake")]
pub mod fake;

pub use admin::{KeycloakAdmin, KeycloakSettings};
pub use discovery::{ProviderMetadata, discover, jwks};
pub use model::{Attributes, Group, User};

/// The tool's name in errors and logs.
pub(crate) const SERVICE: &str = "keycloak";
