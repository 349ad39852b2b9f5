//! What the tests stand on: a clock that a test sets and, with the doubles of the demo, an application of one's own for
//! each test.
//!
//! [`TestApp::start`] gives a test its own database (a copy of one that is migrated once), its own doubles on free ports,
//! and the real application on a real TCP port. Nothing runs by itself: [`TestApp::run_jobs`] does what is due, and a
//! test that ends with work left over fails.

#[cfg(feature = "demo")]
mod app;
#[cfg(feature = "demo")]
mod browser;
#[cfg(feature = "demo")]
mod client;
mod redis;
#[cfg(feature = "demo")]
mod template;

#[cfg(feature = "demo")]
pub use app::{ACME, ENGINEERING, GLOBEX, Replica, TestApp};
#[cfg(feature = "demo")]
pub use browser::Browser;
#[cfg(feature = "demo")]
pub use client::{Answer, Client, EventStream, StreamEvent};

pub use self::redis::RedisServer;
pub use crate::clock::MockClock;
