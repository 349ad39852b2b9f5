//! The application over HTTP, each test with a database and doubles of its own.
#![cfg(feature = "demo")]

mod approvals;
mod audit;
mod bad_input;
mod consultations;
mod directory;
mod harness;
mod inbox;
mod realtime;
mod rls;
mod tenancy;
