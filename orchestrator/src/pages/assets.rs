use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use shell_ui::{Asset, Assets};

use crate::http::{Problem, ProblemResult, extract::ApiPath};

/// A file that pages refer to. Its name carries a hash of its content, so it may be kept for ever and by anyone.
pub(super) async fn asset(ApiPath(file): ApiPath<String>, headers: HeaderMap) -> ProblemResult<Response> {
    Assets::get(&file).map(|asset| answer(asset, &headers)).ok_or_else(Problem::not_found)
}

/// The script of the shared worker, which browsers take from the pages' own origin only.
pub(super) async fn worker(headers: HeaderMap) -> Response {
    answer(Assets::worker(), &headers)
}

fn answer(asset: &'static Asset, asked: &HeaderMap) -> Response {
    let tag = format!("\"{}\"", asset.hash);
    // Weakly compared (RFC 9110, section 13.1.2): a proxy may have put `W/` on it.
    let is_known = asked
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|one| one.trim().trim_start_matches("W/") == tag));
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        asset.bytes.as_ref().into_response()
    };
    let headers = response.headers_mut();
    let caching = if asset.immutable { "public, max-age=31536000, immutable" } else { "no-cache" };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    if asset.immutable {
        // Pages on one origin load them from a CDN on another: modules need CORS, and nothing in them is secret.
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(
            HeaderName::from_static("cross-origin-resource-policy"),
            HeaderValue::from_static("cross-origin"),
        );
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(asset: &'static Asset, if_none_match: Option<&str>) -> Response {
        let mut headers = HeaderMap::new();
        if let Some(tag) = if_none_match {
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_str(tag).unwrap());
        }
        answer(asset, &headers)
    }

    #[test]
    fn what_has_its_hash_in_its_name_is_kept_for_ever() {
        let name = Assets::names().next().unwrap();
        let response = ask(Assets::get(name).unwrap(), None);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CACHE_CONTROL], "public, max-age=31536000, immutable");
    }

    #[test]
    fn the_worker_is_asked_for_again_and_answered_in_short() {
        let response = ask(Assets::worker(), None);
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-cache");
        let tag = response.headers()[header::ETAG].to_str().unwrap().to_owned();
        assert_eq!(
            ask(Assets::worker(), Some(&format!("\"x\", W/{tag}"))).status(),
            StatusCode::NOT_MODIFIED
        );
        assert_eq!(ask(Assets::worker(), Some("\"other\"")).status(), StatusCode::OK);
    }
}
