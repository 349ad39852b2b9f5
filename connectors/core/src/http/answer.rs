//! What a server's answer means to the caller.

use std::time::Duration;

use ::http::{HeaderMap, StatusCode, header};
use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret as _, SecretString};

use crate::{ConnectorError, ErrorKind};

/// So much of what a server says about an error is passed on.
const LONGEST_CODE: usize = 200;
/// Something shorter stands in a text by chance.
const SHORTEST_SECRET: usize = 4;

/// `Retry-After` (RFC 9110, section 10.2.3), in seconds or as a date, which counts from the server's own `Date` where it
/// sent one: its clock and ours may differ.
pub(super) fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if value.bytes().all(|byte| byte.is_ascii_digit()) {
        return value.parse().ok().map(Duration::from_secs);
    }
    let date = |value: &str| httpdate::parse_http_date(value).ok().map(DateTime::<Utc>::from);
    let until = date(value)?;
    let from = headers.get(header::DATE).and_then(|value| value.to_str().ok()).and_then(date).unwrap_or(now);
    Some((until - from).to_std().unwrap_or_default())
}

/// The error that an answer without success is. `is_repeatable` says that the request may be sent again without another
/// effect.
pub(super) fn status_error(
    service: &'static str,
    status: StatusCode,
    retry_after: Option<Duration>,
    body: &[u8],
    is_repeatable: bool,
    secrets: &[SecretString],
) -> ConnectorError {
    #[derive(serde::Deserialize, Default)]
    #[serde(default)]
    struct KnownErrors {
        errcode: Option<String>,
        error: Option<serde_json::Value>,
        retry_after_ms: Option<u64>,
    }
    let known: KnownErrors = serde_json::from_slice(body).unwrap_or_default();
    let kind = match status.as_u16() {
        401 | 403 if known.errcode.as_deref() != Some("M_FORBIDDEN") => ErrorKind::Unauthorised,
        // 501 and 503 say that nothing was done. A proxy gives up (502, 504) while the tool behind it goes on, and a tool
        // can crash (500) after it has stored.
        500 | 502 | 504..=599 if !is_repeatable => ErrorKind::Ambiguous,
        408 | 425 | 429 | 500..=599 => ErrorKind::Transient,
        300..=399 => ErrorKind::Misconfigured,
        _ => ErrorKind::Permanent,
    };
    let code = known.errcode.as_deref().or_else(|| known.error.as_ref().and_then(|error| error.as_str()));
    let code = code.map(|code| clean(code, secrets));
    let asked = known.retry_after_ms.map(Duration::from_millis);
    let message = code
        .as_ref()
        .map_or_else(|| format!("answered {status}"), |code| format!("answered {status} ({code})"));
    ConnectorError {
        kind,
        service,
        status: Some(status.as_u16()),
        code,
        retry_after: retry_after.max(asked),
        message,
        source: None,
    }
}

/// What a server says, in one line, without our secrets: some servers repeat what they refuse.
fn clean(text: &str, secrets: &[SecretString]) -> String {
    let mut text = text.to_owned();
    for secret in secrets {
        let secret = secret.expose_secret();
        if secret.len() >= SHORTEST_SECRET {
            text = text.replace(secret, "[redacted]");
        }
    }
    text.chars().filter(|character| !character.is_control()).take(LONGEST_CODE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(header::HeaderName, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    fn now() -> DateTime<Utc> {
        "1994-11-06T08:49:07Z".parse().unwrap()
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_in_the_three_forms_of_a_date() {
        for value in [
            "30",
            " 30 ",
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            let wait = retry_after(&headers(&[(header::RETRY_AFTER, value)]), now());
            assert_eq!(wait, Some(Duration::from_secs(30)), "{value}");
        }
        for value in ["", "-1", "soon", "1.5", "99999999999999999999"] {
            assert_eq!(retry_after(&headers(&[(header::RETRY_AFTER, value)]), now()), None, "{value}");
        }
    }

    #[test]
    fn a_date_counts_from_the_servers_own_and_one_that_has_passed_is_no_wait() {
        let date = [
            (header::RETRY_AFTER, "Sun, 06 Nov 1994 09:00:10 GMT"),
            (header::DATE, "Sun, 06 Nov 1994 09:00:00 GMT"),
        ];
        assert_eq!(retry_after(&headers(&date), now()), Some(Duration::from_secs(10)));
        let passed = [(header::RETRY_AFTER, "Sun, 06 Nov 1994 08:00:00 GMT")];
        assert_eq!(retry_after(&headers(&passed), now()), Some(Duration::ZERO));
    }

    #[test]
    fn a_status_says_what_can_be_done_about_it() {
        let kind = |status: u16, body: &str, is_repeatable| {
            let status = StatusCode::from_u16(status).unwrap();
            status_error("tool", status, None, body.as_bytes(), is_repeatable, &[]).kind
        };
        for (status, repeatable, other) in [
            (302, ErrorKind::Misconfigured, ErrorKind::Misconfigured),
            (400, ErrorKind::Permanent, ErrorKind::Permanent),
            (401, ErrorKind::Unauthorised, ErrorKind::Unauthorised),
            (404, ErrorKind::Permanent, ErrorKind::Permanent),
            (429, ErrorKind::Transient, ErrorKind::Transient),
            (500, ErrorKind::Transient, ErrorKind::Ambiguous),
            (502, ErrorKind::Transient, ErrorKind::Ambiguous),
            (503, ErrorKind::Transient, ErrorKind::Transient),
            (504, ErrorKind::Transient, ErrorKind::Ambiguous),
        ] {
            assert_eq!((kind(status, "", true), kind(status, "", false)), (repeatable, other), "{status}");
        }
        assert_eq!(kind(403, r#"{"errcode":"M_FORBIDDEN"}"#, true), ErrorKind::Permanent);
    }

    #[test]
    fn what_a_server_says_is_cut_to_a_line_without_our_secrets() {
        let secret = SecretString::from("hunter22");
        let body = serde_json::json!({"error": format!("no\n hunter22 {}", "x".repeat(1_000))}).to_string();
        let status = StatusCode::BAD_REQUEST;
        let error = status_error("tool", status, None, body.as_bytes(), true, &[secret]);
        assert!(error.message.starts_with("answered 400 Bad Request (no [redacted] xxx"), "{error}");
        assert!(error.code.unwrap().len() <= 200);
    }
}
