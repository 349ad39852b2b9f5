//! What the fuzz targets (fuzz/) do with an input: feed what reads webhooks, and panic where something is not as it must be.
//! The corpus is replayed by this crate's test, and `cargo xtask fuzz` looks for more.
//!
//! An input is written like a request: lines `name: value`, an empty line, the body. Those of `hmac` begin with a line of
//! settings.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a panic is what a fuzzer looks for"
)]

use bytes::Bytes;
use chrono::{DateTime, Utc};
use connector_chatwoot::webhook;
use connector_matrix::appservice;
use connector_webhooks::{Outcome, Refused, RequestParts, Scheme, hmac::Hmac, presets, standard};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use secrecy::SecretString;
use serde_json::Value;

/// What is done with an input.
pub type Target = fn(&[u8]);

/// All targets by their names.
pub const TARGETS: [(&str, Target); 6] = [
    ("chatwoot", chatwoot),
    ("cloudevents", cloudevents),
    ("hmac", hmac),
    ("matrix", matrix),
    ("presets", each_preset),
    ("standard", standard_webhooks),
];

/// The secret that inputs may show.
pub const SECRET: &str = "whsec_dGhlIGtleSBvZiBub2JvZHkgaW4gcGFydGljdWxhcg==";
const NOW: i64 = 1_767_323_045;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(NOW, 0).unwrap()
}

fn secret() -> SecretString {
    SecretString::from(SECRET.to_owned())
}

/// The request that an input is written as; a line that is no header is passed over.
fn request(input: &[u8]) -> (HeaderMap, Bytes) {
    let mut headers = HeaderMap::new();
    let mut rest = input;
    loop {
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let (line, after) = (&rest[..end], rest.get(end + 1..).unwrap_or_default());
        if line.is_empty() {
            return (headers, Bytes::copy_from_slice(after));
        }
        if let Some(colon) = line.windows(2).position(|pair| pair == b": ")
            && let (Ok(name), Ok(value)) =
                (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(&line[colon + 2..]))
        {
            headers.append(name, value);
        }
        rest = after;
    }
}

fn verify(scheme: &Scheme, headers: &HeaderMap, body: &Bytes) -> Result<Outcome, Refused> {
    let query = headers.get("x-query").and_then(|value| value.to_str().ok());
    let parts = RequestParts { method: &Method::POST, headers, query };
    let outcome = scheme.verify(&[secret()], &parts, body, now());
    if matches!(scheme.resolved(), Scheme::Hmac(_) | Scheme::StandardWebhooks { .. }) {
        // Who knows another secret has signed nothing.
        let stranger =
            SecretString::from("whsec_dGhlIGtleSBvZiBzb21lYm9keSBlbHNlLCB3aG8ga25vd3M=".to_owned());
        let unproven = scheme.verify(&[stranger], &parts, body, now());
        assert!(matches!(unproven, Err(Refused::Unproven(_))), "{unproven:?}");
    }
    if let Ok(Outcome::Deliveries(deliveries)) = &outcome {
        for delivery in deliveries {
            assert!(!delivery.event_type.is_empty());
            assert_eq!(delivery.key.hash(body), delivery.key.hash(body));
        }
    }
    assert!(!scheme.keepable(headers).contains_key(http::header::AUTHORIZATION));
    outcome
}

