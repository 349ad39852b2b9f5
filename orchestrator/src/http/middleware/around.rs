use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    extract::Request,
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use tower::{Layer, Service};

use super::{
    ContentSecurityPolicy, compression::Accepted, limit_headers, rate_limits::Said, request_id::Told,
    security_headers,
};
use crate::{app::AppState, pages};

/// How long a request may take until its answer begins, its body's arrival included; a stream goes on.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What happens to every request, from the outside in. One layer, and one that neither copies what is within it nor keeps it in
/// a box of its own, as a layer from a function does for each request.
#[derive(Debug, Clone)]
pub struct Everything(Arc<(AppState, ContentSecurityPolicy)>);

impl Everything {
    /// For all requests to this application, whose pages have this policy.
    pub fn new(state: AppState, policy: ContentSecurityPolicy) -> Self {
        Self(Arc::new((state, policy)))
    }
}

impl<S> Layer<S> for Everything {
    type Service = Around<S>;

    fn layer(&self, inner: S) -> Around<S> {
        Around { everything: self.clone(), inner }
    }
}

/// A service with what happens to every request around it.
#[derive(Debug, Clone)]
pub struct Around<S> {
    everything: Everything,
    inner: S,
}

impl<S> Service<Request> for Around<S>
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send + 'static>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let everything = Arc::clone(&self.everything.0);
        let told = Told::of(&everything.0, &mut request);
        let said = Said::begin(&mut request);
        let accepted = Accepted::of(&request);
        let answer = match limit_headers(request.headers()) {
            // It begins when it is asked for its answer.
            Ok(()) => Ok(self.inner.call(request)),
            Err(problem) => Err(problem.into_response()),
        };
        let answer = async move {
            let mut response = match answer {
                Err(refused) => refused,
                Ok(answer) => tokio::time::timeout(REQUEST_TIMEOUT, answer).await.map_or_else(
                    |_| StatusCode::SERVICE_UNAVAILABLE.into_response(),
                    |Ok(response)| response,
                ),
            };
            if let Some(said) = said {
                said.say(&mut response);
            }
            accepted.compress(response).await
        };
        Box::pin(async move {
            let mut response = told.answer(answer).await;
            security_headers(&everything.1, &mut response);
            Ok(pages::admit_frames(response).await)
        })
    }
}
