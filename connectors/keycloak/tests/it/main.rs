//! The connector and its double, over real HTTP.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod admin;
mod harness;
mod realm_file;
mod sign_in;
mod step_up;
mod tokens;
