//! What happens to every request, whatever its handler.

mod around;
mod compression;
mod hosts;
mod limits;
mod rate_limits;
mod request_id;
mod security_headers;

pub use around::Everything;
pub use hosts::{known_host, requested_host};
pub use limits::MAX_BODY_BYTES;
use limits::limit_headers;
pub use rate_limits::{Charge, ClientAddress, Peer, charge_address};
pub use request_id::RequestId;
pub use security_headers::{ContentSecurityPolicy, security_headers};
