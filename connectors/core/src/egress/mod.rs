//! Calls to addresses that somebody else chose, such as a tenant's webhooks: they must lead nowhere that the caller alone
//! could not reach (server-side request forgery, OWASP API7:2023).
//!
//! [`EgressPolicy`] says where one may go; [`EgressClient`] holds to it. A name is resolved once for each call, the answers are
//! judged, and the connection goes to an address that was judged: a name that leads elsewhere a moment later (DNS rebinding)
//! gains nothing. No redirect is followed (OWASP ASVS 5.0, 15.3.2), no proxy is taken from the environment, nothing is unpacked,
//! no cookie is kept. Each call has a connection of its own, one deadline for everything, and a bound on what is read.

mod address;
mod capped;
mod client;
mod policy;

pub use address::is_public;
pub use client::{Answer, DEADLINE, EgressClient, EgressError, MAX_ANSWER_BYTES, Resolve, SystemResolver};
pub use policy::{EgressPolicy, MAX_URL_LENGTH, PortRange, UrlFault};
