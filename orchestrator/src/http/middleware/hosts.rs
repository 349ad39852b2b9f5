use axum::{
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use crate::{app::AppState, http::problem::Problem};

/// Serves pages only under our own names: redirect URIs and links follow `Host`.
pub async fn known_host(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|value| value.to_str().ok())
        .or_else(|| request.uri().authority().map(axum::http::uri::Authority::as_str));
    match host.and_then(|host| state.config.http.origin_for(host)) {
        Some(_) => next.run(request).await,
        None => Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            "unknown_host",
            "This server is not known by that name",
        )
        .into_response(),
    }
}
