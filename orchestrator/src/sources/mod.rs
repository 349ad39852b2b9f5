//! Sources of webhooks: which tool posts here, for which tenant or for the suite, and how its requests prove it.
//!
//! A source has a scheme ([`SourceScheme`]), several secrets, each with a time in which it counts, so that one can be replaced
//! without losing deliveries, and an id that can't be guessed, which stands in its URL. It is active, paused (its webhooks are
//! refused like those of an unknown one) or removed, which is for good: its secrets are gone, and what refers to it keeps it.
//! A source whose tenant is [`TenantId::SUITE`] belongs to the suite: who runs it manages it, and nobody else sees it. One of
//! Chatwoot's speaks for the tenants to which its inboxes are mapped ([`mapping`]).
//!
//! Surface: the commands, each with its audit entry ([`add`], [`change`], [`rotate`], [`revoke`], [`remove`]; the caller
//! commits and then calls [`forget`]); [`page`] and [`get`]; and what receives webhooks asks for ([`find`], [`only`]).

mod cache;
mod mapping;
mod model;
mod routes;
mod service;
mod store;

pub use cache::{SourceCache, find, forget, is_strange, is_strange_service, only, per_minute, quota};
pub use mapping::{Mapping, map, mapped, mappings, tenant_paths, unmap};
pub use model::{
    Added, ChangeSource, Fault, MAX_GRACE_SECONDS, NewSecret, NewSource, Purpose, RequestLimit, Rotated,
    Secret, SecretInfo, Source, SourceFilter, SourceScheme, SourceState, WebhookSource,
};
pub use routes::{problem, router};
pub use service::{
    SourceError, add, change, get, has_secret, named_tenant, of_tenants, page, register_source, remove,
    revoke, rotate, tenant_of,
};
