use std::time::Instant;

use axum::{
    body::{Body, Bytes},
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method, header},
    middleware::Next,
    response::Response,
};
use http_body_util::BodyExt as _;

use crate::{app::AppState, http::problem::ProblemShown};

static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The id of a request: what the client sent, if it is short and harmless, else a new one.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// Gives each request its id, in and out, says it in problems, and logs and counts the answer once.
pub async fn request_id(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let sent = request
        .headers()
        .get(&X_REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| is_harmless(id));
    let id = sent.map_or_else(|| state.ids.uuid_v7(state.clock.now()).to_string(), str::to_owned);
    request.extensions_mut().insert(RequestId(id.clone()));
    let method = request.method().clone();
    let route =
        request.extensions().get::<MatchedPath>().map_or("unmatched", |path| path.as_str()).to_owned();
    let begun = Instant::now();

    let mut response = next.run(request).await;
    if response.extensions().get::<ProblemShown>().is_some() {
        response = add_to_problem(response, &id).await;
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(X_REQUEST_ID.clone(), value);
    }
    let status = response.status().as_u16();
    let seconds = begun.elapsed().as_secs_f64();
    metrics::histogram!("chancery_http_request_seconds", "method" => method_label(&method), "route" => route.clone(), "status" => status.to_string())
        .record(seconds);
    tracing::debug!(%method, route, status, seconds, request_id = id, "answered");
    response
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
