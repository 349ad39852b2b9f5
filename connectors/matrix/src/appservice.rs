//! What the homeserver pushes to us (Application Service API): who may push, what a push holds, what we answer.
//!
//! Answer fast and never with a 5xx for an event that can't be used: the homeserver has one transaction in flight, and
//! repeats that one until it is taken. So [`Transaction::parse`] sets unreadable events aside.

use http::{HeaderMap, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use subtle::ConstantTimeEq as _;

use crate::{EventId, RoomId, UserId};

/// The caller isn't the homeserver. Answer [`ErrorBody::forbidden`] with 403.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefused {
    /// No `Authorization: Bearer …`, or several.
    #[error("no bearer token")]
    Missing,
    /// Another token than ours.
    #[error("a wrong bearer token")]
    Wrong,
}

/// Checks that the request carries one of `hs_tokens` (several while they are rotated), in constant time.
///
/// # Errors
/// Where it carries none, several headers, or another.
pub fn verify(headers: &HeaderMap, hs_tokens: &[SecretString]) -> Result<(), TokenRefused> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(TokenRefused::Missing) };
    let value = value.as_bytes();
    // The scheme's name is case-insensitive (RFC 9110, section 11.1).
    let token = match value.split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"Bearer ") && !token.is_empty() => token,
        _ => return Err(TokenRefused::Missing),
    };
    let mut known = subtle::Choice::from(0);
    for hs_token in hs_tokens {
        let hs_token = hs_token.expose_secret().as_bytes();
        // A token that was left empty in the settings is nobody's.
        if !hs_token.is_empty() {
            known |= hs_token.ct_eq(token);
        }
    }
    if known.into() { Ok(()) } else { Err(TokenRefused::Wrong) }
}

/// An event in the form in which clients and application services get it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClientEvent {
    /// What it is: `m.room.message`, `m.room.member`, …
    #[serde(rename = "type")]
    pub event_type: String,
    /// The event.
    pub event_id: EventId,
    /// The room.
    pub room_id: RoomId,
    /// Who sent it. Our own bot's events come back too.
    pub sender: UserId,
    /// When, by the sender's homeserver: milliseconds since 1970.
    pub origin_server_ts: i64,
    /// The content; an empty object where it was redacted.
    pub content: Value,
    /// Present on state events only, and then often empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_key: Option<String>,
    /// What the homeserver adds: `age`, `prev_content`, `transaction_id`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub unsigned: Map<String, Value>,
}

impl ClientEvent {
    /// Whether it sets state.
    pub fn is_state(&self) -> bool {
        self.state_key.is_some()
    }

    /// The plain text of a message.
    pub fn body(&self) -> Option<&str> {
        self.content.get("body").and_then(Value::as_str)
    }
}

/// One push. Its id stands in the path: the same id is the same transaction, to be processed once.
#[derive(Debug, Clone, PartialEq)]
pub struct Transaction {
    /// The events that can be read, in their order.
    pub events: Vec<ClientEvent>,
    /// The events that can't: keep them for an operator, and take the transaction all the same.
    pub unreadable: Vec<Value>,
    /// Typing, receipts, presence: pushed only where the registration asks for it.
    pub ephemeral: Vec<Value>,
}

/// A body that is no transaction. Answer 400 with [`ErrorBody::bad_json`].
#[derive(Debug, thiserror::Error)]
pub enum InvalidTransaction {
    /// Not JSON, or not of the shape of a transaction.
    #[error("the body is not a transaction")]
    Json(#[source] serde_json::Error),
}

impl Transaction {
    /// Reads the body of `PUT /_matrix/app/v1/transactions/{txnId}`.
    ///
    /// # Errors
    /// Where it isn't an object with `events`.
    pub fn parse(body: &[u8]) -> Result<Self, InvalidTransaction> {
        #[derive(Deserialize)]
        struct Body {
            events: Vec<Value>,
            #[serde(default, alias = "de.sorunome.msc2409.ephemeral")]
            ephemeral: Vec<Value>,
        }
        let body: Body = serde_json::from_slice(body).map_err(InvalidTransaction::Json)?;
        let (mut events, mut unreadable) = (Vec::with_capacity(body.events.len()), Vec::new());
        for event in body.events {
            match ClientEvent::deserialize(&event) {
                Ok(event) => events.push(event),
                Err(_) => unreadable.push(event),
            }
        }
        Ok(Self { events, unreadable, ephemeral: body.ephemeral })
    }
}

/// The body of `POST /_matrix/app/v1/ping`, which is answered with 200 and `{}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ping {
    /// What the one who asked for the ping gave along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction_id: Option<String>,
}

