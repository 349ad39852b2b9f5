use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use crate::{app::AppState, http::problem::Problem};

/// The host that a request names: the authority of its target, which is all that HTTP/2 sends (`:authority`, RFC 9113,
/// section 8.3.1), else `Host`. Where both are there, the target's counts (RFC 9112, section 3.2.2).
pub fn requested_host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let in_target = uri.authority().map(axum::http::uri::Authority::as_str);
    in_target.or_else(|| headers.get(header::HOST)?.to_str().ok())
}

/// Serves pages only under our own names: redirect URIs and links follow the host that was asked for.
pub async fn known_host(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let host = requested_host(request.uri(), request.headers());
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

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_host_is_the_targets_or_else_the_headers() {
        let host = HeaderMap::from_iter([(header::HOST, HeaderValue::from_static("a.test:8080"))]);
        let none = HeaderMap::new();
        let (path, whole) = (Uri::from_static("/app"), Uri::from_static("http://b.test/app"));
        assert_eq!(requested_host(&path, &host), Some("a.test:8080"));
        assert_eq!(requested_host(&whole, &none), Some("b.test"));
        assert_eq!(requested_host(&whole, &host), Some("b.test"));
        assert_eq!(requested_host(&path, &none), None);
    }
}
