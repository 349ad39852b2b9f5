//! Another tool inside a page of ours, in a frame of its own origin.

use axum::{
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use shell_ui::pages::ToolPage;

use super::{
    PageResult,
    chrome::Place,
    modules::{self, Embedded},
    page,
};
use crate::{
    app::AppState,
    config::origin,
    http::{Problem, extract::ApiPath},
    ids::TenantId,
};

/// The origin that a page shows in a frame: its policy has to admit it.
#[derive(Debug, Clone)]
struct FrameSource(String);

/// The origins that may show a page of ours in a frame, with spaces between them; one, as a rule.
#[derive(Debug, Clone)]
pub(super) struct FrameAncestor(pub String);

/// A tool or an added module that is shown in a frame, to who sees it.
pub(super) async fn show(
    State(state): State<AppState>,
    place: Place,
    ApiPath((_, id)): ApiPath<(TenantId, String)>,
) -> PageResult {
    let mut tx = place.begin(&state).await?;
    let found = modules::framed(&state, &mut tx, &place.visitor, &place.tenant, &id).await?;
    let Embedded { name, url, is_video } = found.ok_or_else(Problem::not_found)?;
    let chrome = place.chrome(&state, &mut tx, &id, None).await?;
    drop(tx);
    let source = origin(&url);
    let shown = ToolPage { chrome, name, url: url.into(), is_video };
    let mut response = page(StatusCode::OK, &shown)?;
    if is_video {
        let policy = format!(
            "camera=(self \"{source}\"), microphone=(self \"{source}\"), display-capture=(self \"{source}\"), geolocation=(), payment=(), usb=()"
        );
        let policy = HeaderValue::from_str(&policy).map_err(|error| Problem::internal(&error))?;
        response.headers_mut().insert(HeaderName::from_static("permissions-policy"), policy);
    }
    response.extensions_mut().insert(FrameSource(source));
    Ok(response)
}

/// Adds to the content security policy of a page with a frame that this one origin may be in it (W3C CSP Level 3, 6.1.7);
/// every other page's says `default-src 'none'`. And to the policy of a page that a tool frames, that this one origin may
/// (6.4.2); every other page's says `frame-ancestors 'none'`.
pub async fn admit_frames(mut response: Response) -> Response {
    if let Some(FrameAncestor(ancestor)) = response.extensions_mut().remove::<FrameAncestor>() {
        let opened = response
            .headers()
            .get(header::CONTENT_SECURITY_POLICY)
            .and_then(|policy| policy.to_str().ok())
            .map(|policy| policy.replace("frame-ancestors 'none'", &format!("frame-ancestors {ancestor}")))
            .and_then(|policy| HeaderValue::from_str(&policy).ok());
        if let Some(policy) = opened {
            response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        }
    }
    let Some(FrameSource(source)) = response.extensions_mut().remove::<FrameSource>() else {
        return response;
    };
    let widened = response
        .headers()
        .get(header::CONTENT_SECURITY_POLICY)
        .and_then(|policy| policy.to_str().ok())
        .and_then(|policy| HeaderValue::from_str(&format!("{policy}; frame-src {source}")).ok());
    if let Some(policy) = widened {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    async fn policy(source: Option<&str>) -> String {
        let mut response = Response::new(Body::empty());
        let policy = HeaderValue::from_static("default-src 'none'; base-uri 'none'");
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        if let Some(source) = source {
            response.extensions_mut().insert(FrameSource(source.to_owned()));
        }
        let response = admit_frames(response).await;
        response.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn only_a_page_with_a_frame_admits_one_and_only_that_ones_origin() {
        assert_eq!(policy(None).await, "default-src 'none'; base-uri 'none'");
        assert_eq!(
            policy(Some("https://chat.example.org")).await,
            "default-src 'none'; base-uri 'none'; frame-src https://chat.example.org"
        );
    }
}