/// Standard Webhooks: what verifies is what signing gives, and what is signed verifies.
pub fn standard_webhooks(input: &[u8]) {
    let (headers, body) = request(input);
    let key = standard::SigningKey::parse(&secret()).unwrap();
    let keys = std::slice::from_ref(&key);
    if let Ok(verified) = standard::verify(&[secret()], &headers, &body, now()) {
        let [.., (name, signature)] = standard::sign(keys, &verified.id, verified.timestamp, &body).unwrap();
        let sent = headers[&name].to_str().unwrap();
        // The padding may be left out.
        let signature = signature.to_str().unwrap().trim_end_matches('=').to_owned();
        assert!(sent.split(' ').any(|entry| entry.trim_end_matches('=') == signature), "{sent}");
    }
    let id = headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default();
    if let Ok(signed) = standard::sign(keys, id, now(), &body) {
        let signed: HeaderMap = signed.into_iter().collect();
        assert_eq!(standard::verify(&[secret()], &signed, &body, now()).unwrap().id, id);
    }
    let text = String::from_utf8_lossy(input).into_owned();
    let _ = standard::SigningKey::parse(&text.clone().into());
    let _ = standard::VerifyingKey::parse(&text.into());
    let _ = verify(&serde_json::from_str(r#"{"type":"standard-webhooks"}"#).unwrap(), &headers, &body);
}

/// The configurable HMAC, settings and all.
pub fn hmac(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let Ok(settings) = serde_json::from_slice::<Hmac>(&input[..end]) else { return };
    let written = serde_json::to_string(&settings).unwrap();
    assert_eq!(serde_json::from_str::<Hmac>(&written).unwrap(), settings);
    let scheme = Scheme::Hmac(Box::new(settings));
    if scheme.check().is_empty() {
        let (headers, body) = request(input.get(end + 1..).unwrap_or_default());
        let _ = verify(&scheme, &headers, &body);
        let query = headers.get("x-query").and_then(|value| value.to_str().ok());
        let parts = RequestParts { method: &Method::GET, headers: &headers, query };
        assert_eq!(scheme.challenge(&[], &parts), None);
        let _ = scheme.challenge(&[secret()], &parts);
    }
}

/// Each preset.
pub fn each_preset(input: &[u8]) {
    let (headers, body) = request(input);
    for (_, preset) in presets::all() {
        let _ = verify(&preset.scheme, &headers, &body);
    }
}

/// CloudEvents in all modes, shown the right secret.
pub fn cloudevents(input: &[u8]) {
    let scheme: Scheme = serde_json::from_str(r#"{"type":"cloudevents"}"#).unwrap();
    let (mut headers, body) = request(input);
    let parts = RequestParts { method: &Method::OPTIONS, headers: &headers, query: None };
    if let Some(consent) = scheme.consent(&parts, 100) {
        assert!(consent.rate.is_none_or(|rate| (1..=100).contains(&rate)));
    }
    let _ = verify(&scheme, &headers, &body);
    let bearer = HeaderValue::from_str(&format!("Bearer {SECRET}")).unwrap();
    headers.insert(http::header::AUTHORIZATION, bearer);
    headers.remove("x-query");
    if let Ok(Outcome::Deliveries(deliveries)) = verify(&scheme, &headers, &body) {
        for delivery in deliveries {
            assert!(delivery.id.is_some_and(|id| !id.value.is_empty() && id.is_proven));
            assert!(delivery.source.is_some_and(|source| !source.is_empty()));
            if let Some(part) = delivery.body {
                // A part of a batch is an event of its own.
                let mut headers = headers.clone();
                headers.insert(
                    http::header::CONTENT_TYPE,
                    HeaderValue::from_static("application/cloudevents+json"),
                );
                assert!(verify(&scheme, &headers, &part).is_ok());
            }
        }
    }
}

/// Chatwoot's events.
pub fn chatwoot(input: &[u8]) {
    let (headers, body) = request(input);
    let verified = webhook::verify(&[secret()], &headers, &body, now());
    let signature = webhook::sign(&secret(), now(), &body);
    let mut signed = HeaderMap::new();
    signed.insert(webhook::TIMESTAMP_HEADER, HeaderValue::from(NOW));
    signed.insert(webhook::SIGNATURE_HEADER, HeaderValue::from_str(&signature).unwrap());
    assert!(webhook::verify(&[secret()], &signed, &body, now()).is_ok());
    assert!(webhook::verify(&[], &headers, &body, now()).is_err() || verified.is_ok());
    let Ok(event) = webhook::parse(&body) else { return };
    assert!(!webhook::subject(&event).is_empty());
    assert_eq!(webhook::content_key(&event), webhook::content_key(&event.clone()));
    let mut value: Value = serde_json::from_slice(&body).unwrap();
    webhook::redact(&mut value);
    let once = value.clone();
    webhook::redact(&mut value);
    assert_eq!(value, once);
    assert!(!once.to_string().contains("\"pubsub_token\":"));
}

/// The homeserver's transactions.
pub fn matrix(input: &[u8]) {
    let (headers, body) = request(input);
    assert!(appservice::verify(&headers, &[]).is_err());
    let _ = appservice::verify(&headers, &[secret()]);
    if let Ok(transaction) = appservice::Transaction::parse(&body) {
        for event in &transaction.events {
            let again = serde_json::to_value(event).unwrap();
            assert_eq!(&serde_json::from_value::<appservice::ClientEvent>(again).unwrap(), event);
            let _ = (event.body(), event.is_state());
        }
    }
}
