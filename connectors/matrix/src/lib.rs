#![doc = include_str!("../README.md")]

pub mod appservice;
mod client;
mod html;
mod identity;
mod ids;
mod registration;
mod rooms;

#[cfg(feature = "fake")]
pub mod fake;

pub use client::{
    JoinedMember, MatrixClient, MatrixSettings, Membership, RoomPreset, RoomSpec, SERVICE, SupportedVersions,
    WhoAmI,
};
pub use html::escape_html;
pub use identity::ExternalId;
pub use ids::{EventId, InvalidId, RoomAlias, RoomId, UserId};
pub use registration::{Registration, registration_yaml};
pub use rooms::{Repair, RestoredRoom, RoomWarning};
