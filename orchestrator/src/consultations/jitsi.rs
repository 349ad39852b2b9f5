//! What Jitsi's own server asks us: the public keys that our tokens are verified with.

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use connector_jitsi::KEY_CONTENT_TYPE;

use crate::{
    app::AppState,
    http::{Problem, ProblemResult, extract::ApiPath},
};

/// Where Jitsi's server asks. No browser does: any host name that leads here will do.
pub fn router() -> Router<AppState> {
    Router::new().route("/asap/{file}", get(key))
}

/// The public key whose id has this hash (`asap_key_server`). It never changes: another key has another id.
async fn key(State(state): State<AppState>, ApiPath(file): ApiPath<String>) -> ProblemResult<Response> {
    let jitsi = state.tools.jitsi.as_ref().ok_or_else(Problem::not_found)?;
    let key = jitsi.keys.file(&file).ok_or_else(Problem::not_found)?.to_owned();
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(KEY_CONTENT_TYPE)),
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600")),
    ];
    Ok((headers, key).into_response())
}
