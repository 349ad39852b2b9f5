//! The application over HTTP, each test with a database and doubles of its own.
#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on panics")]

mod approvals;
mod attendance;
mod audit;
mod bad_input;
mod chatwoot;
mod claims;
mod consultations;
mod directory;
mod doctor;
mod embed;
mod endpoint_rules;
mod endpoints;
mod entries;
mod harness;
mod http2;
mod inbox;
mod inbox_accepting;
mod inbox_processing;
mod isolation;
mod jitsi;
mod limits;
mod mapping;
mod matrix;
mod mending;
mod modules;
mod navigation;
mod readings;
mod realtime;
mod reconciling;
mod rls;
mod sessions;
mod settings;
mod setup;
mod shell_attacks;
mod sign_ins;
mod sources;
mod step_up;
mod switcher;
mod sync;
mod sync_command;
mod tenancy;
mod tokens;
mod trace;
mod webhooks;
