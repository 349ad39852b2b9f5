use std::{sync::Arc, time::Instant};

use axum::{
    body::{Body, Bytes},
    extract::{MatchedPath, Request},
    http::{HeaderName, HeaderValue, Method, header},
    response::Response,
};
use connector_core::TraceContext;
use http_body_util::BodyExt as _;
use tracing::Instrument as _;

use crate::{app::AppState, http::problem::ProblemShown, ids::SharedIds};

static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request: what the client sent, if it is short and harmless, else a new one.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// What is known of a request before it is answered, and what its answer is logged and counted by: its id, in and out, and its
/// place in a trace, the caller's (W3C Trace Context) or a new one. All that is logged meanwhile carries them.
pub struct Told {
    id: String,
    method: Method,
    route: String,
    trace: TraceContext,
    ids: SharedIds,
    begun: Instant,
}

impl Told {
    /// What this request tells; it carries its id from now on.
    pub fn of(state: &AppState, request: &mut Request) -> Self {
        let sent = request
            .headers()
            .get(&X_REQUEST_ID)
            .and_then(|value| value.to_str().ok())
            .filter(|id| is_harmless(id));
        let id = sent.map_or_else(|| state.ids.uuid_v7(state.clock.now()).to_string(), str::to_owned);
        request.extensions_mut().insert(RequestId(id.clone()));
        let route =
            request.extensions().get::<MatchedPath>().map_or("unmatched", |path| path.as_str()).to_owned();
        let ids = &*state.ids;
        let trace = TraceContext::from_headers(request.headers())
            .map_or_else(|| TraceContext::begin(ids), |parent| parent.child(ids));
        let method = request.method().clone();
        Self { id, method, route, trace, ids: Arc::clone(&state.ids), begun: Instant::now() }
    }

    /// Has the request answered, says its id in problems, and logs and counts the answer once.
    pub async fn answer(self, answer: impl Future<Output = Response>) -> Response {
        let Self { id, method, route, trace, ids, begun } = self;
        // Of the highest level, so that no filter separates an error from its request.
        let span = tracing::error_span!(
            "request",
            method = %method,
            route,
            request_id = id,
            trace_id = trace.trace_id(),
            span_id = trace.span_id()
        );
        let answered = async move {
            let mut response = answer.await;
            if response.extensions().get::<ProblemShown>().is_some() {
                response = add_to_problem(response, &id).await;
            }
            if let Ok(value) = HeaderValue::from_str(&id) {
                response.headers_mut().insert(X_REQUEST_ID.clone(), value);
            }
            let status = response.status().as_u16();
            let seconds = begun.elapsed().as_secs_f64();
            metrics::histogram!("chancery_http_request_seconds", "method" => method_label(&method), "route" => route, "status" => status.to_string())
                .record(seconds);
            tracing::debug!(status, seconds, "answered");
            response
        };
        trace.scope(ids, answered.instrument(span)).await
    }
}

/// Any word can be a method; only the known ones become a label.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn is_harmless(id: &str) -> bool {
    (1..=128).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// Problems are small and whole in memory: the id is put into the JSON.
async fn add_to_problem(response: Response, id: &str) -> Response {
    let is_json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes() == b"application/problem+json");
    if !is_json {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let bytes = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let bytes = match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&bytes) {
        Ok(mut problem) => {
            problem.insert("requestId".to_owned(), id.into());
            serde_json::to_vec(&problem).map_or(bytes, Bytes::from)
        }
        Err(_) => bytes,
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(bytes))
}
