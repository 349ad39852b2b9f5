use axum::{
    extract::Request,
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use crate::http::problem::Problem;

/// The largest body that is read.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
/// The largest single header, and the largest sum of them twice that.
const MAX_HEADER_BYTES: usize = 32 * 1024;

/// 431 for a header over 32 KiB (RFC 6585, section 5).
pub async fn limit_headers(request: Request, next: Next) -> Response {
    let mut total = 0;
    for (name, value) in request.headers() {
        let length = name.as_str().len() + value.len();
        total += length;
        if length > MAX_HEADER_BYTES || total > 2 * MAX_HEADER_BYTES {
            return Problem::new(
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "headers_too_large",
                "A header is larger than 32 KiB",
            )
            .into_response();
        }
    }
    next.run(request).await
}
