use axum::{
    body::{Bytes, HttpBody as _},
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
};
use http_body_util::{BodyExt as _, Collected, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::http::{
    middleware::MAX_BODY_BYTES,
    problem::{FieldError, Problem},
};

/// A JSON body: 415 for another content type, 400 where it isn't JSON (lone surrogates too), 413 where it is too large,
/// 422 with a pointer where it is JSON of the wrong shape.
#[derive(Debug)]
pub struct ApiJson<T> {
    /// What was sent.
    pub value: T,
    /// The bytes as sent, for the fingerprint of a repeated request.
    pub raw: Bytes,
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for ApiJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "The body must be application/json",
            ));
        }
        let raw = body(request).await?;
        let value = decode_json(&raw)?;
        Ok(Self { value, raw })
    }
}

/// Reads a body within the limit. One that is said to be larger isn't waited for.
pub(crate) async fn body(request: Request) -> Result<Bytes, Problem> {
    let too_large =
        || Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "The body is larger than 1 MiB");
    if usize::try_from(request.body().size_hint().lower()).map_or(true, |bytes| bytes > MAX_BODY_BYTES) {
        return Err(too_large());
    }
    Limited::new(request.into_body(), MAX_BODY_BYTES).collect().await.map(Collected::to_bytes).map_err(
        |error| {
            if error.is::<LengthLimitError>() {
                too_large()
            } else {
                Problem::new(StatusCode::BAD_REQUEST, "unreadable", "The body could not be read")
            }
        },
    )
}

fn is_json(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
        let essence = value.split(';').next().unwrap_or_default().trim();
        essence.eq_ignore_ascii_case("application/json")
    })
}

/// Decodes JSON into `T`, with the statuses of the design.
///
/// # Errors
/// 400 where it isn't JSON, 422 where it has another shape.
pub fn decode_json<T: DeserializeOwned>(raw: &[u8]) -> Result<T, Problem> {
    // First as any JSON: a syntax error after a wrong type is still a syntax error.
    let not_json = || Problem::new(StatusCode::BAD_REQUEST, "not_json", "The body is not JSON");
    let value: serde_json::Value = serde_json::from_slice(raw).map_err(|_| not_json())?;
    let mut errors = Vec::new();
    reject_nul(&value, &mut String::new(), &mut errors);
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(raw);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let pointer = pointer(error.path());
        Problem::invalid(vec![FieldError::new(pointer, describe(error.inner()))])
    })
}

/// serde's message without the position; it names fields and types, and may quote a short wrong value of the sender's.
fn describe(error: &serde_json::Error) -> String {
    let message = error.to_string();
    message.rsplit_once(" at line ").map_or(message.as_str(), |(text, _)| text).to_owned()
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => push_token(&mut pointer, &index.to_string()),
            Segment::Map { key } => push_token(&mut pointer, key),
            Segment::Enum { variant } => push_token(&mut pointer, variant),
            Segment::Unknown => {}
        }
    }
    pointer
}

/// RFC 6901, section 3.
fn push_token(pointer: &mut String, token: &str) {
    pointer.push('/');
    pointer.push_str(&token.replace('~', "~0").replace('/', "~1"));
}

/// PostgreSQL's text can't hold NUL, and nobody means it.
pub fn reject_nul(value: &serde_json::Value, pointer: &mut String, errors: &mut Vec<FieldError>) {
    match value {
        serde_json::Value::String(text) if text.contains('\0') => {
            errors.push(FieldError::new(pointer.clone(), "must not contain the character NUL"));
        }
        serde_json::Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let length = pointer.len();
                push_token(pointer, &index.to_string());
                reject_nul(item, pointer, errors);
                pointer.truncate(length);
            }
        }
        serde_json::Value::Object(members) => {
            for (key, item) in members {
                let length = pointer.len();
                push_token(pointer, key);
                if key.contains('\0') {
                    errors.push(FieldError::new(
                        pointer.replace('\0', "\u{fffd}"),
                        "a name must not contain the character NUL",
                    ));
                }
                reject_nul(item, pointer, errors);
                pointer.truncate(length);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "camelCase")]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Outer {
        a_list: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its shape matters")]
    struct Inner {
        number: u8,
    }

    fn refused(body: &str) -> (u16, Vec<String>) {
        let problem = decode_json::<Outer>(body.as_bytes()).unwrap_err();
        (problem.status().as_u16(), problem.errors().iter().map(|error| error.pointer.clone()).collect())
    }

    #[test]
    fn what_is_wrong_is_pointed_at() {
        assert_eq!(
            refused(r#"{"aList":[{"number":1},{"number":"x"}]}"#),
            (422, vec!["/aList/1/number".to_owned()])
        );
        assert_eq!(refused(r#"{"aList":[{"nimber":1}]}"#), (422, vec!["/aList/0/nimber".to_owned()]));
        assert_eq!(refused(r#"{"aList":[],"x/y~z":"\u0000"}"#), (422, vec!["/x~1y~0z".to_owned()]));
        assert_eq!(refused("[]").0, 422);
    }

    #[test]
    fn what_is_not_json_is_a_400() {
        for body in ["", "{", "{\"aList\":[", "nul", r#"{"aList":"\ud800"}"#, "\u{feff}{}", "{} {}"] {
            assert_eq!(refused(body).0, 400, "{body:?}");
        }
        assert_eq!(decode_json::<Outer>(b"{\"aList\":\"\xff\"}").unwrap_err().status().as_u16(), 400);
    }
}
