use std::convert::Infallible;

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, header},
    response::Response,
};
use tower::{ServiceExt as _, service_fn};
use tower_http::compression::{
    Compression, CompressionBody,
    predicate::{NotForContentType, Predicate as _, SizeAbove},
};

/// The codings that a request accepts.
pub struct Accepted(Vec<HeaderValue>);

impl Accepted {
    /// What this request accepts.
    pub fn of(request: &Request) -> Self {
        Self(request.headers().get_all(header::ACCEPT_ENCODING).iter().cloned().collect())
    }

    /// Compresses answers from 1 KiB on, but for images and event streams: a stream is written as it comes, and compressing it
    /// would hold it back. What is not to be compressed costs nothing.
    pub async fn compress(self, response: Response) -> Response {
        let compressible = SizeAbove::new(1024)
            .and(NotForContentType::new("text/event-stream"))
            .and(NotForContentType::IMAGES);
        if !compressible.should_compress(&response) {
            return response;
        }
        let mut asked = Request::new(Body::empty());
        for value in self.0 {
            asked.headers_mut().append(header::ACCEPT_ENCODING, value);
        }
        let mut answered = Some(response);
        let answer = service_fn(move |_: Request| {
            std::future::ready(Ok::<_, Infallible>(answered.take().unwrap_or_default()))
        });
        let Ok(response) = Compression::new(answer).compress_when(compressible).oneshot(asked).await;
        if response.headers().contains_key(header::CONTENT_ENCODING) {
            response.map(Body::new)
        } else {
            // The body that could compress takes 6 KiB, for as long as it lasts.
            response.map(CompressionBody::into_inner)
        }
    }
}
