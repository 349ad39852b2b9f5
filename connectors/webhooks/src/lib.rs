//! Webhooks by the schemes that many tools share.
//!
//! - [`standard`]: Standard Webhooks 1.0.0, which signs and verifies with shared secrets (`v1`) and key pairs (`v1a`).
//!
//! Everything here is pure: it knows no server, no database and no clock.

pub mod standard;

mod header;
