//! Time comes in from outside, so that tests are exact: see [`connector_core::Clock`].

pub use connector_core::{Clock, MockClock, SharedClock, SystemClock};
