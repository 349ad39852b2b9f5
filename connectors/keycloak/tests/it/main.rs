//! The connector and its double, over real HTTP.
#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod admin;
mod harness;
mod levels;
mod realm_file;
mod sign_in;
mod tokens;
