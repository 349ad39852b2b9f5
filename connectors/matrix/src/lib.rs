//! Chancery's connector to Matrix.
//!
//! Chancery is an *application service*: the homeserver (Synapse) knows it by a registration file
//! ([`registration_yaml`]), lets its bot act without rate limits ([`MatrixClient`]), and pushes what happens in the
//! bot's rooms ([`appservice`]).
//!
//! Whatever is sent carries a transaction id that the caller derives from its own job: sent again, it is the same
//! event. Rooms are made under an alias, which is what makes making them repeatable
//! ([`MatrixClient::ensure_room`]).
//!
//! The feature `fake` adds a double of a homeserver with the endpoints that are used here.

pub mod appservice;
mod client;
mod html;
mod ids;
mod registration;

#[cfg(feature = "fake")]
pub mod fake;

pub use client::{
    JoinedMember, MatrixClient, MatrixSettings, Membership, RoomPreset, RoomSpec, SERVICE, SupportedVersions,
    WhoAmI,
};
pub use html::escape_html;
pub use ids::{EventId, InvalidId, RoomAlias, RoomId, UserId};
pub use registration::{Registration, registration_yaml};
