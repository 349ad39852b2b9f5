//! The contract suites: each runs its cases against a double and against the server that it stands in for.
//!
//! The real servers are started by `cargo xtask test`, which tells where they are and leaves no case out. Without it, the
//! cases against them are shown as ignored, and fail if they are run all the same.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "what goes wrong in a test fails it")]

mod keycloak;
