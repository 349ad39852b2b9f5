use axum::{body::Body, extract::Request, http::header, middleware::Next, response::Response};
use tower::ServiceExt as _;
use tower_http::compression::{
    Compression, CompressionBody,
    predicate::{NotForContentType, Predicate as _, SizeAbove},
};

/// Compresses answers from 1 KiB on, but for images and event streams: a stream is written as it comes, and compressing it
/// would hold it back.
pub async fn compress(request: Request, next: Next) -> Response {
    let compressible =
        SizeAbove::new(1024).and(NotForContentType::new("text/event-stream")).and(NotForContentType::IMAGES);
    let Ok(response) = Compression::new(next).compress_when(compressible).oneshot(request).await;
    if response.headers().contains_key(header::CONTENT_ENCODING) {
        response.map(Body::new)
    } else {
        // The body that could compress takes 6 KiB, for as long as a stream lasts.
        response.map(CompressionBody::into_inner)
    }
}
