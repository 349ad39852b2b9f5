//! Chancery: the orchestration control plane of a suite of open-source tools. It owns approvals, the audit trail,
//! consultations and the webhook fan-in, and coordinates Keycloak, Chatwoot, Matrix and Jitsi through connector crates.
//!
//! A slice for each feature stands on a small kernel; docs/ARCHITECTURE.md walks through both.

// The kernel.
pub mod app;
pub mod audit;
pub mod auth;
pub mod clock;
pub mod config;
pub mod crypto;
pub mod db;
pub mod directory;
pub mod http;
pub mod ids;
pub mod jobs;
pub mod lifecycle;
pub mod limits;
pub mod matrix;
pub mod realtime;
pub mod telemetry;
pub mod tools;

// The slices.
pub mod approvals;
pub mod consultations;
pub mod conversations;
pub mod endpoints;
pub mod inbox;
pub mod modules;
pub mod sign_ins;
pub mod sources;
pub mod sync;
pub mod tenants;

pub mod doctor;
pub mod pages;

pub mod cli;
#[cfg(feature = "demo")]
pub mod demo;
#[cfg(feature = "testing")]
pub mod testing;
