use axum::http::{HeaderMap, StatusCode};

use crate::http::problem::Problem;

/// The largest body that is read.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
/// The largest single header, and the largest sum of them twice that.
const MAX_HEADER_BYTES: usize = 32 * 1024;

/// 431 for a header over 32 KiB (RFC 6585, section 5).
///
/// # Errors
/// That problem.
pub fn limit_headers(headers: &HeaderMap) -> Result<(), Problem> {
    let mut total = 0;
    for (name, value) in headers {
        let length = name.as_str().len() + value.len();
        total += length;
        if length > MAX_HEADER_BYTES || total > 2 * MAX_HEADER_BYTES {
            return Err(Problem::new(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "headers_too_large",
                "A header is larger than 32 KiB",
            ));
        }
    }
    Ok(())
}
