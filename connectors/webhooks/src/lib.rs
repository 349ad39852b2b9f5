//! Webhooks by the schemes that many tools share.
//!
//! - [`Scheme`]: how what comes in proves where it comes from, and what it says of itself: [`Scheme::verify`];
//! - [`hmac`]: one configurable HMAC, which most tools' schemes are a setting of; [`presets`] has those settings as data;
//! - [`standard`]: Standard Webhooks 1.0.0, which signs and verifies with shared secrets (`v1`) and key pairs (`v1a`);
//! - [`cloudevents`]: CloudEvents 1.0 over HTTP: binary, structured and batched, with the handshake against abuse.
//!
//! Everything here is pure: it knows no server, no database and no clock. Secrets and headers are compared in constant
//! time, signatures are over the raw bytes, and where a time is signed, it is at most five minutes from ours, either way.

pub mod cloudevents;
pub mod event;
pub mod hmac;
pub mod keycloak;
pub mod presets;
pub mod standard;

mod header;
mod jitsi;
mod scheme;
mod token;

pub use scheme::{
    Answer, Delivery, DeliveryId, Fault, InvalidSecret, Key, Outcome, Refused, RequestParts, Scheme,
};