/// The body of an answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// `M_…`.
    pub errcode: String,
    /// For people.
    pub error: String,
}

impl ErrorBody {
    /// The body with this code and text.
    pub fn new(errcode: &str, error: &str) -> Self {
        Self { errcode: errcode.to_owned(), error: error.to_owned() }
    }

    /// For a request without the right token.
    pub fn forbidden() -> (StatusCode, Self) {
        (StatusCode::FORBIDDEN, Self::new("M_FORBIDDEN", "Bad token supplied."))
    }

    /// For a user or an alias that we don't make when asked.
    pub fn not_found() -> (StatusCode, Self) {
        (StatusCode::NOT_FOUND, Self::new("M_NOT_FOUND", "There is no such thing here."))
    }

    /// For a path (404) or a method (405) that we don't have.
    pub fn unrecognized(status: StatusCode) -> (StatusCode, Self) {
        (status, Self::new("M_UNRECOGNIZED", "Unrecognized request."))
    }

    /// For a homeserver that sends too much; `Retry-After` says when to come back, and the same transaction comes again.
    pub fn limit_exceeded() -> (StatusCode, Self) {
        (StatusCode::TOO_MANY_REQUESTS, Self::new("M_LIMIT_EXCEEDED", "Too many requests."))
    }

    /// For a body that is no transaction.
    pub fn bad_json() -> (StatusCode, Self) {
        (StatusCode::BAD_REQUEST, Self::new("M_BAD_JSON", "The body is not a transaction."))
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use serde_json::json;

    use super::*;

    fn headers(values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn either_token_is_taken_while_they_are_rotated_and_no_other() {
        let tokens: [SecretString; 2] = ["old-token".to_owned().into(), "new-token".to_owned().into()];
        assert_eq!(verify(&headers(&["Bearer old-token"]), &tokens), Ok(()));
        assert_eq!(verify(&headers(&["bearer new-token"]), &tokens), Ok(()));
        for (values, refused) in [
            (&["Bearer another"][..], TokenRefused::Wrong),
            (&["Bearer old-token "], TokenRefused::Wrong),
            (&["Bearer old-toke"], TokenRefused::Wrong),
            (&["Bearer "], TokenRefused::Missing),
            (&["old-token"], TokenRefused::Missing),
            (&["Basic old-token"], TokenRefused::Missing),
            (&["Bearer old-token", "Bearer old-token"], TokenRefused::Missing),
            (&[], TokenRefused::Missing),
        ] {
            assert_eq!(verify(&headers(values), &tokens), Err(refused), "{values:?}");
        }
        assert_eq!(verify(&headers(&["Bearer old-token"]), &[]), Err(TokenRefused::Wrong));
        assert_eq!(verify(&headers(&["Bearer "]), &[String::new().into()]), Err(TokenRefused::Missing));
    }

    #[test]
    fn one_unreadable_event_doesn_t_hold_up_the_others() {
        let event = |body: &str| {
            json!({"type": "m.room.message", "event_id": "$a", "room_id": "!r:h", "sender": "@u:h",
                   "origin_server_ts": 1, "content": {"msgtype": "m.text", "body": body}, "unsigned": {"age": 3}})
        };
        let broken = json!({"type": "m.room.message", "event_id": 7});
        let body = json!({"events": [event("one"), broken, event("two")], "ephemeral": [{"type": "m.typing"}],
                          "org.example.unknown": {}});
        let transaction = Transaction::parse(body.to_string().as_bytes()).unwrap();
        let bodies: Vec<_> = transaction.events.iter().filter_map(ClientEvent::body).collect();
        assert_eq!(bodies, ["one", "two"]);
        assert_eq!(transaction.unreadable, [broken]);
        assert_eq!(transaction.ephemeral.len(), 1);
        assert!(!transaction.events[0].is_state());
    }

    #[test]
    fn a_state_event_is_known_by_its_key_even_an_empty_one() {
        let body = json!({"events": [{"type": "m.room.name", "event_id": "$a", "room_id": "!hash", "sender": "@u:h",
                          "origin_server_ts": 1, "content": {}, "state_key": ""}]});
        let transaction = Transaction::parse(body.to_string().as_bytes()).unwrap();
        assert!(transaction.events[0].is_state());
        assert!(transaction.ephemeral.is_empty());
    }

    #[test]
    fn what_has_no_events_is_no_transaction() {
        for body in ["", "[]", "{}", r#"{"events": 1}"#, "not json"] {
            assert!(Transaction::parse(body.as_bytes()).is_err(), "{body}");
        }
    }
}
