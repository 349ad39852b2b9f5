//! Chatwoot's events: verified by signature.

use axum::http::HeaderMap;
use chrono::{DateTime, Utc};
use connector_chatwoot::webhook::{self, Event, ParseError, VerifyError};

use super::{model::Identified, store};
use crate::sources::{Purpose, Source};

pub(super) const SERVICE: &str = "chatwoot";

/// Why a delivery isn't accepted.
pub(super) enum Refused {
    Signature(VerifyError),
    Unreadable(ParseError),
}

/// Verifies a delivery and says what is to be stored of it.
pub(super) fn accept(
    source: &Source,
    headers: &HeaderMap,
    body: &[u8],
    now: DateTime<Utc>,
) -> Result<Identified, Refused> {
    let verified = webhook::verify(&source.secrets(Purpose::Signature, now), headers, body, now)
        .map_err(Refused::Signature)?;
    let event = webhook::parse(body).map_err(Refused::Unreadable)?;
    Ok(identified(source, &event, body, verified.delivery_id))
}

/// What makes an event the same. The delivery's id isn't signed, so that a replayer could change it: what the event is about does.
pub(super) fn key(event: &Event, body: &[u8]) -> [u8; 32] {
    match webhook::content_key(event) {
        Some(key) => store::key_hash(&[b"content", key.as_bytes()]),
        None => store::key_hash(&[b"body", body]),
    }
}

/// What is to be stored of an event.
pub(super) fn identified(
    source: &Source,
    event: &Event,
    body: &[u8],
    delivery_id: Option<String>,
) -> Identified {
    Identified {
        tenant: Some(source.tenant_of(event.inbox_id())),
        event_type: store::storable(&event.name.to_string(), 100),
        subject: webhook::subject(event),
        delivery_id: delivery_id.map(|id| store::storable(&id, 200)),
        key_hash: key(event, body),
        occurred_at: event.occurred_at,
        source_uri: None,
    }
}
