//! What happens to every request, whatever its handler.

mod compression;
mod hosts;
mod limits;
mod rate_limits;
mod request_id;
mod security_headers;

pub use compression::compress;
pub use hosts::{known_host, requested_host};
pub use limits::{MAX_BODY_BYTES, limit_headers};
pub use rate_limits::{Charge, ClientAddress, Peer, charge_address, rate_limit_headers};
pub use request_id::{RequestId, request_id};
pub use security_headers::{ContentSecurityPolicy, security_headers};
