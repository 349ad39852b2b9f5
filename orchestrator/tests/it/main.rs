//! The application over HTTP, each test with a database and doubles of its own.
#![cfg(feature = "demo")]

mod approvals;
mod harness;
