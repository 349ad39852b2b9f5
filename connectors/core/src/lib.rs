#![doc = include_str!("../README.md")]

mod clock;
mod connector;
mod error;
mod health;
mod http;
mod ids;
pub mod trace;

#[cfg(feature = "egress")]
pub mod egress;
#[cfg(feature = "fake")]
pub mod fake;

pub use clock::{Clock, MockClock, SharedClock, SystemClock};
pub use connector::{Capability, Connector, ServerInfo};
pub use error::{ConnectorError, ErrorKind};
pub use health::Health;
pub use http::{CircuitSettings, HttpClient, HttpClientBuilder, Rate};
pub use ids::{IdGenerator, RandomIds, SharedIds};
pub use trace::TraceContext;
