#![doc = include_str!("../README.md")]

mod admin;
mod discovery;
mod model;

#[cfg(feature = "fake")]
pub mod fake;

pub use admin::{KeycloakAdmin, KeycloakSettings};
pub use discovery::{ProviderMetadata, accepts_client, discover, jwks};
pub use model::{AdminEvent, Attributes, Group, User};

/// The tool's name in errors and logs.
pub(crate) const SERVICE: &str = "keycloak";
