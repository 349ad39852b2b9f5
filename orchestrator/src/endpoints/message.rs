//! What an endpoint gets, and sending it.

use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use connector_core::egress::EgressClient;
use connector_webhooks::standard::{self, SigningKey};
use serde::Serialize;
use serde_json::{Value, json};
use url::Url;

use super::model::Outcome;

/// The body, as Standard Webhooks recommends it. Its data say which thing it is about and no more: what the thing is, one asks
/// the API with rights of one's own.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    event_type: &'a str,
    timestamp: DateTime<Utc>,
    data: Value,
}

/// The body of an event that happened `at`, of which these are the data in the tenant's log.
pub(super) fn body(event_type: &str, at: DateTime<Utc>, logged: &Value) -> String {
    let data = json!({ "id": logged["id"], "tenantId": logged["tenantId"] });
    serde_json::to_string(&Body { event_type, timestamp: at, data }).unwrap_or_default()
}

/// What is sent.
#[derive(Debug)]
pub(super) struct Message {
    pub id: String,
    pub body: String,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Sent {
    pub outcome: Outcome,
    pub status: Option<StatusCode>,
    /// How long the endpoint asks to be left alone.
    pub retry_after: Option<Duration>,
    pub took: Duration,
}

/// Sends a message, signed with all keys as of `now`.
pub(super) async fn send(
    client: &EgressClient,
    url: &Url,
    keys: &[SigningKey],
    message: &Message,
    now: DateTime<Utc>,
) -> Sent {
    let begun = Instant::now();
    let sent = |outcome, status, retry_after| Sent { outcome, status, retry_after, took: begun.elapsed() };
    let Ok(signed) = standard::sign(keys, &message.id, now, message.body.as_bytes()) else {
        return sent(Outcome::Refused, None, None);
    };
    let mut headers: HeaderMap = signed.into_iter().collect();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(
        header::USER_AGENT,
        HeaderValue::from_static(concat!("Chancery/", env!("CARGO_PKG_VERSION"))),
    );
    match client.post(url, headers, Bytes::from(message.body.clone())).await {
        Ok(answer) => {
            let asks =
                [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&answer.status);
            let retry_after = asks.then(|| retry_after(&answer.headers, now)).flatten();
            sent(Outcome::of_status(answer.status), Some(answer.status), retry_after)
        }
        Err(error) => {
            // The address is the tenant's business.
            tracing::debug!(%error, "a webhook could not be delivered");
            sent(Outcome::of_error(&error), None, None)
        }
    }
}

/// `Retry-After` in either form (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = DateTime::parse_from_rfc2822(text).ok()?;
    (at.with_timezone(&Utc) - now).to_std().ok()
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone as _;

    use super::*;

    fn now() -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2026, 3, 2, 9, 0, 0).unwrap()
    }

    #[test]
    fn a_body_says_what_happened_when_and_to_what() {
        let logged = json!({ "type": "approval.created", "id": "1", "tenantId": "2", "subject": "x" });
        assert_eq!(
            body("approval.created", now(), &logged),
            r#"{"type":"approval.created","timestamp":"2026-03-02T09:00:00Z","data":{"id":"1","tenantId":"2"}}"#
        );
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let read = |text: &'static str| {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static(text))]);
            retry_after(&headers, now()).map(|wait| wait.as_secs())
        };
        assert_eq!(read("120"), Some(120));
        assert_eq!(read("Mon, 02 Mar 2026 09:01:30 GMT"), Some(90));
        for nothing in ["", "-1", "soon", "Mon, 02 Mar 2026 08:00:00 GMT"] {
            assert_eq!(read(nothing), None, "{nothing}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now()), None);
    }
}
