//! Entity tags from versions (RFC 9110, section 8.8.3) and the precondition `If-Match` (section 13.1.1).

use axum::{
    Json,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde::Serialize;

use super::problem::{FieldError, Problem};

/// The strong tag of a version.
fn etag(version: i64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\"")).unwrap_or(HeaderValue::from_static("\"0\""))
}

/// Something with the tag of its version.
pub fn tagged(version: i64, body: impl Serialize) -> Response {
    let mut response = Json(body).into_response();
    response.headers_mut().insert(header::ETAG, etag(version));
    response
}

/// 201 (RFC 9110, section 15.3.2): something new with the tag of its version, and the path at which it is from now on.
pub fn created(location: &str, version: i64, body: impl Serialize) -> Response {
    let mut response = tagged(version, body);
    *response.status_mut() = StatusCode::CREATED;
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// What a request expects the version to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfMatch {
    /// It doesn't say, or says `*`.
    Any,
    /// One of these.
    OneOf(Vec<i64>),
}

impl IfMatch {
    /// Whether `version` is what was expected.
    pub fn admits(&self, version: i64) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(versions) => versions.contains(&version),
        }
    }

    /// Reads the header. A `W/` that a proxy put on when it compressed is accepted; a tag that we never gave matches
    /// nothing.
    ///
    /// # Errors
    /// 422 where the header isn't a list of entity tags.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut versions = Vec::new();
        let mut sent = false;
        for value in headers.get_all(header::IF_MATCH) {
            sent = true;
            let malformed = || {
                Problem::invalid(vec![FieldError::new(
                    "If-Match",
                    "must be a list of entity tags, as in \"3\"",
                )])
            };
            let text = value.to_str().map_err(|_| malformed())?;
            for tag in text.split(',').map(str::trim) {
                if tag == "*" {
                    return Ok(Self::Any);
                }
                let tag = tag.strip_prefix("W/").unwrap_or(tag);
                let tag =
                    tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).ok_or_else(malformed)?;
                versions.extend(tag.parse::<i64>());
            }
        }
        Ok(if sent { Self::OneOf(versions) } else { Self::Any })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &'static str) -> Result<IfMatch, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_MATCH, HeaderValue::from_static(value));
        IfMatch::from_headers(&headers)
    }

    #[test]
    fn what_is_new_says_where_it_is_and_which_version() {
        let response = created("/api/v1/things/1", 7, "a thing");
        assert_eq!(response.status(), StatusCode::CREATED);
        assert_eq!(response.headers()[header::LOCATION], "/api/v1/things/1");
        assert_eq!(response.headers()[header::ETAG], "\"7\"");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        let response = tagged(8, "a thing");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::ETAG], "\"8\"");
        assert!(response.headers().get(header::LOCATION).is_none());
    }

    #[test]
    fn tags_are_read_strong_weak_and_in_lists() {
        assert_eq!(IfMatch::from_headers(&HeaderMap::new()).unwrap(), IfMatch::Any);
        assert_eq!(read("*").unwrap(), IfMatch::Any);
        assert_eq!(read("\"3\"").unwrap(), IfMatch::OneOf(vec![3]));
        assert_eq!(read("W/\"3\", \"4\"").unwrap(), IfMatch::OneOf(vec![3, 4]));
        assert!(!read("\"other\"").unwrap().admits(1));
        assert!(read("3").is_err());
    }
}
